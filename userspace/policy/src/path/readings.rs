//! Everything that a server may take a path for.
//!
//! Servers disagree on what `%2F`, `%5C`, `%25` and `;` are: data, or a slash, a slash, another escape, and the beginning
//! of parameters that are no part of the path. (nginx decodes and merges before it resolves dots; Tomcat cuts parameters
//! off; others decode twice.) A path without any of them has one reading, which costs nothing more.

use weft_model::PathRule;

use super::{PathError, merge_slashes, normalise};

/// A request's path in every reading; the first is the form that routes compare.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Readings {
    all: Vec<Vec<u8>>,
}

impl Readings {
    /// The readings of a path as it was sent.
    ///
    /// # Errors
    /// The path has no agreed meaning.
    pub fn of(path: &str) -> Result<Self, PathError> {
        let normal = normalise(path)?;
        let mut all = vec![merge_slashes(&normal).into_owned().into_bytes()];
        if is_ambiguous(&normal) {
            // Parameters go before anything is decoded (Tomcat), or behind it, or are none.
            let cut = String::from_utf8_lossy(&without_parameters(normal.as_bytes())).into_owned();
            for text in [&*normal, &cut] {
                for text in decoded(text) {
                    for text in [without_parameters(&text), text] {
                        all.extend([resolve(&text, true), resolve(&text, false)]);
                    }
                }
            }
            let first = all[0].clone();
            all[1..].sort_unstable();
            all.dedup();
            all.retain(|other| *other != first);
            all.insert(0, first);
        }
        Ok(Self { all })
    }

    /// Whether every reading matches, as it is written.
    pub fn must_match(&self, rule: &PathRule) -> bool {
        self.all.iter().all(|path| match rule {
            PathRule::Exact(wanted) => path == wanted.as_bytes(),
            PathRule::Prefix(wanted) => is_below(path, wanted.as_bytes(), |a, b| a == b),
        })
    }

    /// Whether a reading matches, in whatever case and with or without a slash at its end: some servers tell neither
    /// apart.
    pub fn may_match(&self, rule: &PathRule) -> bool {
        let same = <[u8]>::eq_ignore_ascii_case;
        self.all.iter().any(|path| match rule {
            PathRule::Exact(wanted) => same(trimmed(path), trimmed(wanted.as_bytes())),
            PathRule::Prefix(wanted) => is_below(path, wanted.as_bytes(), same),
        })
    }
}

/// Whether a normal path means one thing to every server.
pub(super) fn is_ambiguous(normal: &str) -> bool {
    normal.contains([';']) || ["%2F", "%5C", "%25", "%3B"].iter().any(|escape| normal.contains(escape))
}

/// By path element, whatever slashes are at its end.
fn is_below(path: &[u8], prefix: &[u8], same: impl Fn(&[u8], &[u8]) -> bool) -> bool {
    let prefix = trimmed(prefix);
    let Some((start, rest)) = path.split_at_checked(prefix.len()) else { return false };
    // `*` of OPTIONS is everything's.
    prefix.is_empty() || (same(start, prefix) && (rest.is_empty() || rest.starts_with(b"/")))
}

fn trimmed(mut path: &[u8]) -> &[u8] {
    while let Some(shorter) = path.strip_suffix(b"/") {
        path = shorter;
    }
    path
}

/// What servers decode: nothing; the escape of the slash, or of both (Envoy's `UNESCAPE_AND_FORWARD`, Istio's
/// `DECODE_AND_MERGE_SLASHES`); everything, of which a backslash is one, or another slash.
fn decoded(text: &str) -> [Vec<u8>; 5] {
    let slashes = text.replace("%2F", "/");
    let both = slashes.replace("%5C", "/");
    let all = decode_all(text);
    let mut merged = all.clone();
    merged.iter_mut().filter(|byte| **byte == b'\\').for_each(|byte| *byte = b'/');
    [text.as_bytes().to_vec(), slashes.into_bytes(), both.into_bytes(), all, merged]
}

/// Every escape decoded, and what comes of that as well, until there is none.
fn decode_all(normal: &str) -> Vec<u8> {
    let mut decoded: Vec<u8> = Vec::with_capacity(normal.len());
    for byte in normal.bytes() {
        decoded.push(byte);
        while let [.., b'%', high, low] = &*decoded
            && let (Some(high), Some(low)) = (hex(*high), hex(*low))
        {
            decoded.truncate(decoded.len() - 3);
            decoded.push(high << 4 | low);
        }
    }
    decoded
}

/// RFC 3986 3.3: what follows a `;` are parameters of the element.
fn without_parameters(path: &[u8]) -> Vec<u8> {
    let elements = path.split(|byte| *byte == b'/');
    let elements: Vec<_> =
        elements.map(|element| element.split(|byte| *byte == b';').next().unwrap_or_default()).collect();
    elements.join(&b'/')
}

/// Without dot segments and empty ones; `merged` says which went first.
fn resolve(path: &[u8], merged: bool) -> Vec<u8> {
    let mut kept: Vec<&[u8]> = Vec::new();
    let mut open = false;
    for element in path.split(|byte| *byte == b'/').skip(1) {
        open = matches!(element, b"." | b".." | b"");
        match element {
            b"." => {}
            b".." => drop(kept.pop()),
            b"" if merged => {}
            element => kept.push(element),
        }
    }
    kept.retain(|element| !element.is_empty());
    let mut resolved = b"/".to_vec();
    resolved.extend(kept.join(&b'/'));
    if open && !kept.is_empty() {
        resolved.push(b'/');
    }
    resolved
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|digit| u8::try_from(digit).ok())
}

#[cfg(test)]
mod tests;
