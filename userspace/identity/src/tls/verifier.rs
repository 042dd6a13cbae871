//! rustls asks, [`Trust`] answers.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, OtherError, PeerIncompatible,
    SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::verify_tls13_signature,
    pki_types::{CertificateDer, ServerName, UnixTime},
    server::danger::{ClientCertVerified, ClientCertVerifier},
};
use weft_model::ServiceAccount;

use crate::{
    Unacceptable, Usage,
    trust::{Trust, algorithms},
};

/// A server's: any workload of the mesh, and nobody without a certificate.
#[derive(Debug)]
pub(super) struct AnyWorkload {
    pub(super) trust: Arc<Trust>,
}

/// A client's: this workload and no other.
#[derive(Debug)]
pub(super) struct ThisWorkload {
    pub(super) trust: Arc<Trust>,
    pub(super) account: ServiceAccount,
}

impl ClientCertVerifier for AnyWorkload {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        // A client has one certificate; the names of our roots would tell a stranger more than it needs.
        &[]
    }

    fn verify_client_cert(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        self.trust.verify(leaf, intermediates, Usage::Client, time(now)).map_err(refuse)?;
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(no_tls12())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, leaf, signed, &algorithms())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        algorithms().supported_schemes()
    }
}

impl ServerCertVerifier for ThisWorkload {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let peer = self.trust.verify(leaf, intermediates, Usage::Server, time(now)).map_err(refuse)?;
        if peer.account == self.account {
            return Ok(ServerCertVerified::assertion());
        }
        let expected = self.trust.domains().id(&self.account);
        Err(refuse(Unacceptable::AnotherIdentity { expected, presented: peer.id }))
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(no_tls12())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, leaf, signed, &algorithms())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        algorithms().supported_schemes()
    }
}

/// Sent through rustls, and found again by [`Refused`](super::Refused). The peer gets the alert of the kind that fits.
fn refuse(why: Unacceptable) -> Error {
    let error = match why {
        Unacceptable::Expired => CertificateError::Expired,
        Unacceptable::NotYetValid => CertificateError::NotValidYet,
        Unacceptable::Untrusted => CertificateError::UnknownIssuer,
        other => CertificateError::Other(OtherError(Arc::new(other))),
    };
    Error::InvalidCertificate(error)
}

/// What rustls calls now.
fn time(now: UnixTime) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(now.as_secs())
}

fn no_tls12() -> Error {
    Error::PeerIncompatible(PeerIncompatible::ServerTlsVersionIsDisabledByOurConfig)
}
