//! JSON Web Tokens (RFC 7519): who may issue them to a pod's clients, where the keys are, and what tokens say.

mod claims;
mod keys;

use std::{collections::BTreeMap, fmt, sync::Arc};

use serde::{Deserialize, Serialize};

pub use claims::{ProvenClaims, TokenClaims};
pub use keys::{Jwks, JwksError, JwtKey, KeyMaterial, SkippedKey, Unusable};

use crate::ObjectName;

/// Somebody whose tokens a pod takes.
///
/// A request without a token passes, with nothing proven; one with a token that is not good is refused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JwtProvider {
    /// What rules call it by. Unique among a pod's providers.
    pub name: Arc<str>,
    /// The tokens' `iss`, word for word.
    pub issuer: Arc<str>,
    /// One of these has to be in the tokens' `aud`; none asks for nothing.
    pub audiences: Vec<Arc<str>>,
    /// Where its keys are.
    pub keys: JwksSource,
    /// Where in a request its tokens are; at least one place.
    pub headers: Vec<TokenHeader>,
    /// Whether the app gets to see the token, too.
    pub forward: bool,
}

/// Keys that were fetched, by [`JwksSource::location`].
pub type JwksHeld = BTreeMap<Arc<str>, Arc<Jwks>>;

/// A header that may carry a token.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct TokenHeader {
    /// Its name, in lower case.
    pub name: Arc<str>,
    /// What stands before the token, in any case of its letters. A value that does not begin so carries none.
    pub prefix: Arc<str>,
}

/// Where the keys of a provider are.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum JwksSource {
    /// Here.
    Inline(Arc<Jwks>),
    /// At this `http` or `https` URL.
    Uri(Arc<str>),
    /// At this path of the endpoints of a Service, by HTTP in clear text.
    Service {
        /// The Service.
        name: ObjectName,
        /// Its port.
        port: u16,
        /// Where there; begins with `/`.
        path: Arc<str>,
    },
}

impl Default for TokenHeader {
    fn default() -> Self {
        Self { name: "authorization".into(), prefix: "Bearer ".into() }
    }
}

impl JwksSource {
    /// By what [`crate::Snapshot::jwks`] knows it; `None` where the keys are here.
    pub fn location(&self) -> Option<Arc<str>> {
        match self {
            Self::Inline(_) => None,
            Self::Uri(uri) => Some(Arc::clone(uri)),
            Self::Service { .. } => Some(self.to_string().into()),
        }
    }
}

impl fmt::Display for JwksSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Inline(_) => f.write_str("inline"),
            Self::Uri(uri) => f.write_str(uri),
            Self::Service { name, port, path } => write!(f, "Service {name}:{port}{path}"),
        }
    }
}
