//! `weft ca init` and `weft ca rotate`: what they write, and in which order.
//!
//! Every order is such that a crash between two files leaves an authority that works, and whose rotation can be begun
//! or finished again: what is to be trusted is written before what relies on it, and withdrawn after.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use super::{
    CaError,
    chain::{self, Keyed},
    directory::{Held, domains, signer, valid_now},
    files, make,
};
use crate::{Clock, Signer, TrustDomains};

/// How an authority stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    /// Its directory.
    pub dir: PathBuf,
    /// The trust domain that it issues for.
    pub trust_domain: Arc<str>,
    /// The roots that are trusted, the oldest first. Two while one takes over from the other.
    pub roots: Vec<Signer>,
    /// The issuer in force.
    pub issuer: Signer,
}

impl Standing {
    fn read(dir: &Path) -> Result<Self, CaError> {
        let held = Held::read(dir)?;
        let roots = held.roots.iter().map(|der| signer(der, &dir.join(files::ROOTS), "root"));
        Ok(Self {
            dir: dir.to_owned(),
            trust_domain: held.domains.own().into(),
            roots: roots.collect::<Result<_, _>>()?,
            issuer: signer(&held.issuer.chain[0], &dir.join(files::ISSUER), "issuer")?,
        })
    }
}

/// Makes an authority for `trust_domain` in `dir`: a root and an issuer. Refused where there is one.
pub fn init(dir: &Path, trust_domain: &str, clock: &Clock) -> Result<Standing, CaError> {
    let domain = TrustDomains::new(trust_domain, [])
        .map_err(|source| CaError::TrustDomain { name: trust_domain.to_owned(), source })?;
    files::make_folder(dir)?;
    let _lock = files::lock(dir)?;
    files::none_there(dir)?;
    let root = make::root(domain.own(), clock.now())?;
    let issuer = make::issuer(&root, domain.own(), clock.now())?;
    chain::write_roots(&dir.join(files::ROOTS), &root.chain)?;
    root.write(&dir.join(files::ROOT))?;
    issuer.write(&dir.join(files::ISSUER))?;
    Standing::read(dir)
}

/// Makes a new issuer under the root. What the old one signed stays valid until it ends.
pub fn rotate_issuer(dir: &Path, clock: &Clock) -> Result<Standing, CaError> {
    let _lock = files::lock_existing(dir)?;
    let (root, domain) = the_root(dir, clock)?;
    make::issuer(&root, domain.own(), clock.now())?.write(&dir.join(files::ISSUER))?;
    Standing::read(dir)
}

/// Begins to replace the root: a new one is trusted beside it, and vouches for a new issuer.
pub fn rotate_root(dir: &Path, clock: &Clock) -> Result<Standing, CaError> {
    let _lock = files::lock_existing(dir)?;
    let path = dir.join(files::ROOTS);
    let roots = chain::read_roots(&path)?;
    let (old, domain) = the_root(dir, clock)?;
    if let [_, .., newest] = roots.as_slice()
        && *newest == old.chain[0]
    {
        return Err(CaError::OverlapRuns { path });
    }
    let mut new = make::root(domain.own(), clock.now())?;
    // Not beside all of `roots`: a newer one than the root that signs is what an interrupted rotation left.
    chain::write_roots(&path, &[old.chain[0].clone(), new.chain[0].clone()])?;
    let cross = make::cross(&new, &old, domain.own())?;
    new.chain.push(cross);
    // The issuer before the root: if the crash comes between, the old root is still there to sign.
    make::issuer(&new, domain.own(), clock.now())?.write(&dir.join(files::ISSUER))?;
    new.write(&dir.join(files::ROOT))?;
    Standing::read(dir)
}

/// Ends the overlap: only the newest root is trusted. Refused before the certificates of the old one have ended, which
/// is `overlap` after the rotation began.
pub fn finish_root(dir: &Path, overlap: Duration, clock: &Clock) -> Result<Standing, CaError> {
    let _lock = files::lock_existing(dir)?;
    let path = dir.join(files::ROOTS);
    let roots = chain::read_roots(&path)?;
    let [_, .., newest] = roots.as_slice() else { return Err(CaError::NoOverlap { path }) };
    let (mut root, _) = the_root(dir, clock)?;
    if root.chain[0] != *newest {
        return Err(CaError::Interrupted { path });
    }
    let until = signer(newest, &path, "root")?.not_before + make::SKEW + overlap.min(make::ROOT_TIME);
    if clock.now() < until {
        return Err(CaError::TooEarly { until });
    }
    let mut issuer = Keyed::read(&dir.join(files::ISSUER), "issuer")?;
    root.chain.truncate(1);
    issuer.chain.truncate(1);
    issuer.write(&dir.join(files::ISSUER))?;
    chain::write_roots(&path, std::slice::from_ref(newest))?;
    root.write(&dir.join(files::ROOT))?;
    Standing::read(dir)
}

/// The root that signs, and its trust domain.
fn the_root(dir: &Path, clock: &Clock) -> Result<(Keyed, TrustDomains), CaError> {
    let path = dir.join(files::ROOT);
    let root = Keyed::read(&path, "root").map_err(|error| match error {
        CaError::Missing { path } => CaError::RootAway { path },
        other => other,
    })?;
    let about = signer(&root.chain[0], &path, "root")?;
    valid_now(&about, clock.now(), &path, "root")?;
    let domain = domains(&root.chain[0], &path, "root")?;
    Ok((root, domain))
}
