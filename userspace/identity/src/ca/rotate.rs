//! `weft ca init` and `weft ca rotate`: what they write, and in which order.
//!
//! Every order is such that a crash between two parts leaves an authority that works, and whose rotation can be begun
//! or finished again: what is to be trusted is written before what relies on it, and withdrawn after.

use std::{path::Path, sync::Arc, time::Duration};

use super::{
    CaError,
    chain::{self, Keyed},
    files::{self, Folder},
    make,
    shelf::{Keeping, Part, Shelf},
    signing::{Signing, domains, signer, valid_now},
};
use crate::{Clock, Signer, TrustDomains};

/// How an authority stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    /// Where it is kept.
    pub keeping: Keeping,
    /// The trust domain that it issues for.
    pub trust_domain: Arc<str>,
    /// The roots that are trusted, the oldest first. Two while one takes over from the other.
    pub roots: Vec<Signer>,
    /// The issuer in force.
    pub issuer: Signer,
}

impl Standing {
    /// Reads how it stands.
    pub(super) fn read(shelf: &impl Shelf) -> Result<Self, CaError> {
        let signing = Signing::read(shelf)?;
        let place = shelf.place(Part::Roots);
        let roots = signing.roots.iter().map(|der| signer(der, &place, Part::Root.noun()));
        Ok(Self {
            keeping: shelf.keeping(),
            trust_domain: signing.domains.own().into(),
            roots: roots.collect::<Result<_, _>>()?,
            issuer: signer(&signing.issuer.chain[0], &signing.place, Part::Issuer.noun())?,
        })
    }
}

/// Makes an authority for `trust_domain` in `dir`: a root and an issuer. Refused where there is one.
pub fn init(dir: &Path, trust_domain: &str, clock: &Clock) -> Result<Standing, CaError> {
    let domain = domain(trust_domain)?;
    files::make_folder(dir)?;
    let _lock = files::lock(dir)?;
    files::none_there(dir)?;
    make_in(&mut Folder(dir.to_owned()), &domain, clock)
}

/// Makes a new issuer under the root. What the old one signed stays valid until it ends.
pub fn rotate_issuer(dir: &Path, clock: &Clock) -> Result<Standing, CaError> {
    let _lock = files::lock_existing(dir)?;
    rotate_issuer_in(&mut Folder(dir.to_owned()), clock)
}

/// Begins to replace the root: a new one is trusted beside it, and vouches for a new issuer.
pub fn rotate_root(dir: &Path, clock: &Clock) -> Result<Standing, CaError> {
    let _lock = files::lock_existing(dir)?;
    rotate_root_in(&mut Folder(dir.to_owned()), clock)
}

/// Ends the overlap: only the newest root is trusted. Refused before the certificates of the old one have ended, which
/// is `overlap` after the rotation began.
pub fn finish_root(dir: &Path, overlap: Duration, clock: &Clock) -> Result<Standing, CaError> {
    let _lock = files::lock_existing(dir)?;
    finish_root_in(&mut Folder(dir.to_owned()), overlap, clock)
}

/// The trust domain of this name.
pub(super) fn domain(name: &str) -> Result<TrustDomains, CaError> {
    TrustDomains::new(name, []).map_err(|source| CaError::TrustDomain { name: name.to_owned(), source })
}

pub(super) fn make_in(
    shelf: &mut impl Shelf,
    domain: &TrustDomains,
    clock: &Clock,
) -> Result<Standing, CaError> {
    let root = make::root(domain.own(), clock.now())?;
    let issuer = make::issuer(&root, domain.own(), clock.now())?;
    chain::write_roots(shelf, &root.chain)?;
    root.write(shelf, Part::Root)?;
    issuer.write(shelf, Part::Issuer)?;
    Standing::read(shelf)
}

pub(super) fn rotate_issuer_in(shelf: &mut impl Shelf, clock: &Clock) -> Result<Standing, CaError> {
    let (root, domain) = the_root(shelf, clock)?;
    make::issuer(&root, domain.own(), clock.now())?.write(shelf, Part::Issuer)?;
    Standing::read(shelf)
}

pub(super) fn rotate_root_in(shelf: &mut impl Shelf, clock: &Clock) -> Result<Standing, CaError> {
    let place = shelf.place(Part::Roots);
    let roots = chain::read_roots(shelf)?;
    let (old, domain) = the_root(shelf, clock)?;
    if let [_, .., newest] = roots.as_slice()
        && *newest == old.chain[0]
    {
        return Err(CaError::OverlapRuns { place });
    }
    let mut new = make::root(domain.own(), clock.now())?;
    // Not beside all of `roots`: a newer one than the root that signs is what an interrupted rotation left.
    chain::write_roots(shelf, &[old.chain[0].clone(), new.chain[0].clone()])?;
    let cross = make::cross(&new, &old, domain.own())?;
    new.chain.push(cross);
    // The issuer before the root: if the crash comes between, the old root is still there to sign.
    make::issuer(&new, domain.own(), clock.now())?.write(shelf, Part::Issuer)?;
    new.write(shelf, Part::Root)?;
    Standing::read(shelf)
}

pub(super) fn finish_root_in(
    shelf: &mut impl Shelf,
    overlap: Duration,
    clock: &Clock,
) -> Result<Standing, CaError> {
    let place = shelf.place(Part::Roots);
    let roots = chain::read_roots(shelf)?;
    let [_, .., newest] = roots.as_slice() else { return Err(CaError::NoOverlap { place }) };
    let (mut root, _) = the_root(shelf, clock)?;
    if root.chain[0] != *newest {
        return Err(CaError::Interrupted { place });
    }
    let began = signer(newest, &place, Part::Root.noun())?.not_before;
    let until = began + make::SKEW + overlap.min(make::ROOT_TIME);
    if clock.now() < until {
        return Err(CaError::TooEarly { until });
    }
    let mut issuer = Keyed::read(shelf, Part::Issuer)?;
    root.chain.truncate(1);
    issuer.chain.truncate(1);
    issuer.write(shelf, Part::Issuer)?;
    chain::write_roots(shelf, std::slice::from_ref(newest))?;
    root.write(shelf, Part::Root)?;
    Standing::read(shelf)
}

/// The root that signs, and its trust domain.
fn the_root(shelf: &impl Shelf, clock: &Clock) -> Result<(Keyed, TrustDomains), CaError> {
    let place = shelf.place(Part::Root);
    let root = Keyed::read(shelf, Part::Root).map_err(|error| match error {
        CaError::Missing { place } => CaError::RootAway { place },
        other => other,
    })?;
    let about = signer(&root.chain[0], &place, Part::Root.noun())?;
    valid_now(&about, clock.now(), &place, Part::Root.noun())?;
    let domain = domains(&root.chain[0], &place, Part::Root.noun())?;
    Ok((root, domain))
}
