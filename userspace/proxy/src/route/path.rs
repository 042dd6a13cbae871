//! Paths: the one form in which they are compared, and how a rewrite changes them.
//!
//! The Gateway API is silent on the form. What is decided here holds for matching, authorization and logs alike:
//!
//! - [`normalise`] makes the form of RFC 3986 6.2.2: escapes of unreserved characters decoded, other escapes upper
//!   case, characters that a path may not hold escaped, dot segments removed (Envoy's `normalize_path`, Istio's `BASE`).
//!   **This form is forwarded**, too: `/admin/../public` judged as `/public` must not reach a server that takes the first
//!   element for the truth. By the RFC both name one resource, and a path that is normal keeps its bytes.
//! - [`merge_slashes`] on top of it is what is compared: `//admin` must not slip past a rule for `/admin`. It is not
//!   forwarded: empty elements are data to some servers (object stores), and no dot segment is left that they could hide.
//! - `%2F` and `%5C` stay data, as with Envoy and Istio: npm and GitLab put names with a slash into one element.
//! - `%00`, a bad escape and a bare `\` are refused: there is no agreement on what they mean.

use std::borrow::Cow;

use http::{
    Uri,
    uri::{Authority, PathAndQuery},
};
use thiserror::Error;

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

/// Normalises the path of `uri`; the rest of it stays.
///
/// # Errors
/// As [`normalise`], and when the escapes that it adds make the URI too long.
pub fn normalise_uri(uri: &mut Uri) -> Result<(), PathError> {
    let changed = match normalise(uri.path())? {
        Cow::Borrowed(_) => return Ok(()),
        Cow::Owned(path) => rebuild(uri, None, Some(&path))?,
    };
    *uri = changed;
    Ok(())
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
pub(super) fn elements(path: &str) -> impl Iterator<Item = &str> {
    let absolute = path.strip_prefix('/').unwrap_or_default();
    absolute.split('/').filter(|element| !element.is_empty())
}

/// A normal `path` with `replacement` (without a slash at its end) for the elements of `prefix`; `None` if it does not
/// begin with them.
pub(super) fn replace_prefix(path: &str, prefix: &str, replacement: &str) -> Option<String> {
    let mut rest = path.starts_with('/').then_some(path)?; // not `*`
    for element in elements(prefix) {
        rest = rest.trim_start_matches('/').strip_prefix(element)?;
        if !rest.is_empty() && !rest.starts_with('/') {
            return None;
        }
    }
    let replaced = format!("{replacement}{rest}");
    Some(if replaced.is_empty() { "/".to_owned() } else { replaced })
}

/// `uri` with another authority, another path, or both; its query stays.
pub(super) fn rebuild(
    uri: &Uri,
    authority: Option<&Authority>,
    path: Option<&str>,
) -> Result<Uri, PathError> {
    let mut parts = uri.clone().into_parts();
    if let Some(authority) = authority {
        parts.authority = Some(authority.clone());
    }
    if let Some(path) = path {
        let text = match uri.query() {
            Some(query) => format!("{path}?{query}"),
            None => path.to_owned(),
        };
        parts.path_and_query = Some(PathAndQuery::try_from(text).map_err(|_| PathError::TooLong)?);
    }
    Uri::from_parts(parts).map_err(|_| PathError::TooLong)
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
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn equivalent_paths_have_one_normal_form() {
        for (path, normal) in [
            ("", "/"),
            ("*", "*"),
            ("/", "/"),
            ("/a/b/", "/a/b/"),
            ("/%61dmin", "/admin"),
            ("/%7euser", "/~user"),
            ("/a%c3%a9", "/a%C3%A9"),
            ("/aé", "/a%C3%A9"),
            ("/{a}|\"", "/%7Ba%7D%7C%22"),
            ("/a/./b", "/a/b"),
            ("/a/../b", "/b"),
            ("/a/%2e%2E/b", "/b"),
            ("/a/.%2e", "/"),
            ("/a/b/..", "/a/"),
            ("/a/b/.", "/a/b/"),
            ("/../../a", "/a"),
            ("/...", "/..."),
            ("/a//../b", "/a/b"),
            ("/a//b", "/a//b"),
            ("/a%2fb%5cc", "/a%2Fb%5Cc"),
            ("/a:@!$&'()*+,;=-._~", "/a:@!$&'()*+,;=-._~"),
            ("/%252e%252e/a", "/%252e%252e/a"),
        ] {
            assert_eq!(normalise(path).as_deref(), Ok(normal), "{path}");
        }
    }

    #[test]
    fn a_path_without_an_agreed_meaning_is_refused() {
        for (path, why) in [
            ("a", PathError::NotAbsolute),
            ("/%", PathError::BadEscape),
            ("/%4", PathError::BadEscape),
            ("/%zz", PathError::BadEscape),
            ("/%+1", PathError::BadEscape),
            ("/a%00", PathError::Nul),
            ("/a\\..\\b", PathError::Backslash),
        ] {
            assert_eq!(normalise(path), Err(why), "{path}");
        }
    }

    #[test]
    fn the_uri_keeps_its_bytes_where_it_is_normal_and_its_query_always() {
        for (before, after) in [
            ("/a//b?x=%2e/../", "/a//b?x=%2e/../"),
            ("/a/../b?x=%2e", "/b?x=%2e"),
            ("http://echo:80/a/%2e%2e/b?", "http://echo:80/b?"),
            ("echo:80", "echo:80"),
        ] {
            let mut uri: Uri = before.parse().unwrap();
            normalise_uri(&mut uri).unwrap();
            assert_eq!(uri.to_string(), after);
        }
    }

    #[test]
    fn runs_of_slashes_are_one_slash() {
        for (path, merged) in [("//", "/"), ("/a///b//", "/a/b/"), ("/a/b", "/a/b")] {
            assert_eq!(merge_slashes(path), merged);
        }
    }

    proptest! {
        #[test]
        fn a_normal_path_stays_as_it_is(path in "/([./a%é {]|%[0-9a-fA-F]{2}){0,12}") {
            if let Ok(once) = normalise(&path) {
                prop_assert!(matches!(normalise(&once), Ok(Cow::Borrowed(twice)) if twice == once), "{once}");
            }
        }

        #[test]
        fn a_normal_path_has_no_dot_segment_however_it_was_written(path in "/(\\.|%2e|%2E|/|%2f|a){0,12}") {
            let normal = normalise(&path).unwrap();
            prop_assert!(normal.split('/').all(|segment| segment != "." && segment != ".."), "{normal}");
            prop_assert!(elements(&normal).eq(elements(&merge_slashes(&normal))), "{normal}");
        }

        #[test]
        fn plain_characters_are_never_changed(path in "(/[a-zA-Z0-9_~:@!$&'()*+,;=-]{1,4}){1,4}/?") {
            prop_assert!(matches!(normalise(&path), Ok(Cow::Borrowed(_))));
        }

        #[test]
        fn nothing_panics(path in ".*") {
            let _ = normalise(&path);
        }
    }
}
