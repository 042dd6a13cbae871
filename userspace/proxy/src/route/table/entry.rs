//! One match of a rule: its precedence, its place in the index, and what is left to be checked there.

use std::{cmp::Reverse, sync::Arc};

use http::{HeaderName, Method};
use weft_model::{NameMatch, PathMatch, RouteMatch, ValueMatch};

use super::{Precedence, RuleError, index::Place};
use crate::route::{Asked, grpc::Call, path, pattern::Pattern, pattern::Text};

/// A match, and the number of its rule.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) rule: usize,
    path: Path,
    method: Option<Method>,
    headers: Vec<(HeaderName, Text)>,
    query: Vec<(Arc<str>, Text)>,
}

/// What the index does not decide about a path.
#[derive(Debug)]
enum Path {
    /// Nothing.
    Indexed,
    /// The whole.
    Pattern(Pattern),
    /// That it names a gRPC call, and the names for which there is no index.
    Call { service: Option<Text>, method: Option<Text> },
}

/// Where a match stands among others; the order is the module's above.
pub(super) fn precedence(wanted: &RouteMatch) -> Precedence {
    let (headers, query) = (Reverse(wanted.headers.len()), Reverse(wanted.query.len()));
    // No method is as little as none of a call, which is what a GRPCRoute's rule without matches stands beside.
    let by_path = |rank, path: &Arc<str>| {
        (rank, Reverse(path.len()), if wanted.method.is_none() { 2 } else { 0 }, Reverse(0), headers, query)
    };
    match &wanted.path {
        PathMatch::Exact(path) => by_path(0, path),
        PathMatch::Regex(pattern) => by_path(1, pattern),
        PathMatch::Prefix(path) => by_path(2, path),
        PathMatch::Grpc { service, method } => {
            let rank = |name: &Option<NameMatch>| match name {
                Some(NameMatch::Exact(name)) => (0, Reverse(name.len())),
                Some(NameMatch::Regex(pattern)) => (1, Reverse(pattern.len())),
                None => (2, Reverse(0)),
            };
            let ((service, longest_service), (method, longest_method)) = (rank(service), rank(method));
            (service, longest_service, method, longest_method, headers, query)
        }
    }
}

impl Entry {
    pub(super) fn compile(rule: usize, wanted: &RouteMatch) -> Result<(Self, Place), RuleError> {
        let (path, place) = compile_path(&wanted.path)?;
        let header = |wanted: &ValueMatch| {
            let name = HeaderName::from_bytes(wanted.name.as_bytes());
            let name = name.map_err(|_| RuleError::Header(Arc::clone(&wanted.name)))?;
            Ok((name, Text::compile(&wanted.value)?))
        };
        let query = |wanted: &ValueMatch| Ok((Arc::clone(&wanted.name), Text::compile(&wanted.value)?));
        let method = |method: &Arc<str>| {
            Method::from_bytes(method.as_bytes()).map_err(|_| RuleError::Method(Arc::clone(method)))
        };
        let entry = Self {
            rule,
            path,
            method: wanted.method.as_ref().map(method).transpose()?,
            headers: wanted.headers.iter().map(header).collect::<Result<_, RuleError>>()?,
            query: wanted.query.iter().map(query).collect::<Result<_, RuleError>>()?,
        };
        Ok((entry, place))
    }

    /// Whether a request that the index leads here matches.
    pub(super) fn holds(&self, asked: &Asked<'_>) -> bool {
        let value =
            |name: &HeaderName, text: &Text| asked.header(name).is_some_and(|value| text.matches(&value));
        let parameter =
            |name: &str, text: &Text| asked.query_value(name).is_some_and(|value| text.matches(value));
        self.method.as_ref().is_none_or(|method| method == asked.method)
            && self.path.holds(&asked.path)
            && self.headers.iter().all(|(name, text)| value(name, text))
            && self.query.iter().all(|(name, text)| parameter(name, text))
    }
}

impl Path {
    fn holds(&self, path: &str) -> bool {
        match self {
            Self::Indexed => true,
            Self::Pattern(pattern) => pattern.matches(path.as_bytes()),
            Self::Call { service, method } => Call::of(path).is_some_and(|call| {
                let is = |text: &Option<Text>, name: &str| {
                    text.as_ref().is_none_or(|text| text.matches(name.as_bytes()))
                };
                is(service, call.service) && is(method, call.method)
            }),
        }
    }
}

/// Configured paths take the form that requests' paths have.
fn compile_path(wanted: &PathMatch) -> Result<(Path, Place), RuleError> {
    let normal = |path: &Arc<str>| {
        let normal = path::normalise(path).map(|normal| path::merge_slashes(&normal).into_owned());
        normal.map_err(|source| RuleError::Path { path: Arc::clone(path), source })
    };
    Ok(match wanted {
        PathMatch::Exact(path) => (Path::Indexed, Place::Exact(normal(path)?)),
        PathMatch::Prefix(path) => (Path::Indexed, Place::Below(normal(path)?)),
        PathMatch::Regex(pattern) => (Path::Pattern(Pattern::compile(pattern)?), Place::Anywhere),
        PathMatch::Grpc { service: Some(NameMatch::Exact(service)), method } => match method {
            Some(NameMatch::Exact(method)) => (Path::Indexed, Place::Exact(format!("/{service}/{method}"))),
            method => {
                let method = method.as_ref().map(Text::compile).transpose()?;
                (Path::Call { service: None, method }, Place::Below(format!("/{service}")))
            }
        },
        PathMatch::Grpc { service, method } => {
            let compile = |name: &Option<NameMatch>| name.as_ref().map(Text::compile).transpose();
            (Path::Call { service: compile(service)?, method: compile(method)? }, Place::Anywhere)
        }
    })
}
