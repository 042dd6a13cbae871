//! What holds of whatever is given for a certificate: asked by the fuzz target `certificate`, and by a bounded test.

use rustls::pki_types::CertificateDer;
use weft_model::SpiffeId;

use super::Leaf;

/// Reads what may be a certificate. It ends without a panic, and what is accepted says who it is in one way only.
pub(crate) fn certificate(bytes: &[u8]) {
    let Ok(leaf) = Leaf::read(&CertificateDer::from(bytes)) else { return };
    let said = format!("spiffe://{}{}", leaf.id.trust_domain, leaf.id.path);
    assert_eq!(SpiffeId::parse(&said).as_ref(), Ok(&leaf.id), "its identity reads as another: {said}");
    assert!(leaf.serial.bytes().all(|byte| byte.is_ascii_hexdigit()), "{}", leaf.serial);
    let longer = [bytes, &[0]].concat();
    assert!(Leaf::read(&CertificateDer::from(longer)).is_err(), "bytes that follow it are not seen");
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::{CertificateDer, Leaf, certificate};
    use crate::testing::{Authority, Forger, web};

    /// Certificates that are accepted, and that are not, to begin with.
    fn genuine() -> Vec<Vec<u8>> {
        let uri = "spiffe://mesh.example/ns/shop/sa/web";
        let (honest, signer) = (Authority::new().issue(web()), Forger::new());
        let forged =
            [signer.svid(&[uri], |_| ()), signer.svid(&[uri, uri], |_| ()), signer.svid(&[], |_| ())];
        [honest].into_iter().chain(forged).map(|svid| svid.chain()[0].to_vec()).collect()
    }

    #[test]
    fn what_is_no_certificate_or_almost_one_is_read_without_a_panic() {
        let genuine = genuine();
        for bytes in &genuine {
            certificate(bytes);
        }
        let is_accepted = |bytes: &Vec<u8>| Leaf::read(&CertificateDer::from(&bytes[..])).is_ok();
        assert_eq!(genuine.iter().map(is_accepted).collect::<Vec<_>>(), [true, true, false, false]);
        let changed = (
            0..genuine.len(),
            vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
            any::<prop::sample::Index>(),
        );
        let config = ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() };
        proptest!(config, |((which, changes, cut) in changed, noise in vec(any::<u8>(), 0..512))| {
            certificate(&noise);
            let mut bytes = genuine[which].clone();
            for (at, byte) in changes {
                let at = at.index(bytes.len());
                bytes[at] = byte;
            }
            certificate(&bytes);
            certificate(&bytes[..cut.index(bytes.len())]);
        });
    }
}
