//! Paths: how a rewrite changes them. The form in which they are compared is [`weft_policy::path`]'s.

use std::borrow::Cow;

use http::{
    Uri,
    uri::{Authority, PathAndQuery},
};
pub(super) use weft_policy::path::elements;
pub use weft_policy::path::{PathError, merge_slashes, normalise};

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

#[cfg(test)]
mod tests {
    use super::*;

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
}
