//! A workload's certificate with its private key, as it is held in memory.

use std::{fmt, sync::Arc, time::SystemTime};

use rcgen::KeyPair;
use rustls::{
    crypto::aws_lc_rs::sign::any_supported_type,
    pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer},
    sign::CertifiedKey,
};
use weft_model::SpiffeId;
use zeroize::Zeroizing;

use crate::{Unacceptable, leaf::Leaf};

/// A private key in PKCS#8. It is never written to a disk, never printed, and overwritten when it is dropped.
#[derive(Clone, PartialEq, Eq)]
pub struct PrivateKey(Zeroizing<Vec<u8>>);

impl PrivateKey {
    /// A new one: ECDSA with P-256.
    pub fn generate() -> Result<Self, SvidError> {
        let pair = Zeroizing::new(KeyPair::generate().map_err(|source| SvidError::Generate { source })?);
        Ok(Self(Zeroizing::new(pair.serialized_der().to_vec())))
    }

    /// A key that came as PKCS#8.
    pub fn from_pkcs8(der: Zeroizing<Vec<u8>>) -> Self {
        Self(der)
    }

    /// Its PKCS#8, for who hands it on.
    pub(crate) fn pkcs8(&self) -> &[u8] {
        &self.0
    }

    /// To sign with. Of an authority that was brought the key may be of another kind: RSA, and in the older forms.
    pub(crate) fn pair(&self) -> Result<Zeroizing<KeyPair>, rcgen::Error> {
        let der = PrivateKeyDer::try_from(self.pkcs8()).map_err(|_| rcgen::Error::CouldNotParseKeyPair)?;
        KeyPair::try_from(&der).map(Zeroizing::new)
    }
}

impl fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PrivateKey(..)")
    }
}

/// An X.509-SVID: a workload's certificate, its chain, and its private key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Svid {
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKey,
    leaf: Leaf,
}

/// Why a certificate and a key are no SVID.
#[derive(Debug, thiserror::Error)]
pub enum SvidError {
    /// No key came about.
    #[error("cannot generate a private key: {source}")]
    Generate {
        /// The cause.
        source: rcgen::Error,
    },
    /// The chain has no certificate.
    #[error("there is no certificate; a chain begins with the workload's own")]
    Empty,
    /// The certificate is no workload's.
    #[error("{0}")]
    Certificate(#[from] Unacceptable),
    /// The key cannot be used.
    #[error("the private key cannot be used: {source}; PKCS#8 with ECDSA P-256 can")]
    Key {
        /// The cause.
        source: rustls::Error,
    },
    /// The key is another certificate's.
    #[error("the private key does not belong to the certificate of {id}")]
    KeyMismatch {
        /// Whose certificate.
        id: SpiffeId,
    },
}

impl Svid {
    /// Puts a chain (the workload's own certificate first, then its issuers', without the root) and a key together.
    pub fn new(chain: Vec<CertificateDer<'static>>, key: PrivateKey) -> Result<Self, SvidError> {
        let leaf = Leaf::read(chain.first().ok_or(SvidError::Empty)?)?;
        let svid = Self { chain, key, leaf };
        let certified = svid.certified()?;
        let spki = certified.key.public_key();
        if spki.is_some_and(|spki| spki.as_ref() != svid.leaf.public_key) {
            return Err(SvidError::KeyMismatch { id: svid.leaf.id });
        }
        Ok(svid)
    }

    /// Whose it is.
    pub fn id(&self) -> &SpiffeId {
        &self.leaf.id
    }

    /// The serial number, hexadecimal.
    pub fn serial(&self) -> &str {
        &self.leaf.serial
    }

    /// From when it is valid.
    pub fn not_before(&self) -> SystemTime {
        self.leaf.not_before
    }

    /// Until when it is valid.
    pub fn not_after(&self) -> SystemTime {
        self.leaf.not_after
    }

    /// The workload's own certificate, then its issuers'.
    pub fn chain(&self) -> &[CertificateDer<'static>] {
        &self.chain
    }

    pub(crate) fn key(&self) -> &PrivateKey {
        &self.key
    }

    /// As rustls takes it.
    pub(crate) fn certified(&self) -> Result<CertifiedKey, SvidError> {
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(self.key.pkcs8()));
        let key = any_supported_type(&key).map_err(|source| SvidError::Key { source })?;
        Ok(CertifiedKey::new(self.chain.clone(), Arc::clone(&key)))
    }

    /// A chain that no issuer of ours would make, as an attacker may show it.
    #[cfg(test)]
    pub(crate) fn unchecked(chain: Vec<CertificateDer<'static>>, key: PrivateKey) -> Self {
        let id = SpiffeId::parse("spiffe://unchecked").expect("it is one");
        let forever = SystemTime::now() + std::time::Duration::from_secs(1 << 32);
        let leaf = Leaf {
            id,
            serial: String::new(),
            not_before: SystemTime::UNIX_EPOCH,
            not_after: forever,
            public_key: Vec::new(),
        };
        Self { chain, key, leaf }
    }
}
