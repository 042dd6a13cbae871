//! What the container runtime's plugin tells the agent, and is told.

use std::{net::IpAddr, path::PathBuf};

use serde::{Deserialize, Serialize};

/// The network that a container runtime has made for a pod.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Attachment {
    /// The pod's namespace.
    pub namespace: String,
    /// The pod's name.
    pub pod: String,
    /// The pod's UID, as its kubelet knows it.
    pub uid: String,
    /// The runtime's id of the pod's sandbox.
    pub sandbox: String,
    /// Where the network namespace is, as the runtime sees it.
    pub netns: PathBuf,
    /// The inode of the network namespace: whatever lies at its path elsewhere is another one.
    pub inode: u64,
    /// A process that sees `netns` where it is: the runtime.
    pub runtime: u32,
    /// The pod's addresses.
    pub ips: Vec<IpAddr>,
}

/// What the agent has done about an [`Attachment`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Attached {
    /// The pod is in the mesh, and all that protects it is in the kernel.
    Enrolled,
    /// The pod is not in the mesh.
    NotEnrolled,
    /// The agent has not heard of the pod.
    Unknown,
}

/// Sandboxes of pods.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sandboxes {
    /// The runtime's ids.
    pub sandboxes: Vec<String>,
}
