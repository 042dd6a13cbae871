//! Paths: the one form in which they are compared, and everything that a server may take them for.
//!
//! The Gateway API is silent on the form. What is decided here holds for matching, authorization and logs alike:
//!
//! - [`normalise`] makes the form of RFC 3986 6.2.2: escapes of unreserved characters decoded, other escapes upper
//!   case, characters that a path may not hold escaped, dot segments removed (Envoy's `normalize_path`, Istio's `BASE`).
//!   **This form is forwarded**, too: `/admin/../public` judged as `/public` must not reach a server that takes the first
//!   element for the truth. By the RFC both name one resource, and a path that is normal keeps its bytes.
//! - [`merge_slashes`] on top of it is what is compared: `//admin` must not slip past a rule for `/admin`. It is not
//!   forwarded: empty elements are data to some servers (object stores), and no dot segment is left that they could hide.
//! - `%2F` and `%5C` stay data, as with Envoy and Istio: npm and GitLab put names with a slash into one element. To
//!   authorization such a path has several [`Readings`], and it fails closed where they differ.
//! - `%00`, a bad escape and a bare `\` are refused: there is no agreement on what they mean.

mod readings;

use std::borrow::Cow;

use thiserror::Error;

pub use readings::Readings;

/// Why a path cannot be compared with anything; the request is answered with 400.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum PathError {
    /// Neither `/...` nor `*`.
    #[error("path does not begin with a slash: send one that does")]
    NotAbsolute,
    /// A `%` without two hexadecimal digits.
    #[error("path has a % that is no escape: write it as %25")]
    BadEscape,
    /// `%00`.
    #[error("path holds a NUL: remove the %00")]
    Nul,
    /// `\`, which some servers take for a slash.
    #[error("path holds a backslash: write it as %5C")]
    Backslash,
    /// A rewritten path is longer than a URI may be.
    #[error("path and query are too long together: shorten the query")]
    TooLong,
}

/// The normal form of `path`. `*` (of `OPTIONS *`) is normal, an empty path is the root.
///
/// # Errors
/// The path has no agreed meaning.
pub fn normalise(path: &str) -> Result<Cow<'_, str>, PathError> {
    match path {
        "" => return Ok("/".into()),
        "*" => return Ok(path.into()),
        _ if !path.starts_with('/') => return Err(PathError::NotAbsolute),
        _ if is_normal(path) => return Ok(path.into()),
        _ => {}
    }
    Ok(remove_dot_segments(&normal_bytes(path.as_bytes())?).into())
}

/// `path` with each run of slashes as one.
pub fn merge_slashes(path: &str) -> Cow<'_, str> {
    if !path.contains("//") {
        return path.into();
    }
    let mut merged = String::with_capacity(path.len());
    for character in path.chars() {
        if character != '/' || !merged.ends_with('/') {
            merged.push(character);
        }
    }
    merged.into()
}

/// The elements of a path, without empty ones.
pub fn elements(path: &str) -> impl Iterator<Item = &str> {
    let absolute = path.strip_prefix('/').unwrap_or_default();
    absolute.split('/').filter(|element| !element.is_empty())
}

/// Whether a rule may name `path`: it begins with a slash, is normal, and means one thing to every server.
pub fn is_plain(path: &str) -> bool {
    path.starts_with('/') && is_normal(path) && !path.contains("//") && !readings::is_ambiguous(path)
}

fn is_normal(path: &str) -> bool {
    let mut rest = path.as_bytes();
    while let [first, tail @ ..] = rest {
        rest = match (first, tail) {
            (b'%', [high, low, tail @ ..]) if is_kept_escape(*high, *low) => tail,
            (byte, tail) if is_path_byte(*byte) => tail,
            _ => return false,
        }
    }
    path.split('/').all(|segment| segment != "." && segment != "..")
}

/// Every escape and character in its normal form; dot segments are still there.
fn normal_bytes(mut rest: &[u8]) -> Result<String, PathError> {
    let mut normal = String::with_capacity(rest.len());
    while let [first, tail @ ..] = rest {
        rest = tail;
        let byte = if *first == b'%' {
            let [high, low, after @ ..] = tail else { return Err(PathError::BadEscape) };
            let digits = [high, low].map(|digit| upper_hex(digit.to_ascii_uppercase()));
            let [Some(high), Some(low)] = digits else { return Err(PathError::BadEscape) };
            rest = after;
            high << 4 | low
        } else {
            *first
        };
        match byte {
            0 => return Err(PathError::Nul),
            b'\\' if *first == b'\\' => return Err(PathError::Backslash),
            byte if is_unreserved(byte) || (*first != b'%' && is_path_byte(byte)) => {
                normal.push(char::from(byte));
            }
            byte => normal.extend(['%', HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]),
        }
    }
    Ok(normal)
}

/// RFC 3986 5.2.4 for an absolute path: `..` takes the element before it away, an empty one too.
fn remove_dot_segments(path: &str) -> String {
    let mut kept = Vec::new();
    let mut open = false;
    for segment in path.split('/').skip(1) {
        open = matches!(segment, "." | "..");
        match segment {
            "." => {}
            ".." => drop(kept.pop()),
            segment => kept.push(segment),
        }
    }
    if open {
        kept.push("");
    }
    format!("/{}", kept.join("/"))
}

/// Whether `%` and these digits are an escape in its normal form.
fn is_kept_escape(high: u8, low: u8) -> bool {
    let (Some(high), Some(low)) = (upper_hex(high), upper_hex(low)) else { return false };
    let byte = high << 4 | low;
    byte != 0 && !is_unreserved(byte)
}

fn upper_hex(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'A'..=b'F' => Some(digit - b'A' + 10),
        _ => None,
    }
}

fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~')
}

/// What stands for itself in a path: `pchar` without escapes, and the slash.
fn is_path_byte(byte: u8) -> bool {
    is_unreserved(byte) || b"/:@!$&'()*+,;=".contains(&byte)
}

const HEX: [char; 16] = ['0', '1', '2', '3', '4', '5', '6', '7', '8', '9', 'A', 'B', 'C', 'D', 'E', 'F'];

#[cfg(test)]
mod tests;
