//! What signs: an issuer, and those by whose trust in its root peers accept what it signs.

use std::time::{Duration, SystemTime};

use rcgen::PublicKeyData;
use rustls::pki_types::CertificateDer;
use weft_model::{ServiceAccount, SpiffeId};

use super::{
    CaError,
    chain::{self, Keyed},
    make,
    shelf::{Part, Place, Shelf},
};
use crate::{Authority, Signer, Trust, TrustDomains, Usage, leaf, unacceptable::at};

/// An issuer with the roots that vouch for it.
#[derive(Debug)]
pub(super) struct Signing {
    pub(super) issuer: Keyed,
    /// Where the issuer's certificate is from.
    pub(super) place: Place,
    pub(super) roots: Vec<CertificateDer<'static>>,
    pub(super) domains: TrustDomains,
}

impl Signing {
    /// Reads the issuer first: a rotation that happens meanwhile writes the roots first, and so they are at least as
    /// new as the issuer.
    pub(super) fn read(shelf: &impl Shelf) -> Result<Self, CaError> {
        let (issuer, place) = (Keyed::read(shelf, Part::Issuer)?, shelf.place(Part::Issuer));
        let roots = chain::read_roots(shelf)?;
        let domains = domains(&issuer.chain[0], &place, Part::Issuer.noun())?;
        Ok(Self { issuer, place, roots, domains })
    }

    /// A certificate of `account` for the key `of`, and its issuers'; verified as a peer will verify it.
    pub(super) fn workload(
        &self,
        account: &ServiceAccount,
        of: &impl PublicKeyData,
        ttl: Duration,
        now: SystemTime,
    ) -> Result<Vec<CertificateDer<'static>>, CaError> {
        self.valid_now(now)?;
        let id = self.domains.id(account);
        let certificate = make::workload(&self.issuer, &id, of, ttl.max(SHORTEST), now)?;
        let chain = self.chain(certificate);
        // It looks at its own work as a peer will: a part that was restored or edited wrongly shows here.
        let trust = Trust::new(self.domains.clone(), self.roots.clone())?;
        for usage in [Usage::Server, Usage::Client] {
            let verified = trust.verify(&chain[0], &chain[1..], usage, now);
            verified.map_err(|source| CaError::NotVouched { place: self.place.clone(), source })?;
        }
        Ok(chain)
    }

    /// A certificate and its issuers'.
    pub(super) fn chain(&self, certificate: CertificateDer<'static>) -> Vec<CertificateDer<'static>> {
        std::iter::once(certificate).chain(self.issuer.chain.iter().cloned()).collect()
    }

    /// What it stands for.
    pub(super) fn authority(&self) -> Result<Authority, CaError> {
        Ok(Authority {
            trust_domain: self.domains.own().into(),
            issuer: self.signer()?,
            roots: self.roots.clone(),
        })
    }

    /// Fails unless the issuer is valid at `now`.
    pub(super) fn valid_now(&self, now: SystemTime) -> Result<(), CaError> {
        valid_now(&self.signer()?, now, &self.place, Part::Issuer.noun())
    }

    fn signer(&self) -> Result<Signer, CaError> {
        signer(&self.issuer.chain[0], &self.place, Part::Issuer.noun())
    }
}

/// The trust domain that an authority's certificate names.
pub(super) fn domains(
    der: &CertificateDer<'_>,
    place: &Place,
    what: &'static str,
) -> Result<TrustDomains, CaError> {
    let field = |problem: String| CaError::Field { place: place.clone(), field: "SPIFFE ID", problem, what };
    let parsed = leaf::parse(der).map_err(|error| field(error.to_string()))?;
    let uri = leaf::only_uri(&parsed).map_err(|error| field(error.to_string()))?;
    let id = SpiffeId::parse(uri).map_err(|error| field(error.to_string()))?;
    if !id.path.is_empty() {
        return Err(field(format!("{id} is no trust domain's")));
    }
    TrustDomains::new(&id.trust_domain, []).map_err(|error| field(error.to_string()))
}

/// What an authority's certificate says about itself.
pub(super) fn signer(der: &CertificateDer<'_>, place: &Place, what: &'static str) -> Result<Signer, CaError> {
    Signer::read(der).map_err(|problem| CaError::Field {
        place: place.clone(),
        field: "certificate",
        problem: problem.to_string(),
        what,
    })
}

impl Signer {
    /// What an authority's certificate says about itself.
    pub(crate) fn read(der: &CertificateDer<'_>) -> Result<Self, crate::Unacceptable> {
        let parsed = leaf::parse(der)?;
        let name = parsed.subject().iter_common_name().next().and_then(|name| name.as_str().ok());
        Ok(Self {
            name: name.unwrap_or_default().to_owned(),
            serial: leaf::serial(&parsed),
            not_before: at(parsed.validity().not_before.timestamp()),
            not_after: at(parsed.validity().not_after.timestamp()),
        })
    }
}

/// Fails unless the certificate is valid at `now`.
pub(super) fn valid_now(
    signer: &Signer,
    now: SystemTime,
    place: &Place,
    what: &'static str,
) -> Result<(), CaError> {
    let Signer { not_before, not_after, .. } = *signer;
    if (not_before..=not_after).contains(&now) {
        return Ok(());
    }
    Err(CaError::NotValidNow { place: place.clone(), what, not_before, not_after })
}

/// A certificate that lives shorter could be over before it is used.
const SHORTEST: Duration = Duration::from_secs(5);
