//! A private key and the certificates with it, as one PEM file.

use std::path::Path;

use pem::Pem;
use rustls::pki_types::{
    CertificateDer,
    pem::{PemObject as _, SectionKind},
};
use zeroize::Zeroizing;

use super::{CaError, files};
use crate::{PrivateKey, leaf};

/// `root.pem` or `issuer.pem`.
#[derive(Debug)]
pub(super) struct Keyed {
    pub(super) key: PrivateKey,
    /// The certificate of the key first.
    pub(super) chain: Vec<CertificateDer<'static>>,
}

impl Keyed {
    /// Reads the file and holds it to what it should be; `what` is `root` or `issuer`.
    pub(super) fn read(path: &Path, what: &'static str) -> Result<Self, CaError> {
        let field = |field: &'static str| {
            move |problem: String| CaError::Field { path: path.to_owned(), field, problem, what }
        };
        let (mut keys, chain) = sections(&files::read(path, true)?).map_err(field("PEM"))?;
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

    /// Replaces the file.
    pub(super) fn write(&self, path: &Path) -> Result<(), CaError> {
        let key = Zeroizing::new(pem::encode_config(&Pem::new("PRIVATE KEY", self.key.pkcs8()), UNIX));
        files::replace(path, &Zeroizing::new([key.as_str(), &encode(&self.chain)].concat()))
    }
}

/// The certificates of `roots.pem`.
pub(super) fn read_roots(path: &Path) -> Result<Vec<CertificateDer<'static>>, CaError> {
    let field = |problem| CaError::Field { path: path.to_owned(), field: "roots", problem, what: "root" };
    let (_, roots) = sections(&files::read(path, false)?).map_err(field)?;
    if roots.is_empty() {
        return Err(field("there is no certificate".to_owned()));
    }
    Ok(roots)
}

/// Replaces `roots.pem`.
pub(super) fn write_roots(path: &Path, roots: &[CertificateDer<'static>]) -> Result<(), CaError> {
    files::replace(path, &encode(roots))
}

type Sections = (Vec<Zeroizing<Vec<u8>>>, Vec<CertificateDer<'static>>);

fn sections(text: &str) -> Result<Sections, String> {
    let (mut keys, mut certificates) = (Vec::new(), Vec::new());
    for section in <(SectionKind, Vec<u8>)>::pem_slice_iter(text.as_bytes()) {
        match section.map_err(|error| error.to_string())? {
            (SectionKind::PrivateKey, der) => keys.push(Zeroizing::new(der)),
            (SectionKind::Certificate, der) => certificates.push(CertificateDer::from(der)),
            (other, _) => return Err(format!("{other:?} stands in it, which does not belong there")),
        }
    }
    Ok((keys, certificates))
}

fn encode(certificates: &[CertificateDer<'static>]) -> String {
    certificates.iter().map(|der| pem::encode_config(&Pem::new("CERTIFICATE", der.as_ref()), UNIX)).collect()
}

const UNIX: pem::EncodeConfig = pem::EncodeConfig::new().set_line_ending(pem::LineEnding::LF);
