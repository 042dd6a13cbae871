//! The pods of this node, and where their network namespaces are.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use serde_json::Value;
use weft_model::ObjectName;

use crate::{
    cluster::trim::{self, Placed},
    node::Network,
};

/// This node's pods, whole but trimmed: when a namespace is found, the object is read again with it.
#[derive(Debug)]
pub(in crate::cluster) struct Pods {
    node: Arc<str>,
    here: BTreeMap<ObjectName, Here>,
    /// By the UIDs of pods.
    networks: HashMap<Arc<str>, Network>,
}

#[derive(Debug)]
struct Here {
    object: Value,
    placed: Placed,
}

impl Pods {
    pub(super) fn new(node: Arc<str>) -> Self {
        Self { node, here: BTreeMap::new(), networks: HashMap::new() }
    }

    /// The trimmed pod `object` as it is to be read; `None` for one that runs nowhere yet.
    pub(super) fn put(&mut self, name: &ObjectName, object: Value) -> Option<Value> {
        self.here.remove(name);
        if trim::node(&object)? != &*self.node {
            return Some(object);
        }
        let Some(placed) = trim::placed(&object) else { return Some(object) };
        let here = Here { object, placed };
        let read = here.read(&self.networks);
        self.here.insert(name.clone(), here);
        Some(read)
    }

    pub(super) fn remove(&mut self, name: &ObjectName) {
        self.here.remove(name);
    }

    /// Takes over all networks that are known now; the objects that are to be read again.
    pub(super) fn place(&mut self, networks: HashMap<Arc<str>, Network>) -> Vec<(ObjectName, Value)> {
        let before = std::mem::replace(&mut self.networks, networks);
        let moved = |here: &&Here| before.get(&here.placed.uid) != self.networks.get(&here.placed.uid);
        let moved = self.here.iter().filter(|(_, here)| moved(here));
        moved.map(|(name, here)| (name.clone(), here.read(&self.networks))).collect()
    }

    /// Where the pod `uid` is.
    pub(in crate::cluster) fn network(&self, uid: &str) -> Option<&Network> {
        self.networks.get(uid)
    }

    /// The UIDs of those that have a sandbox.
    pub(super) fn uids(&self) -> impl Iterator<Item = &Arc<str>> {
        self.named_uids().map(|(_, uid)| uid)
    }

    /// The same, with the names of the pods.
    pub(super) fn named_uids(&self) -> impl Iterator<Item = (&ObjectName, &Arc<str>)> {
        let here = self.here.iter().filter(|(_, here)| here.placed.has_sandbox);
        here.map(|(name, here)| (name, &here.placed.uid))
    }
}

impl Here {
    fn read(&self, networks: &HashMap<Arc<str>, Network>) -> Value {
        let found = networks.get(&self.placed.uid).filter(|found| {
            // Without an address nothing can be enforced there.
            self.placed.has_sandbox && (self.placed.has_address || found.ips.is_some())
        });
        match found {
            Some(Network { path, ips }) => trim::with_network(&self.object, path, ips.as_deref()),
            None => self.object.clone(),
        }
    }
}
