//! The pods of a snapshot, found by what records name them by.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use hashbrown::HashMap;
use weft_model::{ObjectName, Service, Snapshot, Workload};

use crate::{
    metrics::{HttpMetrics, Known, Peer},
    records::Destination,
};

/// A pod with what flows and metrics say of it.
#[derive(Debug)]
pub(crate) struct Pod {
    pub(crate) workload: Arc<Workload>,
    /// Its SPIFFE ID.
    pub(crate) identity: Arc<str>,
    /// Its labels in metrics.
    pub(crate) known: Known,
}

/// Services by their addresses. Put together when somebody asks: most connections say their Service.
#[derive(Debug, Default)]
struct Services {
    of: Arc<BTreeMap<ObjectName, Arc<Service>>>,
    by_ip: HashMap<IpAddr, ObjectName>,
}

/// All pods.
#[derive(Debug)]
pub(crate) struct Pods {
    workloads: Arc<BTreeMap<ObjectName, Arc<Workload>>>,
    trust_domain: Arc<str>,
    by_name: HashMap<ObjectName, Arc<Pod>>,
    by_ip: HashMap<IpAddr, Arc<Pod>>,
    services: Services,
    unknown: Known,
}

impl Pods {
    pub(crate) fn of(snapshot: &Snapshot, metrics: &HttpMetrics) -> Self {
        let mut pods = Self {
            workloads: Arc::clone(&snapshot.workloads),
            trust_domain: Arc::clone(&snapshot.trust_domain),
            by_name: HashMap::with_capacity(snapshot.workloads.len()),
            by_ip: HashMap::new(),
            services: Services::default(),
            unknown: metrics.unknown(),
        };
        for workload in snapshot.workloads.values() {
            let pod = Arc::new(Pod {
                identity: workload.service_account.spiffe(&snapshot.trust_domain).into(),
                known: metrics.known(Peer::of(workload, &snapshot.trust_domain)),
                workload: Arc::clone(workload),
            });
            pods.by_ip.extend(workload.ips.iter().map(|ip| (*ip, Arc::clone(&pod))));
            pods.by_name.insert(workload.name.clone(), pod);
        }
        pods
    }

    /// Whether these are the pods of `snapshot`.
    pub(crate) fn are_of(&self, snapshot: &Snapshot) -> bool {
        Arc::ptr_eq(&self.workloads, &snapshot.workloads) && self.trust_domain == snapshot.trust_domain
    }

    pub(crate) fn named(&self, name: &ObjectName) -> Option<&Pod> {
        self.by_name.get(name).map(|pod| &**pod)
    }

    pub(crate) fn at(&self, ip: IpAddr) -> Option<&Pod> {
        self.by_ip.get(&ip).map(|pod| &**pod)
    }

    /// The Service that has this address.
    pub(crate) fn service_at(&mut self, snapshot: &Snapshot, at: SocketAddr) -> Option<Destination> {
        if !Arc::ptr_eq(&self.services.of, &snapshot.services) {
            let services = snapshot.services.iter();
            let by_ip =
                services.flat_map(|(name, service)| service.ips.iter().map(move |ip| (*ip, name.clone())));
            self.services = Services { of: Arc::clone(&snapshot.services), by_ip: by_ip.collect() };
        }
        Some(Destination(self.services.by_ip.get(&at.ip())?.clone(), at.port()))
    }

    /// The labels of `pod`.
    pub(crate) fn known(&self, pod: Option<&Pod>) -> Known {
        pod.map_or(&self.unknown, |pod| &pod.known).clone()
    }
}
