//! Workloads: the pods that the mesh knows.

use std::{collections::BTreeMap, net::IpAddr, path::PathBuf, sync::Arc};

use serde::{Deserialize, Serialize};

use crate::{ObjectName, Protocol, ServiceAccount};

/// A pod.
#[expect(clippy::struct_excessive_bools, reason = "facts of a pod that do not exclude each other")]
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Workload {
    /// Its name.
    pub name: ObjectName,
    /// Its identity.
    pub service_account: ServiceAccount,
    /// Its addresses, in the object's order.
    pub ips: Vec<IpAddr>,
    /// The node it runs on; `None` where the object names none.
    pub node: Option<Arc<str>>,
    /// Whether it runs on this agent's node.
    pub local: bool,
    /// Its labels; the allocation is the object's.
    pub labels: Arc<BTreeMap<String, String>>,
    /// Whether it is in the mesh. Host-network pods never are.
    pub enrolled: bool,
    /// Path of its network namespace, where this node knows it.
    pub netns: Option<PathBuf>,
    /// Its named ports, for Services' named targetPorts.
    pub ports: Vec<ContainerPort>,
    /// The name shown as its workload in metrics: its controller's, else its own.
    pub owner: Arc<str>,
    /// Ready, as its condition says.
    pub ready: bool,
    /// Is going away.
    pub terminating: bool,
    /// When its object was made, in seconds since 1970; `u64::MAX` where it does not say. Of two pods that
    /// claim the same, the older has it, then the first by name.
    pub created: u64,
}

impl Workload {
    /// Whether both run on the same node.
    pub fn is_beside(&self, other: &Self) -> bool {
        (self.local && other.local) || (self.node.is_some() && self.node == other.node)
    }
}

/// A port that a container declares.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerPort {
    /// Its name.
    pub name: Arc<str>,
    /// Its number.
    pub port: u16,
    /// Its protocol.
    pub protocol: Protocol,
}
