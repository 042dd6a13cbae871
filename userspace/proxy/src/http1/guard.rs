//! The judge of one direction's raw bytes: where each message ends, and whether everybody would say so.
//!
//! ```text
//! Start ──head──► Length(n) | Chunked | UntilClose ──► Start
//!   │  whole and good                                    ▲
//!   └── CONNECT, Upgrade ──► Awaiting the answer ────────┴──► Tunnel
//! ```
//!
//! It keeps no bytes and allocates nothing for a message: lines are judged where they lie, each once.

mod chunked;
mod exchange;
mod field;
mod head;
mod section;
mod syntax;
mod target;

use chunked::Chunked;
pub use exchange::{Asked, Exchange};
use head::{Head, Kind, Start, Whole};

use super::Malformed;

/// How large a head may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of a line, CR LF included: 8 KiB. A longer request line is 414, a longer field 431.
    pub line: usize,
    /// Field lines of a head, and of trailers: 100, as many as hyper reads.
    pub fields: usize,
    /// Bytes of a head, and of trailers: 64 KiB.
    pub head: usize,
    /// Empty lines before a request: 2.
    pub empty_lines: usize,
}

/// Judges what a client sends, or what an upstream answers.
#[derive(Debug)]
pub struct Guard {
    limits: Limits,
    kind: Kind,
    state: State,
}

/// What the guard says of some bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Judged {
    /// So many of the first bytes are good.
    pub pass: usize,
    /// What is with the rest.
    pub rest: Rest,
}

/// What is with the bytes that did not pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rest {
    /// They begin something that is not whole: hand them in again with more behind them.
    More,
    /// They wait for the other direction: hand them in again when the [`Exchange`] has changed.
    Held,
    /// They never pass, and nothing after them.
    Malformed(Malformed),
}

#[derive(Debug)]
enum State {
    /// In a head, or before it.
    Head(Head),
    /// In a body of which so many bytes are to come.
    Length(u64),
    Chunked(Chunked),
    /// In a body that ends with the connection.
    UntilClose,
    /// Behind a request that may turn the connection into a tunnel.
    Awaiting,
    Tunnel,
    Broken {
        why: Malformed,
        in_body: bool,
    },
}

impl Guard {
    /// A guard of requests.
    pub fn requests(limits: Limits) -> Self {
        Self::new(limits, Kind::Request)
    }

    /// A guard of responses.
    pub fn responses(limits: Limits) -> Self {
        Self::new(limits, Kind::Response)
    }

    /// Judges `bytes`: those that did not pass last time, and what came after them.
    pub fn judge(&mut self, bytes: &[u8], exchange: &mut Exchange) -> Judged {
        let mut pass = 0;
        loop {
            match self.step(&bytes[pass..], exchange) {
                Ok(Step::Pass(more)) => pass += more,
                Ok(Step::Stop(more, rest)) => return Judged { pass: pass + more, rest },
                Err(why) => {
                    let in_body = !matches!(self.state, State::Head(_));
                    self.state = State::Broken { why, in_body };
                    return Judged { pass, rest: Rest::Malformed(why) };
                }
            }
        }
    }

    /// Whether a body is malformed. Then its head has passed, and its request waits for an answer.
    pub(super) fn is_broken_in_body(&self) -> bool {
        matches!(self.state, State::Broken { in_body: true, .. })
    }

    /// Whether the next byte is a message's first, where all that was judged has passed.
    pub(super) fn is_between_messages(&self) -> bool {
        matches!(self.state, State::Head(_))
    }

    fn new(limits: Limits, kind: Kind) -> Self {
        Self { limits, kind, state: State::Head(Head::new(kind)) }
    }

