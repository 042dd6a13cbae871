//! Objects to the parts of a [`weft_model::Snapshot`], rebuilding only what a change touches.

mod attach;
mod authorization;
mod backend;
mod endpoints;
mod jwt;
mod mtls;
mod notice;
mod objects;
mod outside;
mod rivals;
mod routing;
mod selection;
mod service;
mod status;
mod telemetry;
mod traffic;
mod unverified;
mod workload;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use weft_model::{
    AccessLog, AuthorizationPolicy, JwtProvider, Locality, Mtls, ObjectName, RouteName, RouteStatus, Service,
    Snapshot, Workload,
};

use self::{
    attach::Attachment,
    objects::{Dirty, Objects},
};
pub(crate) use self::{
    notice::{Meaning, Notice},
    status::refused,
};
use crate::object::{Key, Object};

/// Keeps all objects, and what was built from them.
#[derive(Debug)]
pub(crate) struct Builder {
    objects: Objects,
    built: Built,
    /// The trust domain that the mesh was installed for.
    installed: Option<Arc<str>>,
}

/// What a snapshot is made of. Parts that did not change stay the same allocation.
#[derive(Clone, Debug)]
pub(crate) struct Built {
    pub(crate) trust_domain: Arc<str>,
    pub(crate) trust_domain_aliases: Arc<[Arc<str>]>,
    pub(crate) certificate_ttl: Duration,
    pub(crate) brought_authority: Option<ObjectName>,
    pub(crate) locality: Arc<Locality>,
    pub(crate) services: Arc<BTreeMap<ObjectName, Arc<Service>>>,
    pub(crate) workloads: Arc<BTreeMap<ObjectName, Arc<Workload>>>,
    pub(crate) policies: Arc<BTreeMap<ObjectName, Arc<AuthorizationPolicy>>>,
    pub(crate) mtls: Arc<Mtls>,
    pub(crate) jwt: Arc<BTreeMap<ObjectName, Arc<[JwtProvider]>>>,
    pub(crate) access_logs: Arc<BTreeMap<ObjectName, Arc<AccessLog>>>,
    pub(crate) routes: Arc<BTreeMap<RouteName, Arc<RouteStatus>>>,
    /// What became of the routes that name a Service as a parent.
    attachments: Arc<BTreeMap<ObjectName, Vec<Attachment>>>,
    /// Notices by the Service or route they were found at.
    pub(crate) notices: Arc<BTreeMap<Key, Vec<Notice>>>,
}

impl Builder {
    /// Without objects yet, on `node`.
    pub(crate) fn new(node: Arc<str>) -> Self {
        Self::with_mutual_tls(node, false)
    }

    /// As [`Builder::new`]; the node's workloads have certificates if `mutual_tls`.
    pub(crate) fn with_mutual_tls(node: Arc<str>, mutual_tls: bool) -> Self {
        let built = Built {
            trust_domain: DEFAULT_TRUST_DOMAIN.into(),
            trust_domain_aliases: Arc::default(),
            certificate_ttl: Snapshot::CERTIFICATE_TTL,
            brought_authority: None,
            locality: Arc::new(Locality { node, zone: None }),
            services: Arc::default(),
            workloads: Arc::default(),
            policies: Arc::default(),
            mtls: Arc::new(Mtls { on: mutual_tls, ..Mtls::default() }),
            jwt: Arc::default(),
            access_logs: Arc::default(),
            routes: Arc::default(),
            attachments: Arc::default(),
            notices: Arc::default(),
        };
        Self { objects: Objects::default(), built, installed: None }
    }

    /// See [`crate::Options::system`].
    pub(crate) fn take_word_of(&mut self, system: Option<Arc<str>>) {
        self.objects.system = system;
    }

    /// See [`crate::Options::trust_domain`].
    pub(crate) fn install_for(&mut self, trust_domain: Option<Arc<str>>) {
        self.installed = trust_domain;
        self.trust_domain();
    }

    /// Takes over new versions of objects (`None` removes one) and rebuilds what they touch.
    pub(crate) fn apply(&mut self, changes: impl IntoIterator<Item = (Key, Option<Object>)>) -> &Built {
        let mut dirty = Dirty::default();
        for (key, object) in changes {
            self.objects.replace(key, object, &mut dirty);
        }
        self.objects.spread(&mut dirty);
        self.settings(&mut dirty);
        for name in std::mem::take(&mut dirty.services) {
            self.service(&name, &mut dirty.routes);
        }
        for name in &dirty.routes {
            self.route(name);
        }
        for name in &dirty.workloads {
            self.workload(name);
        }
        for name in &dirty.targeted {
            self.access_log(name);
            self.modes(name);
            self.providers(name);
        }
        for key in rivals::touched(&self.objects, &dirty) {
            let notices = rivals::notices(&self.objects, &key);
            self.notices(&key, notices);
        }
        for name in &dirty.policies {
            self.policy(name);
        }
        for name in authorization::touched(&self.objects, &dirty) {
            let notices = authorization::notices(&self.objects, &self.built, &name);
            self.notices(&unverified::key(&name), notices);
        }
        &self.built
    }

    /// Everything that was found.
    pub(crate) fn noticed(&self) -> impl Iterator<Item = &Notice> {
        self.built.notices.values().flatten()
    }

