//! What a rule asks of a request.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// How large a pattern may be once it is compiled, in bytes. It is checked where objects are read, so that
/// whoever compiles it as `\A(?:pattern)\z` with this limit cannot fail.
pub const REGEX_SIZE: usize = 1 << 18;

/// One entry of `matches`: all of it must hold.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RouteMatch {
    /// The path, or the gRPC service and method in it.
    pub path: PathMatch,
    /// The method, upper case. `None` is any.
    pub method: Option<Arc<str>>,
    /// Headers, by lower-case name; of two entries with one name the first counts and is the only one here.
    pub headers: Vec<ValueMatch>,
    /// Query parameters, by exact name; as for headers.
    pub query: Vec<ValueMatch>,
}

/// What the path must be. Case counts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum PathMatch {
    /// This very path.
    Exact(Arc<str>),
    /// These path elements first; no trailing `/` here, the root is the empty text.
    Prefix(Arc<str>),
    /// A regular expression (RE2 syntax) for the whole path.
    Regex(Arc<str>),
    /// `/<service>/<method>` of a gRPC call. `None` is any.
    Grpc {
        /// The service, with its package.
        service: Option<NameMatch>,
        /// The method.
        method: Option<NameMatch>,
    },
}

/// A name, or a pattern for the whole of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum NameMatch {
    /// This very name.
    Exact(Arc<str>),
    /// A regular expression (RE2 syntax) for the whole name.
    Regex(Arc<str>),
}

/// What a header or a query parameter must be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ValueMatch {
    /// Its name.
    pub name: Arc<str>,
    /// Its value.
    pub value: NameMatch,
}

impl RouteMatch {
    /// Every request.
    pub fn any() -> Self {
        Self { path: PathMatch::Prefix("".into()), method: None, headers: Vec::new(), query: Vec::new() }
    }
}
