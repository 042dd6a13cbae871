//! The issuer that signs with the key in an authority's directory.

use std::{
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use futures_util::future::{BoxFuture, ready};
use rustls::pki_types::CertificateDer;
use weft_model::SpiffeId;

use super::{
    CaError,
    chain::{self, Keyed},
    files, make,
};
use crate::{
    Authority, Clock, IssueError, Issuer, Order, PrivateKey, Signer, Svid, Trust, TrustDomains, Usage, leaf,
    unacceptable::at,
};

/// Signs with `issuer.pem` of a directory. Reads it anew each time, which takes well below a millisecond: a rotation
/// needs no other word, and no key of the authority stays in memory.
#[derive(Clone, Debug)]
pub struct DirectoryIssuer {
    dir: PathBuf,
    clock: Clock,
}

impl DirectoryIssuer {
    /// The issuer of the authority in `dir`, which need not be there yet.
    pub fn new(dir: impl Into<PathBuf>, clock: Clock) -> Self {
        Self { dir: dir.into(), clock }
    }

    fn sign(&self, order: &Order) -> Result<Svid, IssueError> {
        let Held { issuer, roots, domains } = Held::read(&self.dir)?;
        let path = self.dir.join(files::ISSUER);
        let (now, signer) = (self.clock.now(), signer(&issuer.chain[0], &path, "issuer")?);
        valid_now(&signer, now, &path, "issuer")?;
        let key = PrivateKey::generate()?;
        let ttl = order.ttl.max(SHORTEST);
        let certificate = make::workload(&issuer, &domains.id(&order.account), &key, ttl, now)?;
        let svid = Svid::new(std::iter::once(certificate).chain(issuer.chain).collect(), key)?;
        // It looks at its own work as a peer will: a file that was restored or edited wrongly shows here.
        let trust = Trust::new(domains, roots)?;
        for usage in [Usage::Server, Usage::Client] {
            let verified = trust.verify(&svid.chain()[0], &svid.chain()[1..], usage, now);
            verified.map_err(|source| CaError::NotVouched { path: path.clone(), source })?;
        }
        Ok(svid)
    }

    fn look(&self) -> Result<Authority, IssueError> {
        let held = Held::read(&self.dir)?;
        let path = self.dir.join(files::ISSUER);
        Ok(Authority {
            trust_domain: held.domains.own().into(),
            issuer: signer(&held.issuer.chain[0], &path, "issuer")?,
            roots: held.roots,
        })
    }
}

impl Issuer for DirectoryIssuer {
    fn authority(&self) -> BoxFuture<'_, Result<Authority, IssueError>> {
        Box::pin(ready(self.look()))
    }

    fn issue(&self, order: Order) -> BoxFuture<'_, Result<Svid, IssueError>> {
        Box::pin(ready(self.sign(&order)))
    }
}

/// What agents read of the directory.
pub(super) struct Held {
    pub(super) issuer: Keyed,
    pub(super) roots: Vec<CertificateDer<'static>>,
    pub(super) domains: TrustDomains,
}

impl Held {
    /// Reads the issuer first: a rotation that happens meanwhile writes the roots first, and so they are at least as
    /// new as the issuer.
    pub(super) fn read(dir: &Path) -> Result<Self, CaError> {
        let path = dir.join(files::ISSUER);
        let issuer = Keyed::read(&path, "issuer")?;
        let roots = chain::read_roots(&dir.join(files::ROOTS))?;
        let domains = domains(&issuer.chain[0], &path, "issuer")?;
        Ok(Self { issuer, roots, domains })
    }
}

/// The trust domain that an authority's certificate names.
pub(super) fn domains(
    der: &CertificateDer<'_>,
    path: &Path,
    what: &'static str,
) -> Result<TrustDomains, CaError> {
    let field = |problem: String| CaError::Field { path: path.to_owned(), field: "SPIFFE ID", problem, what };
    let parsed = leaf::parse(der).map_err(|error| field(error.to_string()))?;
    let uri = leaf::only_uri(&parsed).map_err(|error| field(error.to_string()))?;
    let id = SpiffeId::parse(uri).map_err(|error| field(error.to_string()))?;
    if !id.path.is_empty() {
        return Err(field(format!("{id} is no trust domain's")));
    }
    TrustDomains::new(&id.trust_domain, []).map_err(|error| field(error.to_string()))
}

/// What an authority's certificate says about itself.
pub(super) fn signer(der: &CertificateDer<'_>, path: &Path, what: &'static str) -> Result<Signer, CaError> {
    let field = |problem| CaError::Field { path: path.to_owned(), field: "certificate", problem, what };
    let parsed = leaf::parse(der).map_err(|error| field(error.to_string()))?;
    let name = parsed.subject().iter_common_name().next().and_then(|name| name.as_str().ok());
    Ok(Signer {
        name: name.unwrap_or_default().to_owned(),
        serial: leaf::serial(&parsed),
        not_before: at(parsed.validity().not_before.timestamp()),
        not_after: at(parsed.validity().not_after.timestamp()),
    })
}

/// Fails unless the certificate is valid at `now`.
pub(super) fn valid_now(
    signer: &Signer,
    now: SystemTime,
    path: &Path,
    what: &'static str,
) -> Result<(), CaError> {
    let Signer { not_before, not_after, .. } = *signer;
    if (not_before..=not_after).contains(&now) {
        return Ok(());
    }
    Err(CaError::NotValidNow { path: path.to_owned(), what, not_before, not_after })
}

/// A certificate that lives shorter could be over before it is used.
const SHORTEST: Duration = Duration::from_secs(5);
