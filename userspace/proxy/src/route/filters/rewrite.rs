//! `URLRewrite`, and the path changes that it shares with redirects.

use std::{borrow::Cow, sync::Arc};

use http::{HeaderValue, header::HOST, request, uri::Authority};
use weft_model::PathRewrite;

use super::FilterError;
use crate::route::path::{self, PathError};

/// A rewrite of host, path or both; the query stays.
#[derive(Clone, Debug)]
pub(super) struct Rewrite {
    host: Option<Authority>,
    path: Option<Path>,
}

/// A change of the path, made of normal paths.
#[derive(Clone, Debug)]
pub(super) enum Path {
    Full(String),
    Prefix {
        matched: String,
        /// Without a slash at its end.
        replacement: String,
    },
}

impl Rewrite {
    pub(super) fn compile(rewrite: &weft_model::Rewrite) -> Result<Self, FilterError> {
        Ok(Self {
            host: rewrite.hostname.as_ref().map(compile_host).transpose()?,
            path: rewrite.path.as_ref().map(Path::compile).transpose()?,
        })
    }

    pub(super) fn apply(&self, parts: &mut request::Parts) -> Result<(), PathError> {
        if let Some(path) = &self.path
            && let Some(path) = path.apply(parts.uri.path())
        {
            parts.uri = path::rebuild(&parts.uri, None, Some(&path))?;
        }
        if let Some(host) = &self.host {
            set_host(parts, host);
        }
        Ok(())
    }
}

impl Path {
    pub(super) fn compile(rewrite: &PathRewrite) -> Result<Self, FilterError> {
        Ok(match rewrite {
            PathRewrite::Full(path) => Self::Full(compile_path(path)?),
            PathRewrite::Prefix { matched, replacement } => Self::Prefix {
                matched: compile_path(matched)?,
                replacement: compile_path(replacement)?.trim_end_matches('/').to_owned(),
            },
        })
    }

    /// The new path; `None` leaves it: it has no normal form, or not the prefix (an earlier filter changed it).
    pub(super) fn apply(&self, path: &str) -> Option<String> {
        match self {
            Self::Full(path) => Some(path.clone()),
            Self::Prefix { matched, replacement } => {
                path::replace_prefix(&path::normalise(path).ok()?, matched, replacement)
            }
        }
    }
}

/// Makes `host` the host of a request wherever it carries one: the URI of HTTP/2 and of proxy requests, `Host` of HTTP/1.
pub(super) fn set_host(parts: &mut request::Parts, host: &Authority) {
    let in_uri = parts.uri.authority().is_some();
    if in_uri && let Ok(uri) = path::rebuild(&parts.uri, Some(host), None) {
        parts.uri = uri;
    }
    if !in_uri || parts.headers.contains_key(HOST) {
        let value = HeaderValue::from_str(host.as_str()).expect("an authority is visible ASCII");
        parts.headers.insert(HOST, value);
    }
}

pub(super) fn compile_host(host: &Arc<str>) -> Result<Authority, FilterError> {
    Authority::try_from(&**host).map_err(|_| FilterError::Host(Arc::clone(host)))
}

fn compile_path(path: &Arc<str>) -> Result<String, FilterError> {
    let absolute = if path.starts_with('/') { path.to_string() } else { format!("/{path}") };
    let normal = path::normalise(&absolute);
    normal.map(Cow::into_owned).map_err(|source| FilterError::Path { path: Arc::clone(path), source })
}
