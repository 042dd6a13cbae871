//! Which pods a Service may select, found through one label of its selector.
//!
//! Only labels that some Service selects by are indexed, so this stays small however many labels
//! pods have.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

use weft_model::ObjectName;

use super::objects::within;
use crate::object::{Pod, Service};

/// Candidates by namespace, label key and label value; who finds them checks the whole selector.
#[derive(Debug, Default)]
pub(super) struct Selection {
    namespaces: HashMap<Arc<str>, HashMap<String, HashMap<String, Members>>>,
    /// Namespaces with labels whose pods are not found yet.
    unfilled: BTreeSet<Arc<str>>,
}

#[derive(Debug, Default)]
struct Members {
    services: BTreeSet<Arc<str>>,
    pods: BTreeSet<Arc<str>>,
}

impl Selection {
    /// Names of Services that may select a pod with `pod`'s labels.
    pub(super) fn services_of<'s>(&'s self, pod: &'s Pod) -> impl Iterator<Item = &'s Arc<str>> {
        let keys = self.namespaces.get(&pod.name.namespace);
        let members = pod.labels.iter().filter_map(move |(key, value)| keys?.get(key)?.get(value));
        members.flat_map(|members| &members.services)
    }

    /// Names of pods that `service` may select.
    pub(super) fn pods_of(&self, service: &Service) -> impl Iterator<Item = &Arc<str>> {
        let label = indexed_label(service);
        let members =
            label.and_then(|(key, value)| self.namespaces.get(&service.name.namespace)?.get(key)?.get(value));
        members.into_iter().flat_map(|members| &members.pods)
    }

    /// Takes a Service's new version for its old one.
    pub(super) fn replace_service(&mut self, old: Option<&Service>, new: Option<&Service>) {
        if old.and_then(indexed_label) == new.and_then(indexed_label) {
            return;
        }
        if let Some((service, (key, value))) = old.and_then(|old| Some((old, indexed_label(old)?))) {
            let namespace = &service.name.namespace;
            if let Some(values) = self.namespaces.get_mut(namespace).and_then(|keys| keys.get_mut(key))
                && let Some(members) = values.get_mut(value)
            {
                members.services.remove(&service.name.name);
                if members.services.is_empty() {
                    values.remove(value);
                }
            }
        }
        if let Some((service, (key, value))) = new.and_then(|new| Some((new, indexed_label(new)?))) {
            let namespace = Arc::clone(&service.name.namespace);
            let keys = self.namespaces.entry(Arc::clone(&namespace)).or_default();
            let members = keys.entry(key.clone()).or_default().entry(value.clone()).or_default();
            if members.services.is_empty() {
                self.unfilled.insert(namespace);
            }
            members.services.insert(Arc::clone(&service.name.name));
        }
    }

    /// Takes a pod's new version for its old one.
    pub(super) fn replace_pod(&mut self, old: Option<&Pod>, new: Option<&Pod>) {
        if let Some(old) = old {
            self.each_label(old, |pods| pods.remove(&old.name.name));
        }
        if let Some(new) = new {
            self.each_label(new, |pods| pods.insert(Arc::clone(&new.name.name)));
        }
    }

    /// Finds the pods of labels that are new in the index: once for a batch of changes.
    pub(super) fn fill(&mut self, pods: &BTreeMap<ObjectName, Arc<Pod>>) {
        for namespace in std::mem::take(&mut self.unfilled) {
            for (_, pod) in within(pods, &namespace) {
                self.replace_pod(None, Some(pod));
            }
        }
    }

    fn each_label(&mut self, pod: &Pod, change: impl Fn(&mut BTreeSet<Arc<str>>) -> bool) {
        let Some(keys) = self.namespaces.get_mut(&pod.name.namespace) else { return };
        for (key, value) in &*pod.labels {
            if let Some(members) = keys.get_mut(key).and_then(|values| values.get_mut(value)) {
                change(&mut members.pods);
            }
        }
    }
}

/// The label that a Service is found by: a longer value is likely to be shared by fewer.
fn indexed_label(service: &Service) -> Option<(&String, &String)> {
    service.selector.as_ref()?.labels.iter().max_by_key(|(_, value)| value.len())
}
