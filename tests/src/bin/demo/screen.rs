//! What the reader sees. In colour on a terminal, unless `NO_COLOR` is set.

use std::fmt::Display;
use std::io::{self, IsTerminal as _, Write as _};
use std::time::Duration;

use anstyle::{AnsiColor, Style};

use crate::end;

/// The first line.
pub(crate) fn title(title: &str, subtitle: &str) {
    line(format_args!("\n{HEADING}{title}{HEADING:#}  {DIM}{subtitle}{DIM:#}"));
}

/// Where a chapter begins.
pub(crate) fn chapter(number: u32, title: &str) {
    line(format_args!("\n{HEADING}{number} {title}{HEADING:#}"));
}

/// A line of prose or of a picture.
pub(crate) fn say(text: impl Display) {
    line(format_args!("  {text}"));
}

/// A command, as it would be typed.
pub(crate) fn command(command: impl Display) {
    line(format_args!("  {DIM}${DIM:#} {BOLD}{command}{BOLD:#}"));
}

/// A command, as it would be typed, and where.
pub(crate) fn command_in(command: impl Display, place: &str) {
    let command = command.to_string();
    line(format_args!("  {DIM}${DIM:#} {BOLD}{command:PLACES$}{BOLD:#} {DIM}# {place}{DIM:#}"));
}

/// What a command printed.
pub(crate) fn output(text: &str) {
    for text in text.trim_end().lines() {
        line(format_args!("    {}", paint(text)));
    }
}

/// A file that is put in force: its lines without the comment at its head.
pub(crate) fn manifest(file: &str, yaml: &str) {
    line(format_args!("  {DIM}── {file}{DIM:#}"));
    for text in yaml.lines().filter(|line| !line.starts_with('#')) {
        line(format_args!("  {DIM}│{DIM:#} {text}"));
    }
}

/// A line that is taken out of a file.
pub(crate) fn removed(file: &str, text: &str) {
    line(format_args!("  {DIM}── {file}{DIM:#}"));
    line(format_args!("  {RED}-{text}{RED:#}"));
}

/// Something that was checked.
pub(crate) fn fact(text: impl Display) {
    line(format_args!("  {GREEN}✓{GREEN:#} {text}"));
}

/// Something that was checked, and how long it took.
pub(crate) fn timed(text: &str, took: Duration) {
    let room = FIGURES.saturating_sub(text.chars().count());
    line(format_args!("  {GREEN}✓{GREEN:#} {text}{:room$} {BOLD}{:>8}{BOLD:#}", "", span(took)));
}

/// A share of a whole, as a bar.
fn bar(name: &str, count: u32, of: u32) {
    let cells = ((count * BAR + of / 2) / of) as usize;
    let (full, rest) = ("█".repeat(cells), "░".repeat(BAR as usize - cells));
    let percent = 100.0 * f64::from(count) / f64::from(of);
    line(format_args!("    {name:8} {CYAN}{full}{CYAN:#}{DIM}{rest}{DIM:#} {count:>5}  {percent:>4.1} %"));
}

/// Bars of shares that are not yet what they will be: on a terminal, where the next ones take their place.
pub(crate) fn bars_so_far<const N: usize>(names: [&str; N], counts: [u32; N], of: u32) {
    if of > 0 && io::stdout().is_terminal() {
        bars(names, counts, of);
        put(&format!("\x1b[{N}A"));
    }
}

/// Several bars of one whole.
pub(crate) fn bars<const N: usize>(names: [&str; N], counts: [u32; N], of: u32) {
    for (name, count) in names.into_iter().zip(counts) {
        bar(name, count, of);
    }
}

/// The last line of a story that did not end well.
pub(crate) fn error(text: &str) {
    // There is no other place to say that standard error is closed.
    let _ = writeln!(anstream::stderr(), "{RED}{text}{RED:#}");
}
/// `840 µs`, `9.3 ms`, `1.24 s`.
pub(crate) fn span(time: Duration) -> String {
    match time.as_micros() {
        micros @ 0..1_000 => format!("{micros} µs"),
        1_000..1_000_000 => format!("{:.1} ms", time.as_secs_f64() * 1e3),
        _ => format!("{:.2} s", time.as_secs_f64()),
    }
}

/// `1 234 567`.
pub(crate) fn grouped(count: usize) -> String {
    let digits = count.to_string();
    let groups: Vec<&[u8]> = digits.as_bytes().rchunks(3).rev().collect();
    let groups = groups.into_iter().map(|group| String::from_utf8_lossy(group).into_owned());
    groups.collect::<Vec<_>>().join(" ")
}

/// An error in the kernel's words alone: `Permission denied`.
pub(crate) fn said(error: &io::Error) -> String {
    let text = error.to_string();
    text.split(" (os error").next().unwrap_or(&text).to_owned()
}

/// `text` dimmed.
pub(crate) fn dim(text: impl Display) -> String {
    format!("{DIM}{text}{DIM:#}")
}

fn paint(text: &str) -> String {
    let painted = text.replace("DENIED", &format!("{RED}DENIED{RED:#}"));
    painted.replace("FORWARDED", &format!("{GREEN}FORWARDED{GREEN:#}"))
}

fn line(text: impl Display) {
    end::stand_still_when_interrupted();
    put(&format!("{}\n", text.to_string().trim_end()));
}

fn put(text: &str) {
    let mut stdout = anstream::stdout();
    let written = stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush());
    written.expect("standard output can be written");
}

const BOLD: Style = Style::new().bold();
const DIM: Style = Style::new().dimmed();
const HEADING: Style = AnsiColor::Cyan.on_default().bold();
const CYAN: Style = AnsiColor::Cyan.on_default();
const GREEN: Style = AnsiColor::Green.on_default();
const RED: Style = AnsiColor::Red.on_default();
/// The column of figures.
const FIGURES: usize = 82;
/// The column of places.
const PLACES: usize = 44;
/// Cells of a bar.
const BAR: u32 = 50;
