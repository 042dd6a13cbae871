//! Objects to the parts of a [`weft_model::Snapshot`], rebuilding only what a change touches.

mod attach;
mod endpoints;
mod objects;
mod selection;
mod service;
mod workload;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use weft_model::{AuthorizationPolicy, Locality, ObjectName, Service, Workload};

use self::objects::{Dirty, Objects};
use crate::{
    finding::Finding,
    object::{Key, Object},
};

/// Something about an object that only the others around it show.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Notice {
    pub(crate) key: Key,
    pub(crate) finding: Finding,
}

/// Keeps all objects, and what was built from them.
#[derive(Debug)]
pub(crate) struct Builder {
    objects: Objects,
    built: Built,
}

/// What a snapshot is made of. Parts that did not change stay the same allocation.
#[derive(Clone, Debug)]
pub(crate) struct Built {
    pub(crate) trust_domain: Arc<str>,
    pub(crate) locality: Arc<Locality>,
    pub(crate) services: Arc<BTreeMap<ObjectName, Arc<Service>>>,
    pub(crate) workloads: Arc<BTreeMap<ObjectName, Arc<Workload>>>,
    pub(crate) policies: Arc<BTreeMap<ObjectName, Arc<AuthorizationPolicy>>>,
    /// Notices by the Service they were found at.
    pub(crate) notices: Arc<BTreeMap<ObjectName, Vec<Notice>>>,
}

impl Builder {
    /// Without objects yet, on `node`.
    pub(crate) fn new(node: Arc<str>) -> Self {
        let built = Built {
            trust_domain: DEFAULT_TRUST_DOMAIN.into(),
            locality: Arc::new(Locality { node, zone: None }),
            services: Arc::default(),
            workloads: Arc::default(),
            policies: Arc::default(),
            notices: Arc::default(),
        };
        Self { objects: Objects::default(), built }
    }

    /// Takes over new versions of objects (`None` removes one) and rebuilds what they touch.
    pub(crate) fn apply(&mut self, changes: impl IntoIterator<Item = (Key, Option<Object>)>) -> &Built {
        let mut dirty = Dirty::default();
        for (key, object) in changes {
            self.objects.replace(key, object, &mut dirty);
        }
        self.objects.spread(&mut dirty);
        self.settings(&mut dirty);
        for name in &dirty.services {
            self.service(name);
        }
        for name in &dirty.workloads {
            self.workload(name);
        }
        for name in &dirty.policies {
            self.policy(name);
        }
        &self.built
    }

    /// Trust domain and locality.
    fn settings(&mut self, dirty: &mut Dirty) {
        if dirty.mesh {
            let mesh = self.objects.mesh.as_ref();
            self.built.trust_domain =
                mesh.map_or_else(|| DEFAULT_TRUST_DOMAIN.into(), |mesh| Arc::clone(&mesh.trust_domain));
            dirty.policies.extend(self.objects.authorization.keys().cloned());
        }
        let zone = self.objects.zone_of(&self.built.locality.node).cloned();
        if zone != self.built.locality.zone {
            let node = Arc::clone(&self.built.locality.node);
            self.built.locality = Arc::new(Locality { node, zone });
        }
    }

    fn service(&mut self, name: &ObjectName) {
        let mut notices = Vec::new();
        let service = service::build(&self.objects, name, &mut notices);
        put(&mut self.built.services, name, service);
        if self.built.notices.get(name).map(Vec::as_slice).unwrap_or_default() != notices {
            let all = Arc::make_mut(&mut self.built.notices);
            if notices.is_empty() {
                all.remove(name)
            } else {
                all.insert(name.clone(), notices)
            };
        }
    }

    fn workload(&mut self, name: &ObjectName) {
        let workload = workload::build(&self.objects, &self.built.locality.node, name);
        put(&mut self.built.workloads, name, workload);
    }

    fn policy(&mut self, name: &ObjectName) {
        let policy = self.objects.authorization.get(name);
        let ours = |domain: &str| {
            let aliases = self.objects.mesh.iter().flat_map(|mesh| &mesh.trust_domain_aliases);
            aliases.chain([&self.built.trust_domain]).any(|name| **name == *domain)
        };
        let policy = policy.map(|policy| attach::authorization(policy, ours));
        put(&mut self.built.policies, name, policy);
    }
}

/// Changes the shared map only where the value differs, so that equal parts stay the same allocation.
fn put<T: PartialEq + Clone>(
    map: &mut Arc<BTreeMap<ObjectName, Arc<T>>>,
    name: &ObjectName,
    value: Option<T>,
) {
    if map.get(name).map(|old| &**old) == value.as_ref() {
        return;
    }
    let map = Arc::make_mut(map);
    match value {
        Some(value) => map.insert(name.clone(), Arc::new(value)),
        None => map.remove(name),
    };
}

pub(crate) const DEFAULT_TRUST_DOMAIN: &str = "cluster.local";

/// Names that something is to be rebuilt for, without doubles and in order.
type NameSet = BTreeSet<ObjectName>;

#[cfg(test)]
mod tests;
