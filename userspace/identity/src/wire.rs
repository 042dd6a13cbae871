//! How certificates and trust travel from the agent to its proxy: bytes that go through memory only.
//!
//! The number of bytes that follow, then records of a tag, a length and as many bytes; numbers are of four bytes, big
//! endian. A record whose tag is not known is passed over, so that a
//! proxy understands the agent of the version after its own. Whatever holds a private key is overwritten when it is
//! dropped.
//!
//! | tag | bytes | times |
//! |---|---|---|
//! | 1 | the private key, PKCS#8 | 1 |
//! | 2 | a certificate, DER; the workload's own first | 1.. |
//! | 3 | the trust domain | 1 |
//! | 4 | an alias of it | 0.. |
//! | 5 | a root, DER | 1.. |
//!
//! All that a proxy holds is one such list, of whole ones as values:
//!
//! | tag | bytes | times |
//! |---|---|---|
//! | 6 | whom to trust | 0..1 |
//! | 7 | an SVID | 0.. |
//! | 8 | a wanted account without one, `namespace/name` | 0.. |

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use rustls::pki_types::CertificateDer;
use weft_model::{ServiceAccount, SpiffeError, SpiffeId};
use zeroize::Zeroizing;

use crate::{Held, PrivateKey, Svid, SvidError, Trust, TrustDomains, TrustError};

/// Why bytes are not what they should be.
#[derive(Debug, thiserror::Error)]
pub enum WireError {
    /// They are more than any has.
    #[error("{size} bytes are more than the {longest} that an agent sends")]
    TooLong {
        /// How many.
        size: usize,
        /// How many there may be.
        longest: usize,
    },
    /// They are fewer or more than they say.
    #[error("the bytes do not end where they say; did all of them arrive?")]
    Truncated,
    /// A record is missing, or there several times.
    #[error("there is not exactly one {what}; do agent and proxy speak the same version?")]
    NotOne {
        /// What.
        what: &'static str,
    },
    /// The trust domain or an alias is none.
    #[error("{0}")]
    Domain(#[from] SpiffeError),
    /// The certificate or key cannot be used.
    #[error("{0}")]
    Svid(#[from] SvidError),
    /// The roots cannot be used.
    #[error("{0}")]
    Trust(#[from] TrustError),
    /// A certificate is no ServiceAccount's.
    #[error("{id} names no ServiceAccount: spiffe://<trust domain>/ns/<namespace>/sa/<name> does")]
    NoAccount {
        /// Whose it is.
        id: SpiffeId,
    },
    /// A wanted account is not written as one.
    #[error("a ServiceAccount is written namespace/name; do agent and proxy speak the same version?")]
    Account,
}

impl Held {
    /// What [`Held::from_wire`] reads, private keys included.
    pub fn to_wire(&self) -> Zeroizing<Vec<u8>> {
        let trust = self.trust.as_ref().map(|trust| (TRUST, Zeroizing::new(trust.to_wire())));
        let svids = self.svids.values().map(|svid| (SVID, svid.to_wire()));
        let missing = self.missing.iter().map(|account| (MISSING, account.to_string().into_bytes().into()));
        let records: Vec<_> = trust.into_iter().chain(svids).chain(missing).collect();
        write(records.iter().map(|(tag, value)| (*tag, value.as_slice())))
    }

    /// Reads what [`Held::to_wire`] wrote.
    pub fn from_wire(bytes: &[u8]) -> Result<Self, WireError> {
        let (mut trust, mut svids, mut missing) = (Vec::new(), BTreeMap::new(), BTreeSet::new());
        for record in records(bytes, LONGEST_HELD)? {
            match record? {
                (TRUST, bytes) => trust.push(Arc::new(Trust::from_wire(bytes)?)),
                (SVID, bytes) => {
                    let svid = Svid::from_wire(bytes)?;
                    let account = svid.id().service_account();
                    let account = account.ok_or_else(|| WireError::NoAccount { id: svid.id().clone() })?;
                    svids.insert(account, Arc::new(svid));
                }
                (MISSING, name) => {
                    let account = std::str::from_utf8(name).ok().and_then(ServiceAccount::parse);
                    missing.insert(account.ok_or(WireError::Account)?);
                }
                _ => {}
            }
        }
        let trust = if trust.is_empty() { None } else { Some(one(trust, "trust")?) };
        Ok(Self { trust, svids, missing })
    }
}

impl Svid {
    /// What [`Svid::from_wire`] reads, private key included.
    pub fn to_wire(&self) -> Zeroizing<Vec<u8>> {
        let certificates = self.chain().iter().map(|der| (CERTIFICATE, der.as_ref()));
        write(std::iter::once((KEY, self.key().pkcs8())).chain(certificates))
    }

    /// Reads what [`Svid::to_wire`] wrote.
    pub fn from_wire(bytes: &[u8]) -> Result<Self, WireError> {
        let (mut keys, mut chain) = (Vec::new(), Vec::new());
        for record in records(bytes, LONGEST)? {
            match record? {
                (KEY, der) => keys.push(Zeroizing::new(der.to_vec())),
                (CERTIFICATE, der) => chain.push(CertificateDer::from(der.to_vec())),
                _ => {}
            }
        }
        let key = one(keys, "private key")?;
        Ok(Self::new(chain, PrivateKey::from_pkcs8(key))?)
    }
}

impl Trust {
    /// What [`Trust::from_wire`] reads.
    pub fn to_wire(&self) -> Vec<u8> {
        let aliases = self.domains().aliases().iter().map(|alias| (ALIAS, alias.as_bytes()));
        let roots = self.roots().iter().map(|der| (ROOT, der.as_ref()));
        let own = std::iter::once((DOMAIN, self.domains().own().as_bytes()));
        write(own.chain(aliases).chain(roots)).to_vec()
    }

    /// Reads what [`Trust::to_wire`] wrote.
    pub fn from_wire(bytes: &[u8]) -> Result<Self, WireError> {
        let (mut own, mut aliases, mut roots) = (Vec::new(), Vec::new(), Vec::new());
        for record in records(bytes, LONGEST)? {
            match record? {
                (DOMAIN, name) => own.push(text(name)?),
                (ALIAS, name) => aliases.push(text(name)?),
                (ROOT, der) => roots.push(CertificateDer::from(der.to_vec())),
                _ => {}
            }
        }
        let domains = TrustDomains::new(one(own, "trust domain")?, aliases)?;
        Ok(Self::new(domains, roots)?)
    }
}

/// The size is known before the first byte is written: a buffer that grew would leave a copy of the key behind.
fn write<'a>(records: impl Iterator<Item = (u8, &'a [u8])> + Clone) -> Zeroizing<Vec<u8>> {
    let size = records.clone().map(|(_, value)| HEAD + value.len()).sum();
    let mut bytes = Zeroizing::new(Vec::with_capacity(LENGTH + size));
    bytes.extend_from_slice(&length(size));
    for (tag, value) in records {
        bytes.push(tag);
        bytes.extend_from_slice(&length(value.len()));
        bytes.extend_from_slice(value);
    }
    bytes
}

fn length(size: usize) -> [u8; LENGTH] {
    u32::try_from(size).expect("keys, names and certificates are far below 4 GiB").to_be_bytes()
}

type Record<'a> = (u8, &'a [u8]);

