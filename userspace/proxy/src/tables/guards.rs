//! Why the kernel refused a connection to a pod of this node: the same question, asked again.
//!
//! The connect hook tells its errno alone. What it decides by are rows, which are made of what
//! [`weft_policy::decide`] says; so that is asked, with what the hook knows of a pod's connection.

use std::{
    collections::HashMap,
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use weft_abi::Reason;
use weft_model::{Protocol, Snapshot, Workload};
use weft_policy::{Decision, Identity, Policies, Protection, Request, decide};

/// The policies of this node's pods, of one version.
#[derive(Debug, Default)]
pub(super) struct Guards {
    /// By each address of a pod that has policies.
    pods: HashMap<IpAddr, Arc<Protection>>,
}

impl Guards {
    pub(super) fn of(snapshot: &Snapshot) -> Self {
        let policies = Policies::new(snapshot);
        let mut pods = HashMap::new();
        for pod in snapshot.workloads.values().filter(|pod| pod.local && pod.enrolled) {
            let protection = Arc::new(policies.protection(pod));
            if !protection.policies.is_empty() {
                pods.extend(pod.ips.iter().map(|ip| (ip.to_canonical(), Arc::clone(&protection))));
            }
        }
        Self { pods }
    }

    /// What the policies of the pod at `to` say to a connection of `client`, a pod of this node: the kernel proves who
    /// it is. `None` where no pod of this node with policies is there.
    pub(super) fn decide_about(&self, client: &Workload, to: SocketAddr) -> Option<Decision> {
        let source = *client.ips.iter().find(|ip| ip.is_ipv4() == to.is_ipv4())?;
        self.decide(source, Identity::Proven(&client.service_account), to)
    }

    /// What they say to a connection from `source` whose client is `identity`.
    pub(super) fn decide(&self, source: IpAddr, identity: Identity<'_>, to: SocketAddr) -> Option<Decision> {
        let protection = self.pods.get(&to.ip().to_canonical())?;
        Some(decide(protection, &Request { source, identity, protocol: Protocol::Tcp, port: to.port() }))
    }
}

/// The reason of a refusal that `decision` is to explain. The rows that the kernel asked and this version of the
/// snapshot may differ for a moment: it refused all the same.
pub(super) fn reason(decision: Option<&Decision>) -> Reason {
    decision
        .map(|decision| decision.reason)
        .filter(|&reason| reason != Reason::NONE)
        .unwrap_or(Reason::NOT_ALLOWED)
}

#[cfg(test)]
mod tests;
