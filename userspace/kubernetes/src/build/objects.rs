//! All objects by kind, and which Services, workloads and policies a change of one touches.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    net::IpAddr,
    sync::Arc,
};

use weft_model::{ObjectName, RouteKind, RouteName};

use super::{NameSet, selection::Selection};
use crate::object::{
    AuthenticationPolicy, AuthorizationPolicy, EndpointSlice, Key, Kind, MeshConfig, Namespace, Node, Object,
    Pod, Route, Service, TelemetryPolicy, TrafficPolicy,
};

/// What is in force.
#[derive(Debug, Default)]
pub(crate) struct Objects {
    pub(super) mesh: Option<Arc<MeshConfig>>,
    pub(super) namespaces: BTreeMap<Arc<str>, Arc<Namespace>>,
    pub(super) nodes: BTreeMap<Arc<str>, Arc<Node>>,
    pub(super) pods: BTreeMap<ObjectName, Arc<Pod>>,
    pub(super) services: BTreeMap<ObjectName, Arc<Service>>,
    pub(super) routes: BTreeMap<RouteName, Arc<Route>>,
    pub(super) traffic: BTreeMap<ObjectName, Arc<TrafficPolicy>>,
    pub(super) authorization: BTreeMap<ObjectName, Arc<AuthorizationPolicy>>,
    pub(super) authentication: BTreeMap<ObjectName, Arc<AuthenticationPolicy>>,
    pub(super) telemetry: BTreeMap<ObjectName, Arc<TelemetryPolicy>>,
    /// See [`crate::Options::system`].
    pub(super) system: Option<Arc<str>>,
    selection: Selection,
    /// Services by ClusterIP: the first by name has it.
    owners: HashMap<IpAddr, NameSet>,
    slices: HashMap<ObjectName, Arc<EndpointSlice>>,
    /// Names of the slices behind a Service, in order.
    slices_of: HashMap<ObjectName, BTreeSet<Arc<str>>>,
    /// Routes and policies that name a Service, as target, parent or backend.
    references: HashMap<ObjectName, BTreeSet<Key>>,
    /// Each TrafficPolicy that targets a route or a rule of it.
    policies_for: HashMap<RouteName, BTreeSet<ObjectName>>,
}

/// What is to be rebuilt.
#[derive(Debug, Default)]
pub(crate) struct Dirty {
    pub(super) services: NameSet,
    /// Those among them whose objects changed, not only what is behind them.
    pub(super) redefined: NameSet,
    /// Routes whose status may have changed.
    pub(super) routes: BTreeSet<RouteName>,
    pub(super) workloads: NameSet,
    pub(super) policies: NameSet,
    /// Pods whose access log, mode of mutual TLS or providers of tokens may have changed.
    pub(super) targeted: NameSet,
    /// Those that changed: the log of anybody of their namespaces may have.
    pub(super) telemetry: NameSet,
    /// As `telemetry`, of modes.
    pub(super) authentication: NameSet,
    /// Services of pods with these names and labels, before or after the change.
    pods: Vec<Arc<Pod>>,
    namespaces: BTreeSet<Arc<str>>,
    nodes: bool,
    pub(super) mesh: bool,
}

impl Objects {
    /// The slices behind `service`, in the order of their names.
    pub(super) fn slices_of(&self, service: &ObjectName) -> impl Iterator<Item = &Arc<EndpointSlice>> {
        let names = self.slices_of.get(service).into_iter().flatten();
        names.filter_map(|name| {
            self.slices.get(&ObjectName::new(Arc::clone(&service.namespace), Arc::clone(name)))
        })
    }

    /// Routes and policies that name `service`.
    pub(super) fn references_to(&self, service: &ObjectName) -> impl Iterator<Item = &Key> {
        self.references.get(service).into_iter().flatten()
    }

    /// Routes that name `service`, as parent or as backend.
    pub(super) fn routes_of(&self, service: &ObjectName) -> impl Iterator<Item = &Route> {
        self.references_to(service).filter_map(|key| Some(&**self.routes.get(&key.route()?)?))
    }

    /// Each TrafficPolicy that targets `route` or a rule of it.
    pub(super) fn policies_for(&self, route: &RouteName) -> impl Iterator<Item = &TrafficPolicy> {
        let names = self.policies_for.get(route).into_iter().flatten();
        names.filter_map(|name| self.traffic.get(name)).map(|policy| &**policy)
    }

    /// The pods that `service` selects.
    pub(super) fn selected<'s>(&'s self, service: &'s Service) -> impl Iterator<Item = &'s Arc<Pod>> {
        let named = |name: &Arc<str>| ObjectName::new(Arc::clone(&service.name.namespace), Arc::clone(name));
        let pods = self.selection.pods_of(service).filter_map(move |name| self.pods.get(&named(name)));
        pods.filter(|pod| selects(service, pod))
    }

    /// The Service that has the ClusterIP `ip`.
    pub(super) fn owner_of(&self, ip: IpAddr) -> Option<&ObjectName> {
        self.owners.get(&ip)?.first()
    }

