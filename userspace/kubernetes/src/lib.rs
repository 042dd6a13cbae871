//! Kubernetes objects to [`weft_model::Snapshot`]: sources, our kinds, validation.
//!
//! Owns: the manifests directory, the watches of an API server, the syntax and the rules of every kind that weft reads, and which
//! object wins where two disagree. Must not know: the kernel, connections, how a snapshot is used.
//!
//! ```text
//! files ────► document ──► decode (core, kinds) ──► catalog ────────► build ──► Snapshot
//! API server  text, lines  typed, checked, compact  who declares it   only what changed
//! ```
#![forbid(unsafe_code)]

mod analyze;
mod announce;
mod assembly;
mod build;
mod catalog;
mod cluster;
mod core;
mod crds;
mod decode;
mod document;
mod error;
mod finding;
mod kinds;
mod leader;
mod manifests;
mod node;
mod object;
#[cfg(test)]
#[path = "../../../tests/releases/release.rs"]
mod release;
mod source;
mod status;
mod syntax;
mod uninstall;

pub use analyze::analyze;
pub use announce::{Announced, Announcer, Known};
pub use cluster::{
    AgentPod, AskError, Cluster, ClusterSource, Connection, Failing, Fate, Health, Installation, Neighbour,
    PodFacts, Process, Replica, Replicas, Said, TokenAnswer, TokenUser, Unknown, Values, ValuesKind,
    ask_membership, cluster_neighbours, kept_membership, kept_trust_domain, lend, members_file,
};
pub use crds::crds;
pub use error::Error;
pub use leader::{Election, Leadership};
pub use manifests::ManifestSource;
pub use node::{above_pods, kubelet_cgroup, subtree};
pub use source::{Options, Refresh, Source};
pub use status::{Judgement, StatusWriter};
pub use uninstall::{UninstallError, Uninstalled, uninstall};