    /// Trust domain, certificates and locality.
    fn settings(&mut self, dirty: &mut Dirty) {
        if dirty.mesh {
            self.trust_domain();
            let (mesh, built) = (self.objects.mesh.as_ref(), &mut self.built);
            built.trust_domain_aliases =
                mesh.map(|mesh| Arc::clone(&mesh.trust_domain_aliases)).unwrap_or_default();
            built.certificate_ttl = mesh.map_or(Snapshot::CERTIFICATE_TTL, |mesh| mesh.certificate_ttl);
            built.brought_authority = mesh.and_then(|mesh| mesh.brought_authority.clone());
            dirty.policies.extend(self.objects.authorization.keys().cloned());
            let mode = mtls::of_mesh(&self.objects);
            if self.built.mtls.mesh != mode {
                Arc::make_mut(&mut self.built.mtls).mesh = mode;
            }
        }
        let zone = self.objects.zone_of(&self.built.locality.node).cloned();
        if zone != self.built.locality.zone {
            let node = Arc::clone(&self.built.locality.node);
            self.built.locality = Arc::new(Locality { node, zone });
        }
    }

    /// That of the installation; a mesh without one has what its settings say.
    fn trust_domain(&mut self) {
        let written = self.objects.mesh.as_ref().and_then(|mesh| mesh.trust_domain.as_ref());
        let installed = self.installed.as_ref();
        self.built.trust_domain =
            installed.or(written).cloned().unwrap_or_else(|| DEFAULT_TRUST_DOMAIN.into());
        let is_strange = written.filter(|written| installed.is_some_and(|installed| installed != *written));
        let notice =
            is_strange.map(|written| notice::another_trust_domain(written, &self.built.trust_domain));
        self.notices(&notice::mesh_config(), notice.into_iter().collect());
    }

    /// Rebuilds a Service; `routes` gets those whose status it changes.
    fn service(&mut self, name: &ObjectName, routes: &mut BTreeSet<RouteName>) {
        let mut notices = Vec::new();
        let (service, attachments) = service::build(&self.objects, name, &mut notices).unzip();
        let service = service.map(|service| with_old_routing(service, self.built.services.get(name)));
        put(&mut self.built.services, name, service.map(Arc::new));
        let attachments = attachments.filter(|attachments| !attachments.is_empty());
        let old = self.built.attachments.get(name).cloned();
        if put(&mut self.built.attachments, name, attachments) {
            let new = self.built.attachments.get(name);
            routes.extend(old.iter().chain(new).flatten().map(|attachment| attachment.route.clone()));
        }
        self.notices(&notice::service(name), notices);
    }

    fn route(&mut self, name: &RouteName) {
        let mut notices = Vec::new();
        let status = status::build(&self.objects, &self.built, name, &mut notices);
        put(&mut self.built.routes, name, status.map(Arc::new));
        self.notices(&name.into(), notices);
    }

    fn notices(&mut self, at: &Key, notices: Vec<Notice>) {
        put(&mut self.built.notices, at, Some(notices).filter(|notices| !notices.is_empty()));
    }

    fn workload(&mut self, name: &ObjectName) {
        let workload = workload::build(&self.objects, &self.built.locality.node, name);
        put(&mut self.built.workloads, name, workload.map(Arc::new));
    }

    fn access_log(&mut self, name: &ObjectName) {
        let workload = self.built.workloads.get(name).filter(|workload| workload.local);
        let log = workload.and_then(|workload| telemetry::access_log(&self.objects, workload));
        put(&mut self.built.access_logs, name, log.map(Arc::new));
    }

    fn modes(&mut self, name: &ObjectName) {
        let workload = self.built.workloads.get(name);
        let modes = workload.and_then(|workload| mtls::of_pod(&self.objects, workload));
        if self.built.mtls.pods.get(name).map(|modes| &**modes) != modes.as_ref() {
            let pods = &mut Arc::make_mut(&mut self.built.mtls).pods;
            match modes {
                Some(modes) => pods.insert(name.clone(), Arc::new(modes)),
                None => pods.remove(name),
            };
        }
    }

    fn providers(&mut self, name: &ObjectName) {
        let workload = self.built.workloads.get(name).filter(|workload| workload.local);
        let providers = workload.and_then(|workload| jwt::of_pod(&self.objects, workload));
        put(&mut self.built.jwt, name, providers);
    }

    fn policy(&mut self, name: &ObjectName) {
        let policy = self.objects.authorization.get(name);
        let ours = |domain: &str| {
            let aliases = self.built.trust_domain_aliases.iter();
            aliases.chain([&self.built.trust_domain]).any(|name| **name == *domain)
        };
        let policy = policy.map(|policy| authorization::build(policy, ours));
        put(&mut self.built.policies, name, policy.map(Arc::new));
    }
}

/// Changes the shared map only where the value differs, so that equal parts stay the same allocation.
/// Whether it did.
fn put<K: Ord + Clone, V: PartialEq + Clone>(
    map: &mut Arc<BTreeMap<K, V>>,
    key: &K,
    value: Option<V>,
) -> bool {
    if map.get(key) == value.as_ref() {
        return false;
    }
    let map = Arc::make_mut(map);
    match value {
        Some(value) => map.insert(key.clone(), value),
        None => map.remove(key),
    };
    true
}

/// Endpoints come and go far more often than routes: a port whose routing says the same keeps the allocation.
fn with_old_routing(mut service: Service, old: Option<&Arc<Service>>) -> Service {
    for port in &mut service.ports {
        let mut old = old.iter().flat_map(|old| &old.ports);
        let old = old.find(|old| (old.port, old.protocol) == (port.port, port.protocol));
        if let Some(old) = old.filter(|old| old.routing == port.routing) {
            port.routing = old.routing.clone();
        }
    }
    service
}

pub(crate) const DEFAULT_TRUST_DOMAIN: &str = "cluster.local";

/// Names that something is to be rebuilt for, without doubles and in order.
type NameSet = BTreeSet<ObjectName>;

#[cfg(test)]
mod tests;
