//! Whether the pods' namespaces are still where they were, for as long as there is no agent to say so.
//!
//! A namespace lives as long as somebody holds it, and a proxy that outlives its agent does. Its paths are in the
//! snapshot, but may not be seen from here: a proxy in a container of its own has other mounts. So a namespace is gone
//! only where its path once led to it.

use std::{
    collections::{BTreeMap, HashMap},
    path::PathBuf,
};

use weft_model::{ObjectName, Snapshot};
use weft_transport::{NetnsId, handover::Pod};

/// Where namespaces should be, and which of them were seen there.
#[derive(Debug, Default)]
pub(super) struct Paths {
    told: HashMap<ObjectName, PathBuf>,
    seen: HashMap<u64, PathBuf>,
}

impl Paths {
    /// Takes the paths from a snapshot.
    pub(super) fn learn(&mut self, snapshot: &Snapshot) {
        let pods = snapshot.workloads.values().filter(|pod| pod.local);
        self.told = pods.filter_map(|pod| Some((pod.name.clone(), pod.netns.clone()?))).collect();
    }

    /// Looks for those that have not been seen so far.
    pub(super) fn look_for(&mut self, held: &BTreeMap<u64, Pod>) {
        self.seen.retain(|cookie, _| held.contains_key(cookie));
        for (cookie, pod) in held {
            if let Some(path) = self.told.get(&pod.name).filter(|path| self.seen.get(cookie) != Some(*path))
                && leads_to(path, pod)
            {
                self.seen.insert(*cookie, path.clone());
            }
        }
    }

    /// The cookies of those that were seen and are not there any more.
    pub(super) fn gone(&self, held: &BTreeMap<u64, Pod>) -> Vec<u64> {
        let seen = |(cookie, pod)| Some((cookie, pod, self.seen.get(cookie)?));
        let gone = held.iter().filter_map(seen).filter(|(_, pod, path)| !leads_to(path, pod));
        gone.map(|(cookie, ..)| *cookie).collect()
    }
}

/// What cannot be told counts as there.
fn leads_to(path: &PathBuf, pod: &Pod) -> bool {
    NetnsId::at(path).map_or(true, |found| found == Some(pod.netns.id()))
}
