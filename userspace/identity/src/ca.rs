//! The certificate authority of a mesh: without a controller a directory that `weft ca` makes and rotates, with one the
//! values of a Secret.
//!
//! | file | what | who needs it |
//! |---|---|---|
//! | `root.pem` | the root's private key and certificate, and during an overlap the new root as the old one signs it | `weft ca` only: it may be kept offline |
//! | `issuer.pem` | the issuer's private key and certificate, and what of `root.pem` its peers may lack | agents |
//! | `roots.pem` | the roots that are trusted: one, during an overlap two | agents |
//!
//! A key and its certificates are one file, so that no reader sees the one without the other. Files are 0600, the
//! directory 0700, each file is replaced in one step. In a Secret these are keys, and all are replaced at once. The trust domain stands in every authority's certificate, as its
//! SPIFFE ID.
//!
//! # Rotation
//! **Issuer**: a new key, signed by the same root. Certificates carry their issuer's, and peers know the root alone:
//! what the old issuer signed is valid until it ends, and nobody has to be told.
//!
//! **Root**, in two commands; each leaves every living certificate valid at every node, in whatever order the nodes
//! read the directory:
//!
//! ```text
//! phase     roots.pem   issuer is signed by   chain that is shown            accepted by who trusts
//! before    old         old                   leaf, issuer                   old
//! overlap   old, new    new                   leaf, issuer, new-by-old       old; old and new; new
//!           (certificates of before)          leaf, old issuer               old; old and new
//! finished  new         new                   leaf, issuer                   old and new; new
//! ```
//!
//! `rotate root` begins the overlap: the new root is trusted beside the old one, and the old one signs it, so that a
//! node that has not read it yet accepts what it vouches for. `rotate root --finish` ends it once all that the old root
//! vouched for has ended, and refuses to do so earlier.

mod chain;
mod directory;
mod error;
mod files;
mod make;
mod rotate;
mod secret;
mod shelf;
mod signing;

pub(crate) use chain::certificates;
pub use chain::encode;
pub use directory::DirectoryIssuer;
pub use error::CaError;
pub(crate) use files::{make_folder, replace};
pub use rotate::{Standing, finish_root, init, rotate_issuer, rotate_root};
pub use secret::{Due, SecretAuthority, SecretIssuer, Values};
pub use shelf::{Keeping, Part, Place};

/// How long certificates of an old root are waited for, unless told otherwise: as long as they live by default.
pub const OVERLAP: std::time::Duration = std::time::Duration::from_hours(24);

#[cfg(test)]
mod tests;
