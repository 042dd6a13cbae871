//! A head, line by line: which lines it has and what its fields say together.

use std::ops::Range;

use super::{
    super::Malformed,
    Limits,
    exchange::Asked,
    field::{Field, Framing, Known},
    section::Section,
    syntax::{begins_token, check_value, is_token},
    target::{self, Authority},
};

/// Whose head it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Request,
    Response,
}

/// A head that is being read.
#[derive(Debug)]
pub(super) struct Head {
    kind: Kind,
    section: Section,
    empty_lines: usize,
    start: Option<Start>,
    framing: Framing,
    host: Option<Range<usize>>,
    expects: bool,
    upgrade: bool,
}

/// A whole head, checked as far as it can be by itself.
pub(super) struct Whole {
    pub(super) length: usize,
    pub(super) start: Start,
    pub(super) framing: Framing,
}

/// What the first line says.
#[derive(Debug)]
pub(super) enum Start {
    Request { asked: Asked, http10: bool, authority: Option<Authority> },
    Response { status: u16, http10: bool },
}

impl Head {
    pub(super) fn new(kind: Kind) -> Self {
        Self {
            kind,
            section: Section::default(),
            empty_lines: 0,
            start: None,
            framing: Framing::default(),
            host: None,
            expects: false,
            upgrade: false,
        }
    }

    /// Reads on in `bytes`, which begin where the head begins; `None` until it is whole.
    pub(super) fn read(&mut self, bytes: &[u8], limits: &Limits) -> Result<Option<Whole>, Malformed> {
        loop {
            let at = self.section.len();
            let too_long = match (&self.start, self.kind) {
                (Some(_), _) => Malformed::FieldTooLong,
                (None, Kind::Request) => check_first(bytes.get(at))?,
                (None, Kind::Response) => Malformed::StatusLine,
            };
            let Some(line) = self.section.line(bytes, limits, too_long)? else { return Ok(None) };
            if self.start.is_none() {
                self.first(at, line, limits)?;
            } else if line.is_empty() {
                return self.whole(bytes).map(Some);
            } else {
                self.section.field(limits)?;
                self.field(at, line)?;
            }
        }
    }

    fn first(&mut self, at: usize, line: &[u8], limits: &Limits) -> Result<(), Malformed> {
        let start = match self.kind {
            Kind::Request if line.is_empty() => {
                self.empty_lines += 1;
                return if self.empty_lines > limits.empty_lines {
                    Err(Malformed::EmptyLines)
                } else {
                    Ok(())
                };
            }
            Kind::Request => request_line(at, line)?,
            Kind::Response => status_line(line)?,
        };
        self.start = Some(start);
        Ok(())
    }

    fn field(&mut self, at: usize, line: &[u8]) -> Result<(), Malformed> {
        let field = Field::read(line)?;
        let Some(known) = field.known() else { return Ok(()) };
        match known {
            Known::Host if self.kind == Kind::Request => {
                if self.host.is_some() {
                    return Err(Malformed::HostRepeated);
                }
                if !target::is_host(field.value) {
                    return Err(Malformed::HostInvalid);
                }
                // The colon and the whitespace behind it are all that stand before the value.
                let value = memchr::memchr(b':', line).map_or(0, |colon| colon + 1);
                let value =
                    at + value + line[value..].iter().take_while(|it| matches!(it, b' ' | b'\t')).count();
                self.host = Some(value..value + field.value.len());
                Ok(())
            }
            Known::Expect if self.kind == Kind::Request => {
                let allowed = field.value.eq_ignore_ascii_case(b"100-continue") && !self.expects;
                self.expects = true;
                if allowed { Ok(()) } else { Err(Malformed::Expectation) }
            }
            Known::Upgrade => {
                self.upgrade = true;
                Ok(())
            }
            known => self.framing.take(known, field.value),
        }
    }

