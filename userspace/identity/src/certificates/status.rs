//! What people see of the certificates: `weft get certificates`, metrics.

use std::time::{Duration, SystemTime};

use weft_model::{ServiceAccount, SpiffeId};

use super::Wanted;
use crate::{Signer, clock::between};

/// How a node's certificates are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// The trust domain of the mesh.
    pub trust_domain: String,
    /// The issuer's own certificate, as it was seen last.
    pub issuer: Option<Signer>,
    /// How many roots are trusted; two while a root is rotated.
    pub roots: usize,
    /// Why the issuer cannot be used now. What it has issued serves on.
    pub failure: Option<Failure>,
    /// One for each wanted account.
    pub certificates: Vec<CertificateStatus>,
}

/// The certificate of one ServiceAccount.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateStatus {
    /// Whose.
    pub account: ServiceAccount,
    /// The identity in it.
    pub id: SpiffeId,
    /// Its serial number, hexadecimal; `None` before the first was issued.
    pub serial: Option<String>,
    /// From when the certificate is valid.
    pub not_before: Option<SystemTime>,
    /// Until when. It may be past: then none is shown to peers.
    pub not_after: Option<SystemTime>,
    /// How often it was renewed.
    pub renewals: u64,
    /// Why the last try to issue or renew failed.
    pub failure: Option<Failure>,
}

/// Something that fails, and is tried again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// Why, and the remedy.
    pub error: String,
    /// Since when.
    pub since: SystemTime,
    /// How many tries in a row.
    pub tries: u64,
}

impl Status {
    pub(super) fn nothing(wanted: &Wanted) -> Self {
        Self {
            trust_domain: wanted.domains.own().to_owned(),
            issuer: None,
            roots: 0,
            failure: None,
            certificates: Vec::new(),
        }
    }
}

impl CertificateStatus {
    /// Seconds until it ends, for a metric; 0 once it has ended, `None` before there is one.
    pub fn expiry_seconds(&self, now: SystemTime) -> Option<u64> {
        self.not_after.map(|end| between(now, end).as_secs())
    }

    /// Whether it is valid.
    pub fn is_valid(&self, now: SystemTime) -> bool {
        self.not_after.is_some_and(|end| between(now, end) > Duration::ZERO)
    }
}

impl Failure {
    /// The same failure, or another one, once more.
    pub(crate) fn again(before: Option<Self>, error: String, now: SystemTime) -> Self {
        let (since, tries) = before.map_or((now, 0), |before| (before.since, before.tries));
        Self { error, since, tries: tries + 1 }
    }
}
