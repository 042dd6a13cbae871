//! The configuration at one moment.

use std::{collections::BTreeMap, sync::Arc};

use crate::{AuthorizationPolicy, Locality, ObjectName, Problem, Service, Workload};

/// Everything the data path needs, immutable. Readers share it; parts that did not change between
/// two versions are the same allocation (`Arc::ptr_eq`), so a reader can skip them.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// Grows with each change.
    pub version: u64,
    /// The trust domain of the mesh.
    pub trust_domain: Arc<str>,
    /// This node and its zone.
    pub locality: Arc<Locality>,
    /// Services by name.
    pub services: Arc<BTreeMap<ObjectName, Arc<Service>>>,
    /// Pods of all nodes by name, host-network pods included (they are never enrolled).
    pub workloads: Arc<BTreeMap<ObjectName, Arc<Workload>>>,
    /// Authorization policies by name.
    pub policies: Arc<BTreeMap<ObjectName, Arc<AuthorizationPolicy>>>,
    /// What is wrong with the input.
    pub problems: Arc<Vec<Problem>>,
}

impl Default for Snapshot {
    fn default() -> Self {
        Self {
            version: 0,
            trust_domain: "cluster.local".into(),
            locality: Arc::default(),
            services: Arc::default(),
            workloads: Arc::default(),
            policies: Arc::default(),
            problems: Arc::default(),
        }
    }
}
