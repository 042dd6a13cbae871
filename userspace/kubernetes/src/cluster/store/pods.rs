//! The pods of this node, and where their network namespaces are.

use std::{
    collections::{BTreeMap, HashMap},
    path::{Path, PathBuf},
    sync::Arc,
};

use serde_json::Value;
use weft_model::ObjectName;

use crate::cluster::trim::{self, Placed};

/// This node's pods, whole but trimmed: when a namespace is found, the object is read again with it.
#[derive(Debug)]
pub(in crate::cluster) struct Pods {
    node: Arc<str>,
    here: BTreeMap<ObjectName, Here>,
    /// By the UIDs of pods.
    paths: HashMap<Arc<str>, PathBuf>,
}

#[derive(Debug)]
struct Here {
    object: Value,
    placed: Placed,
}

impl Pods {
    pub(super) fn new(node: Arc<str>) -> Self {
        Self { node, here: BTreeMap::new(), paths: HashMap::new() }
    }

    /// The trimmed pod `object` as it is to be read; `None` for one that runs nowhere yet.
    pub(super) fn put(&mut self, name: &ObjectName, object: Value) -> Option<Value> {
        self.here.remove(name);
        if trim::node(&object)? != &*self.node {
            return Some(object);
        }
        let Some(placed) = trim::placed(&object) else { return Some(object) };
        let here = Here { object, placed };
        let read = here.read(&self.paths);
        self.here.insert(name.clone(), here);
        Some(read)
    }

    pub(super) fn remove(&mut self, name: &ObjectName) {
        self.here.remove(name);
    }

    /// Takes over all paths that are known now; the objects that are to be read again.
    pub(super) fn place(&mut self, paths: HashMap<Arc<str>, PathBuf>) -> Vec<(ObjectName, Value)> {
        let before = std::mem::replace(&mut self.paths, paths);
        let moved = |here: &&Here| before.get(&here.placed.uid) != self.paths.get(&here.placed.uid);
        let moved = self.here.iter().filter(|(_, here)| moved(here));
        moved.map(|(name, here)| (name.clone(), here.read(&self.paths))).collect()
    }

    /// Where the pod `uid` has its namespace.
    pub(in crate::cluster) fn path(&self, uid: &str) -> Option<&Path> {
        self.paths.get(uid).map(PathBuf::as_path)
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
    fn read(&self, paths: &HashMap<Arc<str>, PathBuf>) -> Value {
        // A pod has no address in the first moments of its namespace; then nothing can be enforced there.
        let wanted = self.placed.has_sandbox && self.placed.has_address;
        match paths.get(&self.placed.uid).filter(|_| wanted) {
            Some(path) => trim::with_netns(&self.object, &path.to_string_lossy()),
            None => self.object.clone(),
        }
    }
}
