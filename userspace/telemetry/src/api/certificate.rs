//! `weft get certificates`: who the pods of a node are to others, and for how long.

use serde::{Deserialize, Serialize};

use super::Time;

/// The certificates of a node, and who issues them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CertificatesView {
    /// The trust domain of the mesh.
    pub trust_domain: String,
    /// The issuer's own certificate, as it was seen last.
    pub issuer: Option<IssuerView>,
    /// How many roots are trusted: two while a root is rotated.
    pub roots: usize,
    /// Why none can be issued or renewed now. What was issued serves until it ends.
    pub failure: Option<CertificateFailure>,
    /// One for each ServiceAccount of the node's enrolled pods.
    pub certificates: Vec<CertificateView>,
}

/// An issuer's own certificate.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct IssuerView {
    /// Its name.
    pub name: String,
    /// Its serial number, hexadecimal.
    pub serial: String,
    /// From when it is valid.
    pub not_before: Time,
    /// Until when.
    pub not_after: Time,
    /// How old it is.
    pub age_seconds: u64,
    /// How long it is valid yet.
    pub expires_in_seconds: u64,
    /// What is to be done before it ends, once that is near.
    pub warning: Option<String>,
}

/// The certificate of a ServiceAccount.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CertificateView {
    /// The ServiceAccount's namespace.
    pub namespace: String,
    /// Its name.
    pub service_account: String,
    /// The SPIFFE ID in it.
    pub identity: String,
    /// Its serial number, hexadecimal; `null` before the first was issued.
    pub serial: Option<String>,
    /// From when it is valid.
    pub not_before: Option<Time>,
    /// Until when.
    pub not_after: Option<Time>,
    /// How long it is valid yet: 0 once it has ended.
    pub expires_in_seconds: Option<u64>,
    /// How often it was renewed.
    pub renewals: u64,
    /// Why the last try to issue or renew it failed.
    pub failure: Option<CertificateFailure>,
}

/// Something that fails, and is tried again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CertificateFailure {
    /// Why, and the remedy.
    pub error: String,
    /// Since when.
    pub since: Time,
    /// How many tries in a row.
    pub tries: u64,
}

impl CertificatesView {
    /// How many are valid.
    pub fn valid(&self) -> usize {
        self.certificates.iter().filter(|certificate| certificate.is_valid()).count()
    }

    /// How long all that are valid are so yet.
    pub fn first_ends_in_seconds(&self) -> Option<u64> {
        let valid = self.certificates.iter().filter(|certificate| certificate.is_valid());
        valid.filter_map(|certificate| certificate.expires_in_seconds).min()
    }
}

impl CertificateView {
    /// Whether it is shown to peers.
    pub fn is_valid(&self) -> bool {
        self.expires_in_seconds.is_some_and(|seconds| seconds > 0)
    }
}
