//! Why no TLS connection came about, or why one broke.

use std::{io, time::Duration};

use rustls::{AlertDescription, CertificateError, Error, PeerIncompatible};
use weft_abi::Reason;
use weft_model::SpiffeId;

use crate::{SvidError, Unacceptable};

/// Why no TLS connection came about. No byte of an app has passed then.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    /// There is no valid certificate to show.
    #[error(
        "the certificate of {id} on this node has expired; `weft get certificates` says why it was not renewed"
    )]
    OwnExpired {
        /// Whose.
        id: SpiffeId,
    },
    /// The own certificate cannot be used.
    #[error("{0}")]
    Own(#[from] SvidError),
    /// Another version of TLS.
    #[error("the peer speaks no TLS 1.3, and this mesh nothing else; is it a proxy of weft?")]
    Version,
    /// Nothing in common.
    #[error("the peer has no cryptography in common with this mesh: {source}")]
    Parameters {
        /// What is missing.
        source: Error,
    },
    /// Another protocol inside TLS.
    #[error("the peer does not agree to weft/1 (ALPN); is it the app's own TLS?")]
    Protocol,
    /// No TLS at all, or broken.
    #[error("what the peer sent is no TLS, or broken: {source}")]
    Malformed {
        /// What is wrong with it.
        source: Error,
    },
    /// Well formed, and sealed with other keys.
    #[error(
        "a record of the handshake does not open with this connection's keys: it was recorded and sent again, or changed on \
         its way: {source}"
    )]
    Decrypt {
        /// What rustls says.
        source: Error,
    },
    /// The connection ended.
    #[error("the connection ended in the TLS handshake: {source}")]
    Broken {
        /// How.
        source: io::Error,
    },
    /// It took too long.
    #[error("the TLS handshake was not done within {within:?}; is the peer's node overloaded?")]
    Timeout {
        /// How long it was waited for.
        within: Duration,
    },
    /// The peer said no.
    #[error("the peer refused with the TLS alert {alert:?}; the log of its node's proxy says why")]
    ByPeer {
        /// What it said.
        alert: AlertDescription,
    },
    /// The peer showed no certificate.
    #[error("the peer shows no certificate; only workloads of the mesh are served here")]
    NoCertificate,
    /// The peer's certificate is not accepted.
    #[error("{0}")]
    Certificate(#[from] Unacceptable),
}

impl Refused {
    /// The reason that users see.
    pub fn reason(&self) -> Reason {
        match self {
            Self::OwnExpired { .. } | Self::Own(_) => Reason::NO_CERTIFICATE,
            Self::Version => Reason::TLS_VERSION,
            Self::Parameters { .. } => Reason::TLS_PARAMETERS,
            Self::Protocol => Reason::TLS_PROTOCOL,
            Self::Malformed { .. } => Reason::TLS_MALFORMED,
            Self::Decrypt { .. } => Reason::TLS_DECRYPT,
            Self::Broken { .. } => Reason::TLS_BROKEN,
            Self::Timeout { .. } => Reason::TLS_TIMEOUT,
            Self::ByPeer { .. } => Reason::TLS_REFUSED,
            Self::NoCertificate => Reason::CERTIFICATE_MISSING,
            Self::Certificate(why) => why.reason(),
        }
    }

    /// What an error of a [`TlsStream`](super::TlsStream) means. In TLS 1.3 a client is done before the server has
    /// looked at its certificate: a refusal reaches it with the first read or write.
    pub fn of(error: io::Error) -> Self {
        match error.downcast::<Error>() {
            Ok(error) => Self::of_tls(error),
            Err(source) => Self::Broken { source },
        }
    }

    pub(super) fn of_tls(error: Error) -> Self {
        match error {
            Error::AlertReceived(AlertDescription::ProtocolVersion) => Self::Version,
            Error::AlertReceived(AlertDescription::NoApplicationProtocol) | Error::NoApplicationProtocol => {
                Self::Protocol
            }
            Error::AlertReceived(alert) => Self::ByPeer { alert },
            Error::NoCertificatesPresented => Self::NoCertificate,
            Error::InvalidCertificate(error) => Self::Certificate(unacceptable(error)),
            Error::PeerIncompatible(ref what) if is_version(what) => Self::Version,
            Error::PeerIncompatible(_) => Self::Parameters { source: error },
            Error::DecryptError => Self::Decrypt { source: error },
            source => Self::Malformed { source },
        }
    }
}

fn unacceptable(error: CertificateError) -> Unacceptable {
    match error {
        CertificateError::Expired => Unacceptable::Expired,
        CertificateError::NotValidYet => Unacceptable::NotYetValid,
        CertificateError::UnknownIssuer => Unacceptable::Untrusted,
        CertificateError::Other(other) => match other.0.downcast_ref::<Unacceptable>() {
            Some(why) => why.clone(),
            None => Unacceptable::Malformed { what: other.to_string() },
        },
        // What rustls itself finds: the peer signed the handshake with another key than its certificate's.
        other => Unacceptable::Malformed { what: other.to_string() },
    }
}

fn is_version(what: &PeerIncompatible) -> bool {
    matches!(
        what,
        PeerIncompatible::ServerDoesNotSupportTls12Or13
            | PeerIncompatible::ServerTlsVersionIsDisabledByOurConfig
            | PeerIncompatible::SupportedVersionsExtensionRequired
            | PeerIncompatible::Tls12NotOffered
            | PeerIncompatible::Tls12NotOfferedOrEnabled
    )
}
