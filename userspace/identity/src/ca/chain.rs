//! A private key and the certificates with it, as one PEM text.

use pem::Pem;
use rustls::pki_types::{
    CertificateDer,
    pem::{PemObject as _, SectionKind},
};
use zeroize::Zeroizing;

use super::{
    CaError,
    shelf::{Part, Place, Shelf},
};
use crate::{PrivateKey, leaf};

/// The root or the issuer.
#[derive(Debug)]
pub(super) struct Keyed {
    pub(super) key: PrivateKey,
    /// The certificate of the key first.
    pub(super) chain: Vec<CertificateDer<'static>>,
}

impl Keyed {
    /// Reads the part and holds it to what it should be.
    pub(super) fn read(shelf: &impl Shelf, part: Part) -> Result<Self, CaError> {
        Self::parse(&shelf.read(part)?, &shelf.place(part), part.noun())
    }

    /// The same of a text of `place`; `what` is `root` or `issuer`.
    pub(super) fn parse(text: &str, place: &Place, what: &'static str) -> Result<Self, CaError> {
        let field = |field: &'static str| {
            move |problem: String| CaError::Field { place: place.clone(), field, problem, what }
        };
        let (mut keys, chain) = sections(text).map_err(field("PEM"))?;
        let key = match (keys.pop(), keys.is_empty()) {
            (Some(key), true) => PrivateKey::from_pkcs8(key),
            (None, _) => return Err(field("private key")("there is none (PKCS#8)".to_owned())),
            _ => return Err(field("private key")("there are several".to_owned())),
        };
        let pair = key.pair().map_err(|error| field("private key")(error.to_string()))?;
        let own = chain.first().ok_or_else(|| field("certificate")("there is none".to_owned()))?;
        let parsed = leaf::parse(own).map_err(|error| field("certificate")(error.to_string()))?;
        if !parsed.is_ca() {
            return Err(field("certificate")("it is no authority's".to_owned()));
        }
        if parsed.public_key().raw != rcgen::PublicKeyData::subject_public_key_info(&*pair) {
            return Err(field("private key")("it does not belong to the certificate".to_owned()));
        }
        Ok(Self { key, chain })
    }

    /// Replaces the part.
    pub(super) fn write(&self, to: &mut impl Shelf, part: Part) -> Result<(), CaError> {
        let key = Zeroizing::new(pem::encode_config(&Pem::new("PRIVATE KEY", self.key.pkcs8()), UNIX));
        to.write(part, &Zeroizing::new([key.as_str(), &encode(&self.chain)].concat()))
    }
}

/// The roots that are trusted.
pub(super) fn read_roots(shelf: &impl Shelf) -> Result<Vec<CertificateDer<'static>>, CaError> {
    parse_roots(&shelf.read(Part::Roots)?, &shelf.place(Part::Roots))
}

/// The same of a text of `place`.
pub(super) fn parse_roots(text: &str, place: &Place) -> Result<Vec<CertificateDer<'static>>, CaError> {
    let field = |problem| CaError::Field { place: place.clone(), field: "roots", problem, what: "root" };
    certificates(text).map_err(field)
}

/// Replaces the roots that are trusted.
pub(super) fn write_roots(shelf: &mut impl Shelf, roots: &[CertificateDer<'static>]) -> Result<(), CaError> {
    shelf.write(Part::Roots, &encode(roots))
}

/// The certificates of a PEM text: one at the least, and nothing else but keys.
pub(crate) fn certificates(text: &str) -> Result<Vec<CertificateDer<'static>>, String> {
    let (_, certificates) = sections(text)?;
    if certificates.is_empty() { Err("there is no certificate".to_owned()) } else { Ok(certificates) }
}

type Sections = (Vec<Zeroizing<Vec<u8>>>, Vec<CertificateDer<'static>>);

fn sections(text: &str) -> Result<Sections, String> {
    let (mut keys, mut certificates) = (Vec::new(), Vec::new());
    for section in <(SectionKind, Vec<u8>)>::pem_slice_iter(text.as_bytes()) {
        match section.map_err(|error| error.to_string())? {
            (SectionKind::PrivateKey | SectionKind::RsaPrivateKey | SectionKind::EcPrivateKey, der) => {
                keys.push(Zeroizing::new(der));
            }
            (SectionKind::Certificate, der) => certificates.push(CertificateDer::from(der)),
            (other, _) => return Err(format!("{other:?} stands in it, which does not belong there")),
        }
    }
    Ok((keys, certificates))
}

/// Certificates as PEM, one after the other.
pub fn encode(certificates: &[CertificateDer<'static>]) -> String {
    certificates.iter().map(|der| pem::encode_config(&Pem::new("CERTIFICATE", der.as_ref()), UNIX)).collect()
}

const UNIX: pem::EncodeConfig = pem::EncodeConfig::new().set_line_ending(pem::LineEnding::LF);
