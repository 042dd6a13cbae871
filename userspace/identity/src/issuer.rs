//! Who issues certificates: an authority's directory, or a mesh's controllers.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use futures_util::future::BoxFuture;
use rustls::pki_types::CertificateDer;
use weft_model::{ServiceAccount, SpiffeId};

use crate::{Svid, SvidError, TrustError, Unacceptable, ca, clock::between, controller};

/// Issues certificates. One that is away or broken stops nothing: what it has issued serves until it ends.
pub trait Issuer: Send + Sync {
    /// Whom it vouches for, and how it is.
    fn authority(&self) -> BoxFuture<'_, Result<Authority, IssueError>>;

    /// Issues a certificate. The private key is new each time, and is made wherever the issuer has it made: here, with
    /// only the request sent away, or at the issuer.
    fn issue(&self, order: Order) -> BoxFuture<'_, Result<Svid, IssueError>>;
}

/// What is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Order {
    /// Whose certificate.
    pub account: ServiceAccount,
    /// How long it should be valid. An issuer may give less.
    pub ttl: Duration,
}

/// What an issuer stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Authority {
    /// The trust domain that it issues for.
    pub trust_domain: Arc<str>,
    /// The DER of the roots that vouch for what it issues, and of those that did.
    pub roots: Vec<CertificateDer<'static>>,
    /// Its own certificate.
    pub issuer: Signer,
}

/// The certificate of an issuer or a root.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signer {
    /// Its name: the subject's common name.
    pub name: String,
    /// The serial number, hexadecimal.
    pub serial: String,
    /// From when it is valid.
    pub not_before: SystemTime,
    /// Until when.
    pub not_after: SystemTime,
}

impl Signer {
    /// How long it has been valid.
    pub fn age(&self, now: SystemTime) -> Duration {
        between(self.not_before, now)
    }

    /// How long it is valid yet.
    pub fn left(&self, now: SystemTime) -> Duration {
        between(now, self.not_after)
    }

    /// Whether it is time to rotate it: less than [`Signer::WARNED_AT`] is left.
    pub fn ends_soon(&self, now: SystemTime) -> bool {
        self.left(now) < Self::WARNED_AT
    }

    /// 60 days: two monthly rounds of maintenance, one of which may be missed.
    pub const WARNED_AT: Duration = Duration::from_hours(60 * 24);
}

/// Why no certificate was issued.
#[derive(Debug, thiserror::Error)]
pub enum IssueError {
    /// The authority's directory.
    #[error("{0}")]
    Directory(#[from] ca::CaError),
    /// The controllers.
    #[error("{0}")]
    Controller(#[from] controller::ControllerError),
    /// It does not answer.
    #[error("the issuer did not answer within {within:?}; is it up, and can this node reach it?")]
    Timeout {
        /// How long it was waited for.
        within: Duration,
    },
    /// It is another mesh's.
    #[error(
        "the issuer is of trust domain {issuer}, this mesh is {mesh}; name the directory of its \
         authority, or the trust domain that this one is for: --trust-domain {issuer}, or MeshConfig trustDomain"
    )]
    TrustDomain {
        /// The issuer's.
        issuer: Arc<str>,
        /// The mesh's.
        mesh: String,
    },
    /// Its roots cannot be used.
    #[error("the issuer's roots cannot be used: {0}")]
    Roots(#[from] TrustError),
    /// No key, or one that does not fit.
    #[error("{0}")]
    Svid(#[from] SvidError),
    /// What it issued would be refused by every peer.
    #[error("what the issuer gave for {account} would be refused by every peer: {source}")]
    Useless {
        /// For whom.
        account: ServiceAccount,
        /// Why.
        source: Unacceptable,
    },
    /// It issued another's.
    #[error("the issuer gave a certificate of {given} for {account}")]
    Another {
        /// For whom.
        account: ServiceAccount,
        /// Whose it is.
        given: SpiffeId,
    },
}
