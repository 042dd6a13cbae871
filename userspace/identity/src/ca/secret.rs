//! An authority that is the values of a Secret: all of it in one object, which is replaced whole.
//!
//! So there is no half of it, whoever reads or writes: an API server takes a change of the version that was read and of
//! no other. A Secret that somebody brings is read only.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, SystemTime},
};

use rustls::pki_types::CertificateDer;
use weft_model::ServiceAccount;
use zeroize::Zeroizing;

use super::{
    CaError, Standing,
    chain::{self, Keyed},
    make,
    rotate::{domain, finish_root_in, make_in, rotate_issuer_in, rotate_root_in},
    shelf::{Keeping, Part, Place, Shelf},
    signing::Signing,
};
use crate::{Authority, Clock, PrivateKey, Request, controller::Roots, leaf};

/// Values under their keys.
pub type Values = BTreeMap<String, Vec<u8>>;

/// An authority that controllers make and rotate, in a Secret.
pub struct SecretAuthority {
    keeping: Keeping,
    values: Values,
}

/// What is due without being told: each cuts nothing, and is far from its last moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Due {
    /// A new issuer: a third of the old one's year is left.
    Issuer,
    /// A new root beside the old one, of whose ten years two are left.
    Root,
    /// The old root goes: no certificate can be alive that it vouched for.
    Finish,
}

/// What an authority signs with, read and held to what it should be.
#[derive(Debug)]
pub struct SecretIssuer(Signing);

impl SecretAuthority {
    /// The authority in the Secret `name`, `namespace/name`, that has these values.
    pub fn new(name: impl Into<Arc<str>>, values: Values) -> Self {
        Self { keeping: Keeping::Secret(name.into()), values }
    }

    /// Makes one for `trust_domain`: a root and an issuer. Roots that are trusted already, of an authority that was lost,
    /// are trusted beside the new one, as in a rotation.
    pub fn make(
        name: impl Into<Arc<str>>,
        trust_domain: &str,
        trusted: &[CertificateDer<'static>],
        clock: &Clock,
    ) -> Result<Self, CaError> {
        let mut made = Self::new(name, Values::new());
        make_in(&mut made, &domain(trust_domain)?, clock)?;
        if !trusted.is_empty() {
            let roots = [trusted, &chain::read_roots(&made)?].concat();
            chain::write_roots(&mut made, &roots)?;
        }
        Ok(made)
    }

    /// What the Secret is to hold.
    pub fn into_values(self) -> Values {
        self.values
    }

    /// How it stands.
    pub fn standing(&self) -> Result<Standing, CaError> {
        Standing::read(self)
    }

    /// As [`rotate_issuer`](super::rotate_issuer).
    pub fn rotate_issuer(&mut self, clock: &Clock) -> Result<Standing, CaError> {
        rotate_issuer_in(self, clock)
    }

    /// As [`rotate_root`](super::rotate_root).
    pub fn rotate_root(&mut self, clock: &Clock) -> Result<Standing, CaError> {
        rotate_root_in(self, clock)
    }

    /// As [`finish_root`](super::finish_root).
    pub fn finish_root(&mut self, overlap: Duration, clock: &Clock) -> Result<Standing, CaError> {
        finish_root_in(self, overlap, clock)
    }

    /// What is to be done to it by now, without being told.
    pub fn due(&self, clock: &Clock) -> Result<Option<Due>, CaError> {
        Ok(Due::of(&self.standing()?, clock.now()))
    }

    /// Does it.
    pub fn carry_out(&mut self, due: Due, clock: &Clock) -> Result<Standing, CaError> {
        match due {
            Due::Issuer => self.rotate_issuer(clock),
            Due::Root => self.rotate_root(clock),
            Due::Finish => self.finish_root(LONGEST_LIFE, clock),
        }
    }

    /// What signs.
    pub fn issuer(&self) -> Result<SecretIssuer, CaError> {
        Ok(SecretIssuer(Signing::read(self)?))
    }
}

impl Due {
    fn of(standing: &Standing, now: SystemTime) -> Option<Self> {
        let Standing { roots, issuer, .. } = standing;
        match roots.as_slice() {
            [_, .., newest] if newest.age(now) > LONGEST_LIFE + 2 * make::SKEW => Some(Self::Finish),
            [root] if root.left(now) < ROOT_LEFT => Some(Self::Root),
            _ if issuer.left(now) < ISSUER_LEFT => Some(Self::Issuer),
            _ => None,
        }
    }
}

impl Shelf for SecretAuthority {
    fn keeping(&self) -> Keeping {
        self.keeping.clone()
    }

    fn read(&self, part: Part) -> Result<Zeroizing<String>, CaError> {
        text(&self.values, &self.place(part))
    }

