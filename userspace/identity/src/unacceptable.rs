//! Why a certificate is not accepted.

use std::time::SystemTime;

use weft_abi::Reason;
use weft_model::{SpiffeError, SpiffeId};
use x509_parser::error::X509Error;

/// Why the certificate of the other end is not accepted. All of them fail closed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unacceptable {
    /// Its time is over, or that of an authority in its chain.
    #[error("the certificate, or one of its chain, has expired; is its node's agent able to renew it?")]
    Expired,
    /// Its time has not come.
    #[error("the certificate, or one of its chain, is not valid yet; do the nodes' clocks agree?")]
    NotYetValid,
    /// No trusted root vouches for it.
    #[error("no trusted root vouches for the certificate; do both nodes have the same roots.pem?")]
    Untrusted,
    /// It may not be used for this.
    #[error("the certificate may not be used for a workload's TLS: {what}")]
    Usage {
        /// What about it.
        what: &'static str,
    },
    /// It cannot be read.
    #[error("the certificate is malformed: {what}")]
    Malformed {
        /// What about it.
        what: String,
    },
    /// It carries none or several names of type URI.
    #[error("the certificate has {count} URIs in its subjectAltName; a workload's has exactly one")]
    Uris {
        /// How many.
        count: usize,
    },
    /// Its URI is no SPIFFE ID.
    #[error("the certificate's URI is no SPIFFE ID: {source}")]
    Spiffe {
        /// What is wrong with it.
        #[from]
        source: SpiffeError,
    },
    /// It names no ServiceAccount.
    #[error("{id} names no ServiceAccount: weft's form is spiffe://TRUST-DOMAIN/ns/NAMESPACE/sa/NAME")]
    Form {
        /// What it names.
        id: SpiffeId,
    },
    /// It belongs to another mesh.
    #[error("{id} is of another trust domain than {own} and its aliases (MeshConfig trustDomainAliases)")]
    TrustDomain {
        /// Whom it names.
        id: SpiffeId,
        /// The mesh's own trust domain.
        own: String,
    },
    /// It is another's.
    #[error("the server is {presented}, not {expected}, which was chosen; was its address reused?")]
    AnotherIdentity {
        /// Who was chosen.
        expected: SpiffeId,
        /// Who answered.
        presented: SpiffeId,
    },
}

impl Unacceptable {
    /// The reason that users see.
    pub fn reason(&self) -> Reason {
        match self {
            Self::Expired => Reason::CERTIFICATE_EXPIRED,
            Self::NotYetValid => Reason::CERTIFICATE_NOT_YET_VALID,
            Self::Untrusted => Reason::CERTIFICATE_UNTRUSTED,
            Self::Usage { .. } | Self::Malformed { .. } => Reason::CERTIFICATE_INVALID,
            Self::Uris { .. } | Self::Spiffe { .. } | Self::Form { .. } => Reason::IDENTITY_MALFORMED,
            Self::TrustDomain { .. } => Reason::TRUST_DOMAIN,
            Self::AnotherIdentity { .. } => Reason::ANOTHER_IDENTITY,
        }
    }
}

impl From<webpki::Error> for Unacceptable {
    fn from(error: webpki::Error) -> Self {
        use webpki::Error;
        match error {
            Error::CertExpired { .. } | Error::InvalidCertValidity => Self::Expired,
            Error::CertNotValidYet { .. } => Self::NotYetValid,
            // A forger may copy the names of a trusted chain: what does not verify is not vouched for.
            Error::UnknownIssuer | Error::InvalidSignatureForPublicKey => Self::Untrusted,
            Error::CaUsedAsEndEntity => Self::Usage { what: "it is an authority's" },
            Error::EndEntityUsedAsCa | Error::PathLenConstraintViolated => {
                Self::Usage { what: "one of its chain is no authority for it" }
            }
            Error::RequiredEkuNotFoundContext(_) | Error::EmptyEkuExtension => {
                Self::Usage { what: "its extendedKeyUsage lacks clientAuth or serverAuth" }
            }
            other => Self::Malformed { what: other.to_string() },
        }
    }
}

impl From<X509Error> for Unacceptable {
    fn from(error: X509Error) -> Self {
        Self::Malformed { what: error.to_string() }
    }
}

/// `1970-01-01` plus `seconds`; a time that the system cannot hold is the beginning.
pub(crate) fn at(seconds: i64) -> SystemTime {
    let since = std::time::Duration::from_secs(u64::try_from(seconds).unwrap_or(0));
    SystemTime::UNIX_EPOCH.checked_add(since).unwrap_or(SystemTime::UNIX_EPOCH)
}
