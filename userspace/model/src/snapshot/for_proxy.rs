//! What of a [`Snapshot`] the node's proxy needs.

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    net::IpAddr,
    sync::Arc,
};

use super::Snapshot;
use crate::{BackendTarget, ObjectName, PortRouting, RouteSet, Service, ServicePort, Workload};

impl Snapshot {
    /// The part that the node's proxy works with: Services with a port that it serves, what their routes
    /// lead to, the pods of this node and those behind these Services, and the policies. What only people
    /// read is left out, and so are access logs: the agent writes them, of the proxy's records.
    pub fn for_proxy(&self) -> Self {
        let services = self.reached();
        let workloads = self.behind(&services);
        Self {
            version: self.version,
            trust_domain: Arc::clone(&self.trust_domain),
            locality: Arc::clone(&self.locality),
            services: Arc::new(services),
            workloads: Arc::new(workloads),
            policies: Arc::clone(&self.policies),
            access_logs: Arc::default(),
            routes: Arc::default(),
            problems: Arc::default(),
        }
    }

    /// One level is enough: a backend's own routes do not apply to what another route sends it.
    fn reached(&self) -> BTreeMap<ObjectName, Arc<Service>> {
        let mut names = BTreeSet::new();
        for (name, service) in self.services.iter() {
            for routing in service.ports.iter().filter_map(|port| port.routing.as_ref()) {
                names.insert(name);
                names.extend(routing.targets().filter_map(|target| match target {
                    BackendTarget::Service { name, .. } => Some(name),
                    BackendTarget::Invalid { .. } => None,
                }));
            }
        }
        let services = names.into_iter().filter_map(|name| self.services.get_key_value(name));
        services.map(|(name, service)| (name.clone(), Arc::clone(service))).collect()
    }

    fn behind(&self, services: &BTreeMap<ObjectName, Arc<Service>>) -> BTreeMap<ObjectName, Arc<Workload>> {
        let groups =
            services.values().flat_map(|service| &service.ports).flat_map(|port: &ServicePort| &port.groups);
        let endpoints = groups.flat_map(|group| &group.endpoints);
        let (mut pods, mut ips): (HashSet<&ObjectName>, HashSet<IpAddr>) = Default::default();
        for endpoint in endpoints {
            pods.extend(&endpoint.pod);
            ips.insert(endpoint.address.ip());
        }
        let needed = |workload: &Workload| {
            workload.local || pods.contains(&workload.name) || workload.ips.iter().any(|ip| ips.contains(ip))
        };
        let workloads = self.workloads.iter().filter(|(_, workload)| needed(workload));
        workloads.map(|(name, workload)| (name.clone(), Arc::clone(workload))).collect()
    }
}

impl PortRouting {
    /// Where its routes lead, mirrors included.
    pub fn targets(&self) -> impl Iterator<Item = &BackendTarget> {
        std::iter::once(&self.producer).chain(self.consumers.values()).flat_map(RouteSet::targets)
    }
}

impl RouteSet {
    /// Where its routes lead, mirrors included.
    fn targets(&self) -> Vec<&BackendTarget> {
        match self {
            Self::None => Vec::new(),
            Self::Http(routes) | Self::Grpc(routes) => {
                routes.iter().flat_map(|route| route.targets()).collect()
            }
            Self::Tls(routes) => {
                routes.iter().flat_map(|route| &route.backends).map(|backend| &backend.target).collect()
            }
        }
    }
}

#[cfg(test)]
mod tests;