    /// What can only be said when all fields are there.
    fn whole(&mut self, bytes: &[u8]) -> Result<Whole, Malformed> {
        let mut start = self.start.take().expect("the first line came before the empty one");
        let (Start::Request { http10, .. } | Start::Response { http10, .. }) = &start;
        if *http10 && self.framing.chunked {
            return Err(Malformed::EncodingInHttp10);
        }
        if let Start::Request { asked, http10, authority } = &mut start {
            if self.host.is_none() && !*http10 {
                return Err(Malformed::HostMissing);
            }
            if let (Some(authority), Some(host)) = (&*authority, &self.host)
                && !target::same_host(
                    &bytes[authority.at.clone()],
                    &bytes[host.clone()],
                    authority.default_port,
                )
            {
                return Err(Malformed::HostConflict);
            }
            if *asked == Asked::Connect && self.framing.has_body() {
                return Err(Malformed::BodyForbidden);
            }
            // By RFC 9110 7.8 an Upgrade of HTTP/1.0 is ignored.
            if self.upgrade && *asked != Asked::Connect && !*http10 {
                *asked = Asked::Upgrade;
            }
        }
        let framing = std::mem::take(&mut self.framing);
        Ok(Whole { length: self.section.len(), start, framing })
    }
}

/// A first byte that begins neither a method nor an empty line is refused at once: what follows may never have a line's
/// end. Returns what a line is that is too long.
fn check_first(byte: Option<&u8>) -> Result<Malformed, Malformed> {
    match byte {
        Some(b'\r') | None => Ok(Malformed::TargetTooLong),
        Some(b'\n') => Err(Malformed::BareLf),
        Some(&byte) if begins_token(byte) => Ok(Malformed::TargetTooLong),
        Some(_) => Err(Malformed::Method),
    }
}

fn request_line(at: usize, line: &[u8]) -> Result<Start, Malformed> {
    let mut parts = line.split(|byte| *byte == b' ');
    let (Some(method), Some(target), Some(version), None) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Err(if line.contains(&b'\r') { Malformed::BareCr } else { Malformed::RequestLine });
    };
    if !is_token(method) {
        return Err(if method.contains(&b'\r') { Malformed::BareCr } else { Malformed::Method });
    }
    if target.is_empty() {
        return Err(Malformed::RequestLine);
    }
    let http10 = version_10(version, Malformed::RequestLine)?;
    let mut authority = target::check(method, target)?;
    if let Some(Authority { at: range, .. }) = &mut authority {
        let target = at + method.len() + 1;
        *range = target + range.start..target + range.end;
    }
    let asked = match method {
        b"HEAD" => Asked::Head,
        b"CONNECT" => Asked::Connect,
        _ => Asked::Plain,
    };
    Ok(Start::Request { asked, http10, authority })
}

fn status_line(line: &[u8]) -> Result<Start, Malformed> {
    let Some((version, rest)) = line.split_at_checked(8) else { return Err(Malformed::StatusLine) };
    let http10 = version_10(version, Malformed::StatusLine)?;
    // Servers leave out the space before a reason that is empty, and nobody reads that in two ways.
    let (b' ', Some((digits, [] | [b' ', ..]))) =
        (rest.first().unwrap_or(&0), rest.get(1..).and_then(|it| it.split_at_checked(3)))
    else {
        return Err(Malformed::StatusLine);
    };
    let reason = rest.get(5..).unwrap_or_default();
    check_value(reason)?;
    let valid = digits.iter().all(u8::is_ascii_digit) && (b'1'..=b'9').contains(&digits[0]);
    let status = digits.iter().fold(0_u16, |sum, digit| sum * 10 + u16::from(digit.wrapping_sub(b'0')));
    if valid { Ok(Start::Response { status, http10 }) } else { Err(Malformed::StatusLine) }
}

/// Whether it is 1.0. A version of the right form that is another is `Version`, the rest `other`.
fn version_10(version: &[u8], other: Malformed) -> Result<bool, Malformed> {
    match version {
        b"HTTP/1.1" => Ok(false),
        b"HTTP/1.0" => Ok(true),
        [b'H', b'T', b'T', b'P', b'/', major, b'.', minor]
            if major.is_ascii_digit() && minor.is_ascii_digit() =>
        {
            Err(Malformed::Version)
        }
        version if version.contains(&b'\r') => Err(Malformed::BareCr),
        _ => Err(other),
    }
}
