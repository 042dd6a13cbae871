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
    /// Whether it is on its way into the mesh, or out of it.
    #[serde(default)]
    pub passage: Passage,
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

/// How far a pod's way into the mesh is, or out of it: nodes hear of it one after the other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Passage {
    /// It is where [`Workload::enrolled`] says.
    #[default]
    Done,
    /// It is enrolled, and cannot prove yet who it is: it sends no mutual TLS, and is sent none. What it takes, its mode and
    /// its policies say.
    Joins,
    /// It is not enrolled any more, and counts as if it were while there may be nodes that have not heard of it: it
    /// understands mutual TLS, sends none, and has no policies. Of a source: its object says still that it has joined.
    Leaves,
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