    /// The zone of the node `name`.
    pub(super) fn zone_of(&self, name: &str) -> Option<&Arc<str>> {
        self.nodes.get(name)?.zone.as_ref()
    }

    /// Puts a new version of an object in the old one's place.
    pub(super) fn replace(&mut self, key: Key, object: Option<Object>, dirty: &mut Dirty) {
        match key.kind {
            Kind::MeshConfig => {
                self.mesh = object.and_then(Object::mesh_config);
                dirty.mesh = true;
            }
            Kind::Namespace => {
                swap(&mut self.namespaces, &key.name.name, object.and_then(Object::namespace));
                dirty.namespaces.insert(key.name.name);
            }
            Kind::Node => {
                swap(&mut self.nodes, &key.name.name, object.and_then(Object::node));
                dirty.nodes = true;
            }
            Kind::Pod => {
                let new = object.and_then(Object::pod);
                let old = swap(&mut self.pods, &key.name, new.clone());
                self.selection.replace_pod(old.as_deref(), new.as_deref());
                dirty.pods.extend(old.into_iter().chain(new));
                dirty.workloads.insert(key.name);
            }
            Kind::Service => {
                let new = object.and_then(Object::service);
                let old = swap(&mut self.services, &key.name, new.clone());
                self.selection.replace_service(old.as_deref(), new.as_deref());
                self.own(old.as_deref(), new.as_deref(), dirty);
                dirty.redefined.insert(key.name.clone());
                dirty.services.insert(key.name);
            }
            Kind::EndpointSlice => {
                self.replace_slice(&key.name, object.and_then(Object::endpoint_slice), dirty);
            }
            Kind::TcpRoute | Kind::HttpRoute | Kind::GrpcRoute | Kind::TlsRoute => {
                self.replace_route(&key, object.and_then(Object::route), dirty);
            }
            Kind::TrafficPolicy => {
                let new = object.and_then(Object::traffic_policy);
                let old = swap(&mut self.traffic, &key.name, new.clone());
                self.retarget(&key.name, [old.as_deref(), new.as_deref()], dirty);
                let services = [old, new].map(|policy| policy.as_deref().map(TrafficPolicy::services));
                dirty.services.extend(self.refer(&key, services));
            }
            Kind::AuthorizationPolicy => {
                let new = object.and_then(Object::authorization_policy);
                let old = swap(&mut self.authorization, &key.name, new.clone());
                let services = [old, new].map(|policy| policy.as_deref().map(AuthorizationPolicy::services));
                dirty.services.extend(self.refer(&key, services));
                dirty.policies.insert(key.name);
            }
            Kind::AuthenticationPolicy => {
                swap(&mut self.authentication, &key.name, object.and_then(Object::authentication_policy));
                dirty.authentication.insert(key.name);
            }
            Kind::TelemetryPolicy => {
                swap(&mut self.telemetry, &key.name, object.and_then(Object::telemetry_policy));
                dirty.telemetry.insert(key.name);
            }
            _ => {}
        }
    }

    /// Adds what depends on what is dirty already.
    pub(super) fn spread(&mut self, dirty: &mut Dirty) {
        let installed = self.system.as_ref().is_some_and(|system| dirty.namespaces.contains(system));
        if dirty.mesh || installed {
            dirty.workloads.extend(self.pods.keys().cloned());
        }
        for namespace in &dirty.namespaces {
            dirty.workloads.extend(within(&self.pods, namespace).map(|(name, _)| name.clone()));
        }
        // A policy for a Service is one for the pods that this selects.
        let services = dirty.redefined.iter().map(|service| &service.namespace);
        let named = services.filter(|namespace| {
            within(&self.telemetry, namespace).next().is_some()
                || within(&self.authentication, namespace).next().is_some()
        });
        let changed = dirty.telemetry.iter().chain(&dirty.authentication).map(|policy| &policy.namespace);
        for namespace in named.chain(changed).collect::<BTreeSet<_>>() {
            dirty.targeted.extend(within(&self.pods, namespace).map(|(name, _)| name.clone()));
        }
        dirty.targeted.extend(dirty.workloads.iter().cloned());
        if dirty.nodes {
            dirty.services.extend(self.services.keys().cloned());
        }
        self.selection.fill(&self.pods);
        for pod in &dirty.pods {
            for name in self.selection.services_of(pod) {
                let name = ObjectName::new(Arc::clone(&pod.name.namespace), Arc::clone(name));
                let selects = self.services.get(&name).is_some_and(|service| selects(service, pod));
                if selects && !self.slices_of.contains_key(&name) {
                    dirty.services.insert(name);
                }
            }
        }
        // One level is enough: a backend's own routes do not apply to what another route sends it.
        let routes = dirty.services.iter().flat_map(|service| {
            // Only a TCPRoute's parent holds the endpoints of its backends; others need to know of their ports.
            let redefined = dirty.redefined.contains(service);
            self.routes_of(service).filter(move |route| redefined || route.name.kind == RouteKind::Tcp)
        });
        let routes: Vec<_> = routes.collect();
        dirty.services.extend(routes.iter().flat_map(|route| parents(route)));
        dirty.routes.extend(routes.into_iter().map(|route| route.name.clone()));
    }

