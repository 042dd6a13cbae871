//! What agents and controllers say to each other.

use serde::{Deserialize, Serialize};
use weft_model::ServiceAccount;

/// Whom an agent's token is for: no other service takes it, and no other's token is taken.
pub const AUDIENCE: &str = "weft-ca";

/// The Secret of the authority that controllers make.
pub const SECRET: &str = "weft-ca";

/// The Service of controllers.
pub const SERVICE: &str = "weft-controller";

/// The name of its port.
pub const SERVICE_PORT: &str = "https";

/// The ConfigMap of the roots that are trusted, and its key.
pub const BUNDLE: &str = "weft-trust-bundle";
/// See [`BUNDLE`].
pub const BUNDLE_KEY: &str = "roots.pem";

/// The name that controllers in `namespace` have a certificate of.
pub fn host(namespace: &str) -> String {
    format!("{SERVICE}.{namespace}.svc")
}

/// GET: how the authority is ([`AuthorityAnswer`]).
pub const AUTHORITY: &str = "/v1/authority";

/// POST: a certificate for a workload of the asking node ([`CertificateOrder`], [`CertificateAnswer`]).
pub const CERTIFICATES: &str = "/v1/certificates";

/// How the authority is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AuthorityAnswer {
    /// The trust domain that it issues for.
    pub trust_domain: String,
    /// The issuer's certificate, PEM.
    pub issuer: String,
}

/// What an agent asks for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CertificateOrder {
    /// Whose certificate.
    pub service_account: ServiceAccount,
    /// The request, PEM: its key, and nothing else, counts.
    pub request: String,
    /// How long it should be valid; it may be less.
    pub ttl_seconds: u64,
}

/// What it gets.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CertificateAnswer {
    /// The workload's certificate, then its issuers', PEM.
    pub chain: String,
}

/// Why it does not; with a status that is not 2xx.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Refusal {
    /// One word, as metrics have it.
    pub reason: String,
    /// A sentence, with the remedy.
    pub error: String,
}
