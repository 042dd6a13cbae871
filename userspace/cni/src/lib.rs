//! `weft-cni`: a chained plugin of the Container Network Interface, and its way into a node's configuration.
//!
//! Owns: the CNI's words (spec 1.0 and 1.1, and 0.3 and 0.4 of the lists that it is put into), how long a pod waits for the
//! mesh, and the edits of other plugins' files. Must not know: what an API server is, what the kernel enforces.
//!
//! ```text
//! runtime ─► bridge, flannel, calico ... ─► weft-cni ─► agent: enrol, and say when it is in the kernel
//!                                              └─ no agent: is it in the mesh? API server, else what the agent kept
//!                                                 no: it starts; yes, or nobody knows: "try again", and the kubelet does
//! ```
#![forbid(unsafe_code)]

mod agent;
mod call;
mod conflist;
mod error;
mod install;
mod membership;
mod neighbours;
mod plugin;

pub use call::{Call, Pod};
pub use error::Error;
pub use install::{Error as Refused, Installer, Placement, Settings, keep, uninstall};
pub use membership::Membership;
pub use neighbours::{Neighbour, What, neighbours};
pub use plugin::answer;

/// What the plugin is called, in a list and as a program.
pub const NAME: &str = "weft-cni";