    fn write(&mut self, part: Part, text: &str) -> Result<(), CaError> {
        self.values.insert(part.file().to_owned(), text.as_bytes().to_vec());
        Ok(())
    }
}

impl SecretIssuer {
    /// What somebody has brought in the Secret `name`: `tls.crt`, `tls.key` and `ca.crt`, as cert-manager writes them, or
    /// `issuer.pem` and `roots.pem`, as `weft ca init` does. It issues for `trust_domain`, unless it names its own.
    pub fn brought(name: &str, values: &Values, trust_domain: &str) -> Result<Self, CaError> {
        let place = |name_of| Place { keeping: Keeping::Brought(name.into()), name: name_of };
        if values.contains_key(Part::Issuer.file()) {
            let keeping = Keeping::Brought(name.into());
            return SecretAuthority { keeping, values: values.clone() }.issuer();
        }
        let at = place(TLS_CERTIFICATE);
        let both = [text(values, &place(TLS_KEY))?.as_str(), "\n", &text(values, &at)?].concat();
        let mut issuer = Keyed::parse(&Zeroizing::new(both), &at, Part::Issuer.noun())?;
        let roots = match text(values, &place(TLS_ROOTS)) {
            Ok(roots) => chain::parse_roots(&roots, &place(TLS_ROOTS))?,
            Err(missing) => vec![last_root(&issuer.chain).ok_or(missing)?],
        };
        // Whom a root vouches for is shown; the root itself the other end has.
        let own = issuer.chain[0].clone();
        issuer.chain.retain(|der| *der == own || !is_self_signed(der));
        Ok(Self(Signing { issuer, place: at, roots, domains: domain(trust_domain)? }))
    }

    /// The trust domain that it issues for.
    pub fn trust_domain(&self) -> &str {
        self.0.domains.own()
    }

    /// The same, of which it is said that roots of others are trusted beside its own: each once, and in an order that is the
    /// same whichever of them signs.
    #[must_use]
    pub fn trusting_as_well(mut self, others: &Roots) -> Self {
        self.0.roots.extend_from_slice(others.certificates());
        self.0.roots.sort_by(|a, b| a.as_ref().cmp(b.as_ref()));
        self.0.roots.dedup();
        self
    }

    /// The roots that are trusted.
    pub fn roots(&self) -> Roots {
        Roots::of(self.0.roots.clone())
    }

    /// Whether it may sign at `now`.
    pub fn is_valid(&self, now: SystemTime) -> bool {
        self.0.valid_now(now).is_ok()
    }

    /// What it stands for.
    pub fn authority(&self) -> Result<Authority, CaError> {
        self.0.authority()
    }

    /// Its own certificate and the roots that are trusted, as PEM.
    pub fn certificate_pem(&self) -> String {
        chain::encode(&self.0.issuer.chain[..1])
    }

    /// The roots that are trusted, as PEM.
    pub fn roots_pem(&self) -> String {
        chain::encode(&self.0.roots)
    }

    /// A certificate of `account` for the key of `request`, and its issuers'. Nothing else of the request counts.
    pub fn sign(
        &self,
        request: &Request,
        account: &ServiceAccount,
        ttl: Duration,
        now: SystemTime,
    ) -> Result<Vec<CertificateDer<'static>>, CaError> {
        self.0.workload(account, request.public_key(), ttl, now)
    }

    /// The certificate of a controller that answers as `host`, its issuers', and its key.
    pub fn serving(
        &self,
        host: &str,
        ttl: Duration,
        now: SystemTime,
    ) -> Result<(Vec<CertificateDer<'static>>, PrivateKey), CaError> {
        self.0.valid_now(now)?;
        let (key, pair) = make::key("controller")?;
        let certificate = make::serving(&self.0.issuer, host, &*pair, ttl, now)?;
        Ok((self.0.chain(certificate), key))
    }
}

fn text(values: &Values, place: &Place) -> Result<Zeroizing<String>, CaError> {
    let value = values.get(place.name).ok_or_else(|| CaError::Missing { place: place.clone() })?;
    Ok(Zeroizing::new(String::from_utf8_lossy(value).into_owned()))
}

/// The root at the end of a chain that holds it.
fn last_root(chain: &[CertificateDer<'static>]) -> Option<CertificateDer<'static>> {
    chain.last().filter(|der| is_self_signed(der)).cloned()
}

fn is_self_signed(der: &CertificateDer<'_>) -> bool {
    leaf::parse(der).is_ok_and(|parsed| parsed.subject() == parsed.issuer())
}

/// How long a certificate may live at the longest (MeshConfig, `certificates.ttl`).
const LONGEST_LIFE: Duration = Duration::from_hours(2160);
const ISSUER_LEFT: Duration = Duration::from_hours(24 * 120);
const ROOT_LEFT: Duration = Duration::from_hours(24 * 730);

/// The keys of a Secret of the type `kubernetes.io/tls`, with cert-manager's one more.
pub(super) const TLS_CERTIFICATE: &str = "tls.crt";
const TLS_KEY: &str = "tls.key";
pub(super) const TLS_ROOTS: &str = "ca.crt";

#[cfg(test)]
mod tests;
