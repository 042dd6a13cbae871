//! Who has which address, and how they are spoken to.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use hashbrown::HashMap;
use weft_model::{Mtls, MtlsMode, ObjectName, Passage, ServiceAccount, Snapshot, Workload};

/// The pods of one version, by address.
#[derive(Debug, Default)]
pub(super) struct People {
    by_ip: HashMap<IpAddr, Arc<Workload>>,
    mtls: Arc<Mtls>,
}

impl People {
    /// Of two pods that claim an address it is the one that is here, else the first by name of those that do not leave: as
    /// the kernel's rows have it.
    pub(super) fn of(snapshot: &Snapshot) -> Self {
        let mut by_ip = HashMap::<IpAddr, Arc<Workload>>::new();
        let claim = |pod: &Workload| (pod.local && pod.enrolled, !pod.terminating);
        for pod in snapshot.workloads.values() {
            for ip in &pod.ips {
                let has = by_ip.entry(ip.to_canonical()).or_insert_with(|| Arc::clone(pod));
                if claim(has) < claim(pod) {
                    *has = Arc::clone(pod);
                }
            }
        }
        Self { by_ip, mtls: Arc::clone(&snapshot.mtls) }
    }

    /// The pod with this address.
    pub(super) fn at(&self, ip: IpAddr) -> Option<&Workload> {
        self.by_ip.get(&ip.to_canonical()).map(|pod| &**pod)
    }

    /// See [`super::Tables::sealed`].
    pub(super) fn sealed(&self, to: SocketAddr) -> Option<&ServiceAccount> {
        let pod = self.elsewhere(to.ip()).filter(|pod| pod.passage == Passage::Done)?;
        (self.mode(&pod.name, to.port()) != MtlsMode::Disabled).then_some(&pod.service_account)
    }

    /// The enrolled pod of another node with this address.
    pub(super) fn elsewhere(&self, ip: IpAddr) -> Option<&Workload> {
        self.at(ip).filter(|pod| pod.enrolled && !pod.local)
    }

    /// The enrolled pod of this node at `to`.
    pub(super) fn neighbour(&self, to: SocketAddr) -> Option<&ServiceAccount> {
        Some(&self.at(to.ip()).filter(|pod| pod.enrolled && pod.local)?.service_account)
    }

    /// The mode of a port of `pod`.
    pub(super) fn mode(&self, pod: &ObjectName, port: u16) -> MtlsMode {
        self.mtls.mode(pod, port)
    }
}