fn records(
    bytes: &[u8],
    longest: usize,
) -> Result<impl Iterator<Item = Result<Record<'_>, WireError>>, WireError> {
    if bytes.len() > longest {
        return Err(WireError::TooLong { size: bytes.len(), longest });
    }
    let (size, mut rest) = bytes.split_first_chunk().ok_or(WireError::Truncated)?;
    if usize::try_from(u32::from_be_bytes(*size)) != Ok(rest.len()) {
        return Err(WireError::Truncated);
    }
    Ok(std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let Some((found, after)) = record(rest) else {
            rest = &[];
            return Some(Err(WireError::Truncated));
        };
        rest = after;
        Some(Ok(found))
    }))
}

fn record(bytes: &[u8]) -> Option<(Record<'_>, &[u8])> {
    let (&tag, rest) = bytes.split_first()?;
    let (length, rest) = rest.split_first_chunk()?;
    let length = usize::try_from(u32::from_be_bytes(*length)).ok()?;
    let (value, rest) = rest.split_at_checked(length)?;
    Some(((tag, value), rest))
}

fn one<T>(mut found: Vec<T>, what: &'static str) -> Result<T, WireError> {
    match (found.pop(), found.is_empty()) {
        (Some(one), true) => Ok(one),
        _ => Err(WireError::NotOne { what }),
    }
}

fn text(bytes: &[u8]) -> Result<&str, WireError> {
    std::str::from_utf8(bytes).map_err(|_| SpiffeError::TrustDomain.into())
}

const KEY: u8 = 1;
const CERTIFICATE: u8 = 2;
const DOMAIN: u8 = 3;
const ALIAS: u8 = 4;
const ROOT: u8 = 5;
const TRUST: u8 = 6;
const SVID: u8 = 7;
const MISSING: u8 = 8;

/// Bytes of a length, of a tag and a length.
const LENGTH: usize = 4;
const HEAD: usize = 1 + LENGTH;

/// Bytes that one SVID, or the trust, may have.
const LONGEST: usize = 256 << 10;

/// Bytes that all of a node's may have: some 3 KiB each, for a pod of its own each.
const LONGEST_HELD: usize = 32 << 20;

#[cfg(test)]
mod tests;
