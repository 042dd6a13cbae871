//! One field line, and the fields that say where a message ends.

use super::{
    super::Malformed,
    syntax::{check_value, decimal, is_token, trim},
};

/// A field line, checked: RFC 9112 5.
pub(super) struct Field<'a> {
    pub(super) name: &'a [u8],
    /// Without the whitespace around it.
    pub(super) value: &'a [u8],
}

/// The fields that the guard itself reads.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Known {
    Host,
    Expect,
    Upgrade,
    ContentLength,
    TransferEncoding,
    Lookalike,
}

/// What Content-Length and Transfer-Encoding say, before it is known whose message they stand in.
#[derive(Debug, Default)]
pub(super) struct Framing {
    pub(super) length: Option<u64>,
    pub(super) chunked: bool,
}

impl<'a> Field<'a> {
    pub(super) fn read(line: &'a [u8]) -> Result<Self, Malformed> {
        if let [b' ' | b'\t', ..] = line {
            return Err(Malformed::Folded);
        }
        let Some(colon) = memchr::memchr(b':', line) else { return Err(refused_name(line)) };
        let (name, value) = (&line[..colon], trim(&line[colon + 1..]));
        if !is_token(name) {
            return Err(refused_name(name));
        }
        check_value(value)?;
        Ok(Self { name, value })
    }

    pub(super) fn known(&self) -> Option<Known> {
        let is = |name: &[u8]| self.name.eq_ignore_ascii_case(name);
        match self.name.len() {
            4 if is(b"host") => Some(Known::Host),
            6 if is(b"expect") => Some(Known::Expect),
            7 if is(b"upgrade") => Some(Known::Upgrade),
            14 if is(b"content-length") => Some(Known::ContentLength),
            14 if is(b"content_length") => Some(Known::Lookalike),
            17 if is(b"transfer-encoding") => Some(Known::TransferEncoding),
            17 if is(b"transfer_encoding") => Some(Known::Lookalike),
            _ => None,
        }
    }
}

impl Framing {
    /// Takes the field in if it is about framing.
    pub(super) fn take(&mut self, known: Known, value: &[u8]) -> Result<(), Malformed> {
        match known {
            Known::Lookalike => return Err(Malformed::Lookalike),
            Known::ContentLength if self.length.is_some() => return Err(Malformed::ContentLengthRepeated),
            Known::ContentLength => self.length = Some(content_length(value)?),
            Known::TransferEncoding if self.chunked => return Err(Malformed::Encoding),
            Known::TransferEncoding => {
                check_encoding(value)?;
                self.chunked = true;
            }
            Known::Host | Known::Expect | Known::Upgrade => {}
        }
        if self.chunked && self.length.is_some() { Err(Malformed::LengthAndEncoding) } else { Ok(()) }
    }

    /// Whether a body is announced.
    pub(super) fn has_body(&self) -> bool {
        self.chunked || self.length.is_some_and(|length| length > 0)
    }
}

fn content_length(value: &[u8]) -> Result<u64, Malformed> {
    let list = value.contains(&b',');
    decimal(value).ok_or(if list { Malformed::ContentLengthRepeated } else { Malformed::ContentLength })
}

/// Exactly `chunked`. Of the rest only a clean list that ends with it, once, is merely not supported.
fn check_encoding(value: &[u8]) -> Result<(), Malformed> {
    let is_chunked = |coding: &[u8]| coding.eq_ignore_ascii_case(b"chunked");
    if is_chunked(value) {
        return Ok(());
    }
    let codings = || value.split(|byte| *byte == b',').map(trim);
    let clean = codings().all(is_token) && codings().filter(|coding| is_chunked(coding)).count() == 1;
    let ends = codings().next_back().is_some_and(is_chunked);
    Err(if clean && ends { Malformed::EncodingUnsupported } else { Malformed::Encoding })
}

/// Says what is wrong with `name`, which is no token.
fn refused_name(name: &[u8]) -> Malformed {
    match name {
        name if name.contains(&b'\r') => Malformed::BareCr,
        [start @ .., b' ' | b'\t'] if is_token(trim(start)) => Malformed::SpaceBeforeColon,
        _ => Malformed::FieldName,
    }
}
