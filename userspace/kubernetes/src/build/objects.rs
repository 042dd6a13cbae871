//! All objects by kind, and which Services, workloads and policies a change of one touches.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

use weft_model::{ObjectName, PolicyTarget, Selector};

use super::NameSet;
use crate::object::{
    AuthorizationPolicy, EndpointSlice, Key, Kind, MeshConfig, Namespace, Node, Object, Pod, Service,
    TcpRoute, TrafficPolicy,
};

/// What is in force.
#[derive(Debug, Default)]
pub(crate) struct Objects {
    pub(super) mesh: Option<Arc<MeshConfig>>,
    pub(super) namespaces: BTreeMap<Arc<str>, Arc<Namespace>>,
    pub(super) nodes: BTreeMap<Arc<str>, Arc<Node>>,
    pub(super) pods: BTreeMap<ObjectName, Arc<Pod>>,
    pub(super) services: BTreeMap<ObjectName, Arc<Service>>,
    pub(super) routes: BTreeMap<ObjectName, Arc<TcpRoute>>,
    pub(super) traffic: BTreeMap<ObjectName, Arc<TrafficPolicy>>,
    pub(super) authorization: BTreeMap<ObjectName, Arc<AuthorizationPolicy>>,
    slices: HashMap<ObjectName, Arc<EndpointSlice>>,
    /// Names of the slices behind a Service, in order.
    slices_of: HashMap<ObjectName, BTreeSet<Arc<str>>>,
    /// Routes and policies that name a Service, as target, parent or backend.
    references: HashMap<ObjectName, BTreeSet<Key>>,
}

/// What is to be rebuilt.
#[derive(Debug, Default)]
pub(crate) struct Dirty {
    pub(super) services: NameSet,
    pub(super) workloads: NameSet,
    pub(super) policies: NameSet,
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

    /// The pods of `namespace` that `selector` matches.
    pub(super) fn selected<'s>(
        &'s self,
        namespace: &Arc<str>,
        selector: &'s Selector,
    ) -> impl Iterator<Item = &'s Arc<Pod>> {
        within(&self.pods, namespace).map(|(_, pod)| pod).filter(|pod| selector.matches(&pod.labels))
    }

    /// The zone of the node `name`.
    pub(super) fn zone_of(&self, name: &str) -> Option<&Arc<str>> {
        self.nodes.get(name)?.zone.as_ref()
    }

    /// Puts a new version of an object in the old one's place.
    pub(super) fn replace(&mut self, key: Key, object: Option<Object>, dirty: &mut Dirty) {
        let Key { kind, name } = key;
        match (kind, object) {
            (Kind::MeshConfig, object) => {
                self.mesh = if let Some(Object::MeshConfig(mesh)) = object { Some(mesh) } else { None };
                dirty.mesh = true;
            }
            (Kind::Namespace, object) => {
                let new = if let Some(Object::Namespace(new)) = object { Some(new) } else { None };
                swap(&mut self.namespaces, &name.name, new);
                dirty.namespaces.insert(name.name);
            }
            (Kind::Node, object) => {
                let new = if let Some(Object::Node(new)) = object { Some(new) } else { None };
                swap(&mut self.nodes, &name.name, new);
                dirty.nodes = true;
            }
            (Kind::Pod, object) => {
                let new = if let Some(Object::Pod(new)) = object { Some(new) } else { None };
                dirty.pods.extend(new.clone());
                dirty.pods.extend(swap(&mut self.pods, &name, new));
                dirty.workloads.insert(name);
            }
            (Kind::Service, object) => {
                let new = if let Some(Object::Service(new)) = object { Some(new) } else { None };
                swap(&mut self.services, &name, new);
                dirty.services.insert(name);
            }
            (Kind::EndpointSlice, object) => {
                let new = if let Some(Object::EndpointSlice(new)) = object { Some(new) } else { None };
                self.replace_slice(&name, new, dirty);
            }
            (Kind::TcpRoute, object) => {
                let new = if let Some(Object::TcpRoute(new)) = object { Some(new) } else { None };
                let named = |route: &TcpRoute| {
                    let parents = route.parents.iter().map(|parent| parent.service.clone());
                    parents.chain(route.backends.iter().map(|backend| backend.service.clone())).collect()
                };
                let new_names = new.as_deref().map(named).unwrap_or_default();
                let old_names = swap(&mut self.routes, &name, new).as_deref().map(named).unwrap_or_default();
                self.refer(&Key { kind, name }, old_names, new_names, dirty);
            }
            (Kind::TrafficPolicy, object) => {
                let new = if let Some(Object::TrafficPolicy(new)) = object { Some(new) } else { None };
                let named = |policy: &TrafficPolicy| {
                    policy.services.iter().map(|(_, service)| service.clone()).collect()
                };
                let new_names = new.as_deref().map(named).unwrap_or_default();
                let old_names = swap(&mut self.traffic, &name, new).as_deref().map(named).unwrap_or_default();
                self.refer(&Key { kind, name }, old_names, new_names, dirty);
            }
            (Kind::AuthorizationPolicy, object) => {
                let new = if let Some(Object::AuthorizationPolicy(new)) = object { Some(new) } else { None };
                let new_names = new.as_deref().map(targeted).unwrap_or_default();
                let old = swap(&mut self.authorization, &name, new);
                let old_names = old.as_deref().map(targeted).unwrap_or_default();
                dirty.policies.insert(name.clone());
                self.refer(&Key { kind, name }, old_names, new_names, dirty);
            }
            _ => {}
        }
    }

    /// Adds what depends on what is dirty already.
    pub(super) fn spread(&self, dirty: &mut Dirty) {
        if dirty.mesh {
            dirty.workloads.extend(self.pods.keys().cloned());
        }
        for namespace in &dirty.namespaces {
            dirty.workloads.extend(within(&self.pods, namespace).map(|(name, _)| name.clone()));
        }
        if dirty.nodes {
            dirty.services.extend(self.services.keys().cloned());
        }
        for pod in &dirty.pods {
            let behind = within(&self.services, &pod.name.namespace)
                .filter(|(name, service)| service.selector.is_some() && !self.slices_of.contains_key(name))
                .filter(|(_, service)| service.selector.as_ref().is_some_and(|s| s.matches(&pod.labels)));
            dirty.services.extend(behind.map(|(name, _)| name.clone()));
        }
        // One level is enough: a backend's own routes do not apply to what another route sends it.
        let routes = dirty.services.iter().flat_map(|service| self.references_to(service));
        let routes =
            routes.filter_map(|key| (key.kind == Kind::TcpRoute).then(|| self.routes.get(&key.name))?);
        let parents: Vec<_> =
            routes.flat_map(|route| route.parents.iter().map(|parent| parent.service.clone())).collect();
        dirty.services.extend(parents);
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

    fn refer(&mut self, key: &Key, old: Vec<ObjectName>, new: Vec<ObjectName>, dirty: &mut Dirty) {
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
        dirty.services.extend(old.into_iter().chain(new));
    }
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

fn targeted(policy: &AuthorizationPolicy) -> Vec<ObjectName> {
    let PolicyTarget::Services(services) = &policy.target else { return Vec::new() };
    services
        .iter()
        .map(|name| ObjectName::new(Arc::clone(&policy.name.namespace), Arc::clone(name)))
        .collect()
}

fn swap<K: Ord + Clone, T>(map: &mut BTreeMap<K, Arc<T>>, key: &K, new: Option<Arc<T>>) -> Option<Arc<T>> {
    match new {
        Some(new) => map.insert(key.clone(), new),
        None => map.remove(key),
    }
}
