//! The configuration at one moment.

mod for_proxy;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};

use crate::{
    AccessLog, AuthorizationPolicy, Generations, JwksHeld, JwtProvider, Locality, Mtls, ObjectName, Problem,
    RouteName, RouteStatus, Service, Workload,
};

/// Everything the data path needs, immutable. Readers share it; parts that did not change between
/// two versions are the same allocation (`Arc::ptr_eq`), so a reader can skip them.
///
/// The node's proxy gets it as JSON from an agent that may be older or newer: a field that is not known is
/// skipped, and every field that is added from now on, here or in what is below, needs `#[serde(default)]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Snapshot {
    /// Grows with each change.
    pub version: u64,
    /// The trust domain of the mesh.
    pub trust_domain: Arc<str>,
    /// Other names of it: identities under them are of this mesh, too.
    pub trust_domain_aliases: Arc<[Arc<str>]>,
    /// How long workloads' certificates should be valid.
    pub certificate_ttl: Duration,
    /// The Secret of an authority that somebody brings; `None` where controllers make their own. Without a namespace it is
    /// in the mesh's own.
    pub brought_authority: Option<ObjectName>,
    /// This node and its zone.
    pub locality: Arc<Locality>,
    /// Services by name.
    pub services: Arc<BTreeMap<ObjectName, Arc<Service>>>,
    /// Pods of all nodes by name, host-network pods included (they are never enrolled).
    pub workloads: Arc<BTreeMap<ObjectName, Arc<Workload>>>,
    /// Authorization policies by name.
    pub policies: Arc<BTreeMap<ObjectName, Arc<AuthorizationPolicy>>>,
    /// Mutual TLS between nodes.
    pub mtls: Arc<Mtls>,
    /// The pods of this node at which tokens are looked at, and whose they take.
    pub jwt: Arc<BTreeMap<ObjectName, Arc<[JwtProvider]>>>,
    /// The keys of providers that are elsewhere, as far as they are known: the last that were good.
    pub jwks: Arc<JwksHeld>,
    /// The pods of this node whose requests are logged.
    pub access_logs: Arc<BTreeMap<ObjectName, Arc<AccessLog>>>,
    /// What became of each route, for people.
    pub routes: Arc<BTreeMap<RouteName, Arc<RouteStatus>>>,
    /// What is wrong with the input.
    pub problems: Arc<Vec<Problem>>,
    /// Which generation of an API server's objects this is; of those that have a status. Known to those alone that have
    /// read them.
    #[serde(skip)]
    pub generations: Arc<Generations>,
}

impl Snapshot {
    /// How long workloads' certificates are valid where nobody says otherwise.
    pub const CERTIFICATE_TTL: Duration = Duration::from_hours(24);
}

impl Default for Snapshot {
    fn default() -> Self {
        Self {
            version: 0,
            trust_domain: "cluster.local".into(),
            trust_domain_aliases: Arc::default(),
            certificate_ttl: Self::CERTIFICATE_TTL,
            brought_authority: None,
            locality: Arc::default(),
            services: Arc::default(),
            workloads: Arc::default(),
            policies: Arc::default(),
            mtls: Arc::default(),
            jwt: Arc::default(),
            jwks: Arc::default(),
            access_logs: Arc::default(),
            routes: Arc::default(),
            problems: Arc::default(),
            generations: Arc::default(),
        }
    }
}
