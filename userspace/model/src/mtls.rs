//! Mutual TLS between nodes: what each pod takes.

use std::{collections::BTreeMap, fmt, sync::Arc};

use serde::{Deserialize, Serialize};

use crate::{ObjectName, Passage, Workload};

/// What pods take of clients on other nodes, and so what enrolled clients send them.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Mtls {
    /// Whether this node's workloads have certificates: without, nothing of it is in force.
    pub on: bool,
    /// The mode of pods that have none of their own.
    pub mesh: MtlsMode,
    /// Pods with modes of their own.
    pub pods: BTreeMap<ObjectName, Arc<PodMtls>>,
}

/// Whether a port takes mutual TLS, plaintext or both.
///
/// It says what servers accept. What an enrolled client sends to an enrolled pod of another node is mutual TLS in both
/// modes but [`MtlsMode::Disabled`], or nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum MtlsMode {
    /// Plaintext.
    Disabled,
    /// Both.
    #[default]
    Permissive,
    /// Mutual TLS. Probes pass, and clients of the same node that the kernel attests.
    Strict,
}

/// The modes of one pod.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct PodMtls {
    /// Of its ports but those in `ports`.
    pub mode: MtlsMode,
    /// Ports with modes of their own.
    pub ports: BTreeMap<u16, MtlsMode>,
}

impl Mtls {
    /// The mode of a pod's port.
    pub fn mode(&self, pod: &ObjectName, port: u16) -> MtlsMode {
        match self.pods.get(pod) {
            _ if !self.on => MtlsMode::Disabled,
            Some(own) => own.ports.get(&port).copied().unwrap_or(own.mode),
            None => self.mesh,
        }
    }

    /// Whether a connection of `client` to a port of `server` is mutual TLS: of enrolled pods on two nodes.
    pub fn is_between(&self, client: &Workload, server: &Workload, port: u16) -> bool {
        client.enrolled
            && server.enrolled
            && [client, server].iter().all(|pod| pod.passage == Passage::Done)
            && !client.is_beside(server)
            && self.mode(&server.name, port) != MtlsMode::Disabled
    }

    /// The modes of a pod: that of most ports, and those of others.
    pub fn modes(&self, pod: &ObjectName) -> (MtlsMode, impl Iterator<Item = (u16, MtlsMode)>) {
        let own = self.pods.get(pod).filter(|_| self.on);
        let mode = own.map_or(if self.on { self.mesh } else { MtlsMode::Disabled }, |own| own.mode);
        (mode, own.into_iter().flat_map(|own| own.ports.iter().map(|(port, mode)| (*port, *mode))))
    }
}

impl fmt::Display for MtlsMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Disabled => "Disabled",
            Self::Permissive => "Permissive",
            Self::Strict => "Strict",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_is_asked_before_the_pod_and_the_pod_before_the_mesh() {
        let (web, api) = (ObjectName::new("shop", "web"), ObjectName::new("shop", "api"));
        let own = PodMtls { mode: MtlsMode::Strict, ports: [(9090, MtlsMode::Disabled)].into() };
        let pods = BTreeMap::from([(api.clone(), Arc::new(own))]);
        let mtls = Mtls { on: true, mesh: MtlsMode::Permissive, pods };
        assert_eq!(mtls.mode(&web, 80), MtlsMode::Permissive);
        assert_eq!(mtls.mode(&api, 80), MtlsMode::Strict);
        assert_eq!(mtls.mode(&api, 9090), MtlsMode::Disabled);
        let off = Mtls { on: false, ..mtls };
        assert_eq!(off.mode(&api, 80), MtlsMode::Disabled);
        assert_eq!((off.modes(&api).0, off.modes(&api).1.count()), (MtlsMode::Disabled, 0));
    }
}
