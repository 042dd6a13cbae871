//! Kubernetes objects to [`weft_model::Snapshot`]: sources, our kinds, validation.
//!
//! Owns: the manifests directory, the syntax and the rules of every kind that weft reads, and which
//! object wins where two disagree. Must not know: the kernel, connections, how a snapshot is used.
//!
//! ```text
//! files ──► document ──► decode (core, kinds) ──► manifests::Catalog ──► build ──► Snapshot
//!           text, lines  typed, checked, compact  who declares it       only what changed
//! ```
#![forbid(unsafe_code)]

mod analyze;
mod build;
mod core;
mod crds;
mod decode;
mod document;
mod error;
mod finding;
mod kinds;
mod manifests;
mod object;
mod syntax;

pub use analyze::analyze;
pub use crds::crds;
pub use error::Error;
pub use manifests::{ManifestSource, Options, Refresh};