    fn replace_route(&mut self, key: &Key, new: Option<Arc<Route>>, dirty: &mut Dirty) {
        let name = key.route().expect("only called for routes");
        let old = swap(&mut self.routes, &name, new.clone());
        dirty.services.extend(old.iter().chain(&new).flat_map(|route| parents(route)));
        dirty.routes.insert(name);
        // Backends do not care who leads to them.
        let _named = self.refer(key, [old, new].map(|route| route.as_deref().map(Route::services)));
    }

    /// Notes which routes a TrafficPolicy is for, before and after its change.
    fn retarget(&mut self, policy: &ObjectName, [old, new]: [Option<&TrafficPolicy>; 2], dirty: &mut Dirty) {
        for route in old.into_iter().flat_map(TrafficPolicy::routes) {
            if let Some(policies) = self.policies_for.get_mut(&route) {
                policies.remove(policy);
                if policies.is_empty() {
                    self.policies_for.remove(&route);
                }
            }
        }
        for route in new.into_iter().flat_map(TrafficPolicy::routes) {
            self.policies_for.entry(route).or_default().insert(policy.clone());
        }
        for route in old.into_iter().chain(new).flat_map(TrafficPolicy::routes) {
            dirty.services.extend(self.routes.get(&route).into_iter().flat_map(|route| parents(route)));
            dirty.routes.insert(route);
        }
    }

    fn replace_slice(&mut self, name: &ObjectName, new: Option<Arc<EndpointSlice>>, dirty: &mut Dirty) {
        let new_service = new.as_ref().map(|slice| slice.service.clone());
        let old = match new {
            Some(new) => self.slices.insert(name.clone(), new),
            None => self.slices.remove(name),
        };
        if let Some(old) = old.filter(|old| Some(&old.service) != new_service.as_ref()) {
            if let Some(names) = self.slices_of.get_mut(&old.service) {
                names.remove(&name.name);
                if names.is_empty() {
                    self.slices_of.remove(&old.service);
                }
            }
            dirty.services.insert(old.service.clone());
        }
        if let Some(service) = new_service {
            self.slices_of.entry(service.clone()).or_default().insert(Arc::clone(&name.name));
            dirty.services.insert(service);
        }
    }

    /// Notes which Service has which address; whoever shares one is rebuilt.
    fn own(&mut self, old: Option<&Service>, new: Option<&Service>, dirty: &mut Dirty) {
        for ip in old.iter().flat_map(|service| &service.ips) {
            if let Some(names) = self.owners.get_mut(ip) {
                names.retain(|name| old.is_none_or(|old| *name != old.name));
                dirty.services.extend(names.iter().cloned());
                if names.is_empty() {
                    self.owners.remove(ip);
                }
            }
        }
        for (ip, service) in new.iter().flat_map(|service| service.ips.iter().map(move |ip| (ip, service))) {
            let names = self.owners.entry(*ip).or_default();
            dirty.services.extend(names.iter().cloned());
            names.insert(service.name.clone());
        }
    }

    /// Notes which Services an object names, before and after its change; all of them together.
    fn refer(&mut self, key: &Key, [old, new]: [Option<Vec<ObjectName>>; 2]) -> Vec<ObjectName> {
        let (mut old, new) = (old.unwrap_or_default(), new.unwrap_or_default());
        for service in &old {
            if let Some(keys) = self.references.get_mut(service) {
                keys.remove(key);
                if keys.is_empty() {
                    self.references.remove(service);
                }
            }
        }
        for service in &new {
            self.references.entry(service.clone()).or_default().insert(key.clone());
        }
        old.extend(new);
        old
    }
}

fn parents(route: &Route) -> impl Iterator<Item = ObjectName> {
    route.parents.iter().map(|parent| parent.service.clone())
}

/// The entries of `namespace`.
pub(super) fn within<'m, T>(
    map: &'m BTreeMap<ObjectName, T>,
    namespace: &Arc<str>,
) -> impl Iterator<Item = (&'m ObjectName, &'m T)> {
    let namespace = Arc::clone(namespace);
    map.range(ObjectName::new(Arc::clone(&namespace), "")..)
        .take_while(move |(name, _)| name.namespace == namespace)
}

fn selects(service: &Service, pod: &Pod) -> bool {
    service.selector.as_ref().is_some_and(|selector| selector.matches(&pod.labels))
}

fn swap<K: Ord + Clone, T>(map: &mut BTreeMap<K, Arc<T>>, key: &K, new: Option<Arc<T>>) -> Option<Arc<T>> {
    match new {
        Some(new) => map.insert(key.clone(), new),
        None => map.remove(key),
    }
}
