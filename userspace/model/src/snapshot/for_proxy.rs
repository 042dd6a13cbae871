//! What of a [`Snapshot`] the node's proxy needs.

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    net::IpAddr,
    sync::Arc,
};

use super::Snapshot;
use crate::{
    AuthorizationPolicy, BackendTarget, ObjectName, PolicyTarget, PortRouting, RouteSet, Service,
    ServicePort, Workload,
};

impl Snapshot {
    /// The part that the node's proxy works with: Services with a port that it serves, what their routes
    /// lead to, the pods of this node, those behind these Services and, where there is mutual TLS, all that are enrolled;
    /// or policies that read requests; and the policies with the Services that
    /// they target. What only people read is left out, and so are access logs: the agent writes
    /// them, of the proxy's records.
    ///
    /// `once` are Services that it has served or sent requests to: connections and requests go on, whatever became of
    /// the routes.
    pub fn for_proxy(&self, once: &BTreeSet<ObjectName>) -> Self {
        let mut services = self.reached(once);
        let workloads = self.behind(&services);
        services.extend(self.targeted());
        Self {
            version: self.version,
            trust_domain: Arc::clone(&self.trust_domain),
            trust_domain_aliases: Arc::clone(&self.trust_domain_aliases),
            certificate_ttl: self.certificate_ttl,
            brought_authority: None,
            locality: Arc::clone(&self.locality),
            services: Arc::new(services),
            workloads: Arc::new(workloads),
            policies: Arc::clone(&self.policies),
            mtls: Arc::clone(&self.mtls),
            jwt: Arc::clone(&self.jwt),
            jwks: Arc::clone(&self.jwks),
            access_logs: Arc::default(),
            routes: Arc::default(),
            problems: Arc::default(),
            generations: Arc::default(),
        }
    }

    /// Whether any policy asks for what only requests say, looks at tokens or is for a route: the proxy decides by these.
    pub fn reads_requests(&self) -> bool {
        let reads = |policy: &AuthorizationPolicy| {
            matches!(policy.target, PolicyTarget::Routes(_)) || policy.rules.iter().any(|rule| rule.l7)
        };
        !self.jwt.is_empty() || self.policies.values().any(|policy| reads(policy))
    }

    /// The Services with a port that the proxy serves.
    pub fn routed(&self) -> impl Iterator<Item = &ObjectName> {
        let is_routed = |service: &Service| service.ports.iter().any(|port| port.routing.is_some());
        self.services.iter().filter(move |(_, service)| is_routed(service)).map(|(name, _)| name)
    }

    /// The Services that routes lead to. One level is enough: a backend's own routes do not apply to what another route
    /// sends it.
    pub fn backends(&self) -> impl Iterator<Item = &ObjectName> {
        let ports = self.services.values().flat_map(|service| service.ports.iter());
        let routing = ports.filter_map(|port| port.routing.as_ref());
        routing.flat_map(|routing| routing.targets()).filter_map(|target| match target {
            BackendTarget::Service { name, .. } => Some(name),
            BackendTarget::Invalid { .. } => None,
        })
    }

    fn reached(&self, once: &BTreeSet<ObjectName>) -> BTreeMap<ObjectName, Arc<Service>> {
        let names: BTreeSet<_> = self.routed().chain(self.backends()).chain(once).collect();
        let services = names.into_iter().filter_map(|name| self.services.get_key_value(name));
        services.map(|(name, service)| (name.clone(), Arc::clone(service))).collect()
    }

    /// A Service says which pods its policies protect.
    fn targeted(&self) -> impl Iterator<Item = (ObjectName, Arc<Service>)> + '_ {
        let names = self.policies.values().flat_map(|policy| {
            let services = match &policy.target {
                PolicyTarget::Services(services) => services.as_slice(),
                PolicyTarget::Pods(_) | PolicyTarget::Routes(_) => &[],
            };
            let namespace = &policy.name.namespace;
            services.iter().map(|name| ObjectName::new(Arc::clone(namespace), Arc::clone(name)))
        });
        names
            .filter_map(|name| self.services.get_key_value(&name))
            .map(|(name, it)| (name.clone(), Arc::clone(it)))
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
        // Whom an address belongs to is enough to be refused.
        let reads = self.reads_requests();
        let needed = |workload: &Workload| {
            let by_tls = self.mtls.on && workload.enrolled;
            workload.local
                || by_tls
                || reads
                || pods.contains(&workload.name)
                || workload.ips.iter().any(|ip| ips.contains(ip))
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
