//! What a rule asks of a request.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// `httpAttributes`: any of each list, all lists. An empty list asks for nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct HttpAttributes {
    /// Methods, as they are sent.
    pub methods: Vec<Arc<str>>,
    /// Paths of the normal form.
    pub paths: Vec<PathRule>,
    /// Hosts without a port, in lower case. `*.` at the beginning stands for one or more labels.
    pub hosts: Vec<Arc<str>>,
    /// Headers.
    pub headers: Vec<HeaderRule>,
}

/// A path that a rule names: normal, without what has more than one meaning (`%2F`, `%5C`, `%25`, `;`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum PathRule {
    /// This path.
    Exact(Arc<str>),
    /// This path and everything below it, by path element.
    Prefix(Arc<str>),
}

/// A header that a rule names.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeaderRule {
    /// Its name, in lower case.
    pub name: Arc<str>,
    /// Its value, as it is sent.
    pub value: Arc<str>,
}

/// `jwt`: a verified token of a provider, with any of the claims.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenRule {
    /// The provider's name in the AuthenticationPolicy.
    pub provider: Arc<str>,
    /// Any of these; none asks for the token alone.
    pub claims: Vec<ClaimRule>,
}

/// A claim that a rule names.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClaimRule {
    /// Where it is in the token, a dot between names.
    pub name: Arc<str>,
    /// Any of these, as its value or in its list.
    pub values: Vec<Arc<str>>,
}

impl HttpAttributes {
    /// Whether nothing is asked for.
    pub fn is_empty(&self) -> bool {
        self.methods.is_empty() && self.paths.is_empty() && self.hosts.is_empty() && self.headers.is_empty()
    }
}
