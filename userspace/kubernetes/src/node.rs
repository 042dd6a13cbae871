//! What a kubelet has made of this machine: control groups of pods, their processes, the kubelet itself.
//!
//! A pod's network namespace is found by its UID, without a container runtime to ask: the kubelet gives each pod a
//! control group that has the UID in its name, and the oldest process in there is the one that holds the namespace. A runtime
//! that calls weft's CNI plugin says it before that.

mod groups;
mod kubelet;
mod processes;
mod sandboxes;

pub use groups::{above_pods, subtree};
pub use kubelet::kubelet_cgroup;
pub(crate) use sandboxes::{Network, Sandboxes};
