//! The roots that the nodes of a mesh trust, as its controllers publish them.

use std::path::Path;

use rustls::pki_types::CertificateDer;

use crate::{
    TrustError,
    ca::{self, CaError},
};

/// The roots of a mesh: one, during a rotation two.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Roots(Vec<CertificateDer<'static>>);

impl Roots {
    /// Reads PEM; refused where not every one of them can be trusted.
    pub fn parse(pem: &str) -> Result<Self, TrustError> {
        let roots = ca::certificates(pem).map_err(|problem| TrustError::Pem { problem })?;
        for (number, der) in (1..).zip(&roots) {
            webpki::anchor_from_trusted_cert(der).map_err(|source| TrustError::Root { number, source })?;
        }
        Ok(Self(roots))
    }

    /// Those of an authority, which has read them.
    pub(crate) fn of(certificates: Vec<CertificateDer<'static>>) -> Self {
        Self(certificates)
    }

    /// Their DER.
    pub fn certificates(&self) -> &[CertificateDer<'static>] {
        &self.0
    }

    /// What [`Roots::kept`] reads, in place of what is there.
    pub fn keep(&self, path: &Path) -> Result<(), CaError> {
        if let Some(folder) = path.parent() {
            ca::make_folder(folder)?;
        }
        ca::replace(path, &ca::encode(&self.0))
    }

    /// What was kept last; `None` where there is nothing of use.
    pub fn kept(path: &Path) -> Option<Self> {
        Self::parse(&std::fs::read_to_string(path).ok()?).ok()
    }
}
