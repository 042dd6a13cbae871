//! Whom a mesh believes: its trust domain, the aliases of it, and the roots that vouch for both.

use std::{sync::Arc, time::SystemTime};

use rustls::{
    crypto::{WebPkiSupportedAlgorithms, aws_lc_rs},
    pki_types::{CertificateDer, TrustAnchor, UnixTime},
};
use webpki::{EndEntityCert, KeyUsage};
use weft_model::{ServiceAccount, SpiffeError, SpiffeId};

use crate::{Unacceptable, leaf::Leaf};

/// The trust domain of the mesh and the other names that it has or had.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrustDomains {
    own: Arc<str>,
    aliases: Vec<Arc<str>>,
}

impl TrustDomains {
    /// A trust domain and its aliases; refused where one of them is none.
    pub fn new<'a>(own: &str, aliases: impl IntoIterator<Item = &'a str>) -> Result<Self, SpiffeError> {
        let aliases = aliases.into_iter().map(SpiffeId::domain).collect::<Result<_, _>>()?;
        Ok(Self { own: SpiffeId::domain(own)?, aliases })
    }

    /// The mesh's own: certificates are issued for it.
    pub fn own(&self) -> &str {
        &self.own
    }

    /// The others, whose certificates are accepted.
    pub fn aliases(&self) -> &[Arc<str>] {
        &self.aliases
    }

    /// The identity that `account` has in this mesh.
    pub fn id(&self, account: &ServiceAccount) -> SpiffeId {
        let path = format!("/ns/{}/sa/{}", account.namespace, account.name).into();
        SpiffeId { trust_domain: Arc::clone(&self.own), path }
    }

    /// The ServiceAccount of this mesh that `id` names. An alias is the mesh itself under another name, so the same
    /// account under each of them is one and the same.
    pub fn account(&self, id: &SpiffeId) -> Result<ServiceAccount, Unacceptable> {
        if id.trust_domain != self.own && !self.aliases.contains(&id.trust_domain) {
            return Err(Unacceptable::TrustDomain { id: id.clone(), own: self.own.to_string() });
        }
        id.service_account().ok_or_else(|| Unacceptable::Form { id: id.clone() })
    }
}

/// What a certificate is to be used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Usage {
    /// By who connects.
    Client,
    /// By who accepts.
    Server,
}

/// The other end of a connection, proven by its certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// What its certificate says, word for word.
    pub id: SpiffeId,
    /// The ServiceAccount of this mesh that it means.
    pub account: ServiceAccount,
    /// The serial number of its certificate, hexadecimal.
    pub serial: String,
    /// When its certificate ends.
    pub not_after: SystemTime,
}

/// Whom a mesh believes. Immutable: a rotation makes another one.
#[derive(Clone, Debug)]
pub struct Trust {
    domains: TrustDomains,
    roots: Vec<CertificateDer<'static>>,
    anchors: Vec<TrustAnchor<'static>>,
}

/// Why roots cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TrustError {
    /// Their text cannot be read.
    #[error("the roots cannot be read: {problem}")]
    Pem {
        /// What is wrong.
        problem: String,
    },
    /// There is none.
    #[error("there is no root to trust: every certificate would be refused")]
    NoRoot,
    /// One of them cannot be read.
    #[error("root {number} cannot be read: {source}")]
    Root {
        /// Which, counted from 1.
        number: usize,
        /// The cause.
        source: webpki::Error,
    },
}

impl Trust {
    /// Trusts what `roots` vouch for in `domains`.
    pub fn new(domains: TrustDomains, roots: Vec<CertificateDer<'static>>) -> Result<Self, TrustError> {
        let anchor = |(index, root): (usize, &CertificateDer<'static>)| {
            let anchor = webpki::anchor_from_trusted_cert(root);
            let anchor = anchor.map_err(|source| TrustError::Root { number: index + 1, source })?;
            Ok(anchor.to_owned())
        };
        let anchors: Vec<_> = roots.iter().enumerate().map(anchor).collect::<Result<_, _>>()?;
        if anchors.is_empty() { Err(TrustError::NoRoot) } else { Ok(Self { domains, roots, anchors }) }
    }

    /// The same roots, for `domains`.
    pub(crate) fn with(&self, domains: TrustDomains) -> Self {
        Self { domains, ..self.clone() }
    }

    /// The trust domain and its aliases.
    pub fn domains(&self) -> &TrustDomains {
        &self.domains
    }

    /// The DER of each root: several while one takes over from another.
    pub fn roots(&self) -> &[CertificateDer<'static>] {
        &self.roots
    }

    /// Who presents `leaf`, or why that is not accepted: chain, times and usage first, then what it says.
    ///
    /// No DNS name is looked at: workloads are known by their ServiceAccount, wherever they run.
    pub fn verify(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        usage: Usage,
        now: SystemTime,
    ) -> Result<Peer, Unacceptable> {
        let usage = match usage {
            Usage::Client => KeyUsage::client_auth(),
            Usage::Server => KeyUsage::server_auth(),
        };
        let since_epoch = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        EndEntityCert::try_from(leaf)?.verify_for_usage(
            algorithms().all,
            &self.anchors,
            intermediates,
            UnixTime::since_unix_epoch(since_epoch),
            usage,
            None,
            None,
        )?;
        self.read(leaf)
    }

    /// Who a certificate speaks of that was verified before.
    pub(crate) fn read(&self, leaf: &CertificateDer<'_>) -> Result<Peer, Unacceptable> {
        let Leaf { id, serial, not_after, .. } = Leaf::read(leaf)?;
        let account = self.domains.account(&id)?;
        Ok(Peer { id, account, serial, not_after })
    }
}

impl PartialEq for Trust {
    fn eq(&self, other: &Self) -> bool {
        self.domains == other.domains && self.roots == other.roots
    }
}

impl Eq for Trust {}

/// Signatures that are accepted in certificates and handshakes. RSA too: an authority need not be ours.
pub(crate) fn algorithms() -> WebPkiSupportedAlgorithms {
    aws_lc_rs::default_provider().signature_verification_algorithms
}
