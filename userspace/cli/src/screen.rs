//! Where answers go: a terminal, a pipe, a test.

use std::{
    fmt,
    io::{self, IsTerminal, Write},
};

use anstyle::{AnsiColor, Style};
use jiff::tz::TimeZone;

/// Where answers go.
pub struct Screen {
    out: Box<dyn Write + Send>,
    err: Box<dyn Write + Send>,
    width: Option<u16>,
    colour: bool,
    zone: TimeZone,
}

impl Screen {
    /// Standard output: in colour and within its width if it is a terminal (`NO_COLOR` is honoured).
    pub fn standard() -> Self {
        let out = io::stdout();
        let width = out.is_terminal().then(terminal_size::terminal_size).flatten();
        let colour = anstream::AutoStream::choice(&out) != anstream::ColorChoice::Never;
        Self {
            out: Box::new(out),
            err: Box::new(io::stderr()),
            width: width.map(|(terminal_size::Width(columns), _)| columns),
            colour,
            zone: TimeZone::system(),
        }
    }

    /// Anywhere else, with times in UTC. No `width` is no limit.
    pub fn new(
        out: impl Write + Send + 'static,
        err: impl Write + Send + 'static,
        width: Option<u16>,
        colour: bool,
    ) -> Self {
        Self { out: Box::new(out), err: Box::new(err), width, colour, zone: TimeZone::UTC }
    }

    /// Columns that a line may have; `None` is no limit.
    pub(crate) fn width(&self) -> Option<u16> {
        self.width
    }

    /// The time zone of its reader.
    pub(crate) fn zone(&self) -> &TimeZone {
        &self.zone
    }

    /// Writes `text`, and paints the words that say how something stands.
    pub(crate) fn write(&mut self, text: &str) -> io::Result<()> {
        if self.colour {
            self.out.write_all(paint(text).as_bytes())?;
        } else {
            self.out.write_all(text.as_bytes())?;
        }
        self.out.flush()
    }

    /// Writes a line beside the answer.
    pub(crate) fn note(&mut self, text: &str) -> io::Result<()> {
        writeln!(self.err, "{text}")
    }
}

impl fmt::Debug for Screen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Screen")
            .field("width", &self.width)
            .field("colour", &self.colour)
            .finish_non_exhaustive()
    }
}

fn paint(text: &str) -> String {
    let words = text.split_inclusive(|c: char| c.is_whitespace());
    let painted = words.map(|piece| {
        let word = piece.trim_end();
        match colour(word) {
            Some(colour) => {
                let style = Style::new().fg_color(Some(colour.into()));
                format!("{style}{word}{style:#}{}", &piece[word.len()..])
            }
            None => piece.to_owned(),
        }
    });
    painted.collect()
}

/// The words of closed lists only, so that no name is taken for one.
fn colour(word: &str) -> Option<AnsiColor> {
    match word {
        "FORWARDED" | "Enforced" | "attached" | "Active" => Some(AnsiColor::Green),
        "AUDIT" | "Waiting" | "NotReady" | "Terminating" | "warning:" | "warn" => Some(AnsiColor::Yellow),
        "DENIED" | "Gone" | "Failing" | "error:" | "FAIL" => Some(AnsiColor::Red),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::paint;

    #[test]
    fn only_words_that_say_how_something_stands_are_painted() {
        let text = "shop/denied-1  DENIED\nDENIEDx\n";
        assert_eq!(paint(text), "shop/denied-1  \u{1b}[31mDENIED\u{1b}[0m\nDENIEDx\n");
    }
}
