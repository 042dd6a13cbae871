//! `RequestHeaderModifier` and `ResponseHeaderModifier`.
//!
//! Framing and hop-by-hop headers are between two neighbours and not a route's to change: `set`, `add` and `remove` of
//! them are ignored ([`PROTECTED`]). `Host` of a request may be set, which is a rewrite of the host wherever the request
//! carries it; it cannot be added or removed, since every request has one.

use std::sync::Arc;

use http::{
    HeaderMap, HeaderName, HeaderValue,
    header::{HOST, SET_COOKIE},
    request,
    uri::Authority,
};
use weft_model::HeaderModifier;

use super::{FilterError, rewrite};
use crate::route::asked::{joined, separator};

/// One modifier. The order is set, add, remove; the API allows one action for a name, so it does not matter.
#[derive(Clone, Debug)]
pub(super) struct Modifier {
    set: Vec<(HeaderName, HeaderValue)>,
    add: Vec<(HeaderName, HeaderValue)>,
    remove: Vec<HeaderName>,
    /// What `set` says of `Host`.
    host: Option<Authority>,
}

impl Modifier {
    pub(super) fn compile(modifier: &HeaderModifier) -> Result<Self, FilterError> {
        let pairs = |pairs: &[(Arc<str>, Arc<str>)]| {
            let pairs = pairs.iter().filter(|(name, _)| !is_protected(name));
            pairs.map(|(name, value)| compile_pair(name, value)).collect::<Result<Vec<_>, _>>()
        };
        let set = pairs(&modifier.set)?;
        let host = modifier.set.iter().find(|(name, _)| name.eq_ignore_ascii_case(HOST.as_str()));
        let remove = modifier.remove.iter().filter(|name| !is_protected(name));
        Ok(Self {
            host: host.map(|(_, value)| rewrite::compile_host(value)).transpose()?,
            add: pairs(&modifier.add)?,
            remove: remove.map(compile_name).collect::<Result<_, _>>()?,
            set,
        })
    }

    pub(super) fn change_request(&self, parts: &mut request::Parts) {
        if let Some(host) = &self.host {
            rewrite::set_host(parts, host);
        }
        self.change_but(&mut parts.headers, Some(&HOST));
    }

    pub(super) fn change(&self, headers: &mut HeaderMap) {
        self.change_but(headers, None);
    }

    fn change_but(&self, headers: &mut HeaderMap, kept: Option<&HeaderName>) {
        let is_kept = |name: &HeaderName| kept.is_some_and(|kept| kept == name);
        for (name, value) in self.set.iter().filter(|(name, _)| !is_kept(name)) {
            headers.insert(name, value.clone());
        }
        for (name, value) in self.add.iter().filter(|(name, _)| !is_kept(name)) {
            append(headers, name, value);
        }
        for name in self.remove.iter().filter(|name| !is_kept(name)) {
            headers.remove(name);
        }
    }
}

/// Adds to the line that is there, as in the API's own example: readers that know one line only see all values.
/// `Set-Cookie` alone cannot share a line (RFC 9110 5.3).
pub(super) fn append(headers: &mut HeaderMap, name: &HeaderName, value: &HeaderValue) {
    let Some(before) = joined(headers, name).filter(|_| *name != SET_COOKIE) else {
        headers.append(name, value.clone());
        return;
    };
    let line = [&*before, separator(name), value.as_bytes()].concat();
    let line = HeaderValue::from_bytes(&line).expect("values and separators are free of control characters");
    headers.insert(name, line);
}

pub(super) fn compile_pair(
    name: &Arc<str>,
    value: &Arc<str>,
) -> Result<(HeaderName, HeaderValue), FilterError> {
    let value_of = HeaderValue::from_bytes(value.as_bytes());
    match (HeaderName::from_bytes(name.as_bytes()), value_of) {
        (Ok(name), Ok(value)) => Ok((name, value)),
        _ => Err(FilterError::Header { name: Arc::clone(name), value: Arc::clone(value) }),
    }
}

fn compile_name(name: &Arc<str>) -> Result<HeaderName, FilterError> {
    let error = |_| FilterError::Header { name: Arc::clone(name), value: "".into() };
    HeaderName::from_bytes(name.as_bytes()).map_err(error)
}

fn is_protected(name: &str) -> bool {
    PROTECTED.iter().any(|protected| protected.eq_ignore_ascii_case(name))
}

/// Headers that say where a message ends or that hold for one connection only (RFC 9110 7.6.1).
const PROTECTED: [&str; 9] = [
    "connection",
    "content-length",
    "http2-settings",
    "keep-alive",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];