    fn step(&mut self, bytes: &[u8], exchange: &mut Exchange) -> Result<Step, Malformed> {
        match &mut self.state {
            State::Broken { why, .. } => Ok(Step::Stop(0, Rest::Malformed(*why))),
            _ if exchange.is_tunnel() => {
                self.state = State::Tunnel;
                Ok(Step::all(bytes))
            }
            State::UntilClose | State::Tunnel => Ok(Step::all(bytes)),
            State::Awaiting if exchange.unanswered() > 0 => Ok(Step::Stop(0, Rest::Held)),
            State::Awaiting => Ok(self.next_message(0)),
            _ if bytes.is_empty() => Ok(Step::all(bytes)),
            State::Head(_) if self.kind == Kind::Request && exchange.is_full() => {
                Ok(Step::Stop(0, Rest::Held))
            }
            State::Head(_) if self.kind == Kind::Response && exchange.unanswered() == 0 => {
                Err(Malformed::OutOfTurn)
            }
            State::Head(head) => match head.read(bytes, &self.limits)? {
                None => Ok(Step::Stop(0, Rest::More)),
                Some(whole) => self.behind_head(whole, exchange),
            },
            State::Length(left) => {
                let here = usize::try_from(*left).map_or(bytes.len(), |left| left.min(bytes.len()));
                *left -= here as u64;
                Ok(if *left == 0 { self.end(here, exchange) } else { Step::Pass(here) })
            }
            State::Chunked(chunked) => match chunked.read(bytes, &self.limits)? {
                None => Ok(Step::Stop(0, Rest::More)),
                Some(read) if matches!(chunked, Chunked::Done) => Ok(self.end(read, exchange)),
                Some(read) => Ok(Step::Pass(read)),
            },
        }
    }

    fn behind_head(&mut self, whole: Whole, exchange: &mut Exchange) -> Result<Step, Malformed> {
        let Whole { length, start, framing } = whole;
        let has_body = framing.has_body();
        let mut until_close = false;
        match start {
            Start::Request { asked, .. } => exchange.ask(asked),
            Start::Response { status, .. } => {
                let asked = exchange.next().ok_or(Malformed::OutOfTurn)?;
                match (status, asked) {
                    (101, Asked::Upgrade) | (200..=299, Asked::Connect) if !has_body => {
                        exchange.open_tunnel();
                        return Ok(Step::Pass(length));
                    }
                    (101, Asked::Plain | Asked::Head | Asked::Connect) => return Err(Malformed::OutOfTurn),
                    (100..=199 | 204, _) | (200..=299, Asked::Connect) if has_body => {
                        return Err(Malformed::BodyForbidden);
                    }
                    // Before the answer proper.
                    (100..=199, _) => return Ok(self.next_message(length)),
                    (204 | 304, _) | (_, Asked::Head) => return Ok(self.end(length, exchange)),
                    _ => until_close = !framing.chunked && framing.length.is_none(),
                }
            }
        }
        self.state = match framing.length {
            _ if framing.chunked => State::Chunked(Chunked::Size),
            _ if until_close => State::UntilClose,
            Some(length) if length > 0 => State::Length(length),
            _ => return Ok(self.end(length, exchange)),
        };
        Ok(Step::Pass(length))
    }

    /// Behind a message, whose last `pass` bytes are good.
    fn end(&mut self, pass: usize, exchange: &mut Exchange) -> Step {
        if self.kind == Kind::Response {
            exchange.answered();
        } else if exchange.may_become_tunnel() {
            self.state = State::Awaiting;
            return Step::Pass(pass);
        }
        self.next_message(pass)
    }

    fn next_message(&mut self, pass: usize) -> Step {
        self.state = State::Head(Head::new(self.kind));
        Step::Pass(pass)
    }
}

enum Step {
    /// These are good; on with the rest.
    Pass(usize),
    /// These are good, and the rest is as it says.
    Stop(usize, Rest),
}

impl Step {
    fn all(bytes: &[u8]) -> Self {
        Self::Stop(bytes.len(), Rest::More)
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self { line: 8 << 10, fields: 100, head: 64 << 10, empty_lines: 2 }
    }
}

#[cfg(test)]
mod tests;
