//! What is asked to be signed: a public key, by who has the private one. The key itself stays where it was made.

use rcgen::{CertificateParams, CertificateSigningRequestParams, PublicKey};

use crate::{PrivateKey, SvidError, ca::CaError};

/// A request for a certificate (PKCS#10) whose signature shows that who asks has the private key. What else it says
/// counts for nothing: whose certificate it is follows from who asks.
#[derive(Debug)]
pub struct Request {
    public_key: PublicKey,
}

impl Request {
    /// The request of who has `key`, as PEM.
    pub fn by(key: &PrivateKey) -> Result<String, SvidError> {
        let made = |source| SvidError::Generate { source };
        let mut params = CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.serialize_request(&*key.pair().map_err(made)?).and_then(|request| request.pem()).map_err(made)
    }

    /// Reads one, and verifies its signature.
    pub fn parse(pem: &str) -> Result<Self, CaError> {
        let refused = |problem: &str| CaError::Request { problem: problem.to_owned() };
        if pem.len() > LONGEST {
            return Err(refused("it is longer than any"));
        }
        let request = CertificateSigningRequestParams::from_pem(pem);
        let public_key = request.map_err(|error| refused(&error.to_string()))?.public_key;
        if public_key.algorithm() != &rcgen::PKCS_ECDSA_P256_SHA256 {
            return Err(refused("its key is of another kind"));
        }
        Ok(Self { public_key })
    }

    pub(crate) fn public_key(&self) -> &PublicKey {
        &self.public_key
    }
}

/// Bytes: some ten times what one has.
const LONGEST: usize = 4 << 10;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_read_by_its_key_and_nothing_of_the_key_is_in_it() {
        let key = PrivateKey::generate().unwrap();
        let pem = Request::by(&key).unwrap();
        let request = Request::parse(&pem).unwrap();
        let pair = key.pair().unwrap();
        assert_eq!(
            rcgen::PublicKeyData::subject_public_key_info(request.public_key()),
            rcgen::PublicKeyData::subject_public_key_info(&*pair)
        );
        assert!(!pem.contains("PRIVATE"));
    }

    #[test]
    fn a_key_that_its_owner_did_not_sign_for_is_refused() {
        let pem = Request::by(&PrivateKey::generate().unwrap()).unwrap();
        let mut der = pem::parse(&pem).unwrap().into_contents();
        // The last byte is of the signature.
        *der.last_mut().unwrap() ^= 1;
        let forged = pem::encode(&pem::Pem::new("CERTIFICATE REQUEST", der));
        assert!(matches!(Request::parse(&forged), Err(CaError::Request { .. })));
        for bad in ["", "-----BEGIN CERTIFICATE REQUEST-----", &"a".repeat(5000)] {
            assert!(Request::parse(bad).is_err());
        }
    }

    #[test]
    fn a_key_of_another_kind_is_refused() {
        let pair = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384).unwrap();
        let pem = CertificateParams::default().serialize_request(&pair).unwrap().pem().unwrap();
        let error = Request::parse(&pem).unwrap_err().to_string();
        assert!(error.contains("another kind") && error.contains("P-256"), "{error}");
    }
}
