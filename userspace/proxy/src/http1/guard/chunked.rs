//! The framing of a chunked body: RFC 9112 7.1.

use super::{
    super::Malformed,
    Limits,
    field::Field,
    section::Section,
    syntax::{LONGEST, is_token},
};

/// Where in a chunked body the next byte stands.
#[derive(Debug)]
pub(super) enum Chunked {
    /// At the line of a chunk's size.
    Size,
    /// In data, of which so much is to come.
    Data(u64),
    /// At the CR LF behind data.
    End,
    /// Behind the last chunk.
    Trailers(Section),
    /// Behind the body.
    Done,
}

impl Chunked {
    /// Reads one part of the framing in `bytes`, or some of the data. Returns how many of them are judged; `None` if
    /// they end inside a part, which is handed in again.
    pub(super) fn read(&mut self, bytes: &[u8], limits: &Limits) -> Result<Option<usize>, Malformed> {
        let (next, length) = match self {
            Self::Size => match size_line(bytes)? {
                None => return Ok(None),
                Some((0, length)) => (Self::Trailers(Section::default()), length),
                Some((size, length)) => (Self::Data(size), length),
            },
            Self::Data(left) => {
                let here = usize::try_from(*left).map_or(bytes.len(), |left| left.min(bytes.len()));
                match *left - here as u64 {
                    0 => (Self::End, here),
                    left => (Self::Data(left), here),
                }
            }
            Self::End => match bytes {
                [b'\r', b'\n', ..] => (Self::Size, 2),
                [] | [b'\r'] => return Ok(None),
                _ => return Err(Malformed::ChunkEnd),
            },
            Self::Trailers(section) => match trailers(section, bytes, limits)? {
                None => return Ok(None),
                Some(length) => (Self::Done, length),
            },
            Self::Done => return Ok(None),
        };
        *self = next;
        Ok(Some(length))
    }
}

/// The size and the length of its line, once that is whole.
fn size_line(bytes: &[u8]) -> Result<Option<(u64, usize)>, Malformed> {
    let window = &bytes[..bytes.len().min(MAX_LINE)];
    let Some(lf) = memchr::memchr(b'\n', window) else {
        return if window.len() == MAX_LINE { Err(Malformed::ChunkLineTooLong) } else { Ok(None) };
    };
    let line = window[..lf].strip_suffix(b"\r").ok_or(Malformed::BareLf)?;
    let digits = line.iter().position(|byte| !byte.is_ascii_hexdigit()).unwrap_or(line.len());
    let (digits, extensions) = line.split_at(digits);
    if !(1..=16).contains(&digits.len()) || !matches!(extensions, [] | [b';' | b' ' | b'\t', ..]) {
        return Err(Malformed::ChunkSize);
    }
    let hex = |byte: &u8| (*byte as char).to_digit(16).map_or(0, u64::from);
    let size = digits.iter().fold(0, |size, digit| size << 4 | hex(digit));
    if size > LONGEST {
        return Err(Malformed::ChunkSize);
    }
    check_extensions(extensions)?;
    Ok(Some((size, lf + 1)))
}

/// `*( ";" token [ "=" ( token / quoted-string ) ] )`
fn check_extensions(mut rest: &[u8]) -> Result<(), Malformed> {
    while !rest.is_empty() {
        let Some(after) = rest.strip_prefix(b";") else { return Err(Malformed::ChunkExtension) };
        rest = token(after)?;
        if let Some(value) = rest.strip_prefix(b"=") {
            rest = match value.strip_prefix(b"\"") {
                Some(text) => quoted(text)?,
                None => token(value)?,
            };
        }
    }
    Ok(())
}

/// What follows the token that `bytes` begin with.
fn token(bytes: &[u8]) -> Result<&[u8], Malformed> {
    let end = bytes.iter().position(|byte| matches!(byte, b';' | b'=')).unwrap_or(bytes.len());
    let (token, rest) = bytes.split_at(end);
    if is_token(token) { Ok(rest) } else { Err(Malformed::ChunkExtension) }
}

/// What follows the quoted string whose first quote is before `bytes`.
fn quoted(mut bytes: &[u8]) -> Result<&[u8], Malformed> {
    let text = |byte: u8| byte == b'\t' || (byte >= b' ' && byte != 0x7f);
    loop {
        bytes = match bytes {
            [b'"', rest @ ..] => return Ok(rest),
            [b'\\', escaped, rest @ ..] if text(*escaped) => rest,
            [byte, rest @ ..] if *byte != b'\\' && text(*byte) => rest,
            _ => return Err(Malformed::ChunkExtension),
        };
    }
}

/// The length of the trailers with the empty line at their end, once they are whole.
fn trailers(section: &mut Section, bytes: &[u8], limits: &Limits) -> Result<Option<usize>, Malformed> {
    while let Some(line) = section.line(bytes, limits, Malformed::FieldTooLong)? {
        if line.is_empty() {
            return Ok(Some(section.len()));
        }
        section.field(limits)?;
        if !may_trail(Field::read(line)?.name) {
            return Err(Malformed::Trailer);
        }
    }
    Ok(None)
}

/// RFC 9110 6.5.1. The other names are the application's.
fn may_trail(name: &[u8]) -> bool {
    let is = |never: &&str| name.eq_ignore_ascii_case(never.as_bytes());
    let begins = |never: &&str| {
        name.get(..never.len()).is_some_and(|start| start.eq_ignore_ascii_case(never.as_bytes()))
    };
    !NEVER_TRAILERS.iter().any(is) && !NEVER_TRAILERS_BEGIN.iter().any(begins)
}

/// Bytes of a chunk's size, its extensions and CR LF.
const MAX_LINE: usize = 256;

const NEVER_TRAILERS: &[&str] = &[
    // Framing.
    "transfer-encoding",
    "transfer_encoding",
    "content-length",
    "content_length",
    "trailer",
    "te",
    // The connection.
    "connection",
    "keep-alive",
    "upgrade",
    "http2-settings",
    // Routing.
    "host",
    "forwarded",
    "via",
    "x-real-ip",
    "x-original-url",
    "x-rewrite-url",
    // Who asks.
    "authorization",
    "cookie",
    "set-cookie",
    "www-authenticate",
    "authentication-info",
    // How the request or the answer is meant.
    "cache-control",
    "expect",
    "max-forwards",
    "pragma",
    "range",
    "age",
    "date",
    "expires",
    "location",
    "retry-after",
    "vary",
    "warning",
    "if-match",
    "if-none-match",
    "if-modified-since",
    "if-unmodified-since",
    "if-range",
    // The content.
    "content-encoding",
    "content-type",
    "content-range",
];

const NEVER_TRAILERS_BEGIN: &[&str] = &["proxy-", "x-forwarded-", "x-weft-"];
