//! Where the network namespaces of pods are.

mod announced;

use std::{
    collections::{HashMap, HashSet},
    fs, io,
    net::IpAddr,
    path::{Path, PathBuf},
    sync::Arc,
};

use self::announced::Announcements;
use super::{groups, processes::Process};
use crate::announce::Announced;

/// Finds pods' namespaces, and holds on to what it has found while that is true.
#[derive(Debug)]
pub(crate) struct Sandboxes {
    /// The node's part of the v2 tree.
    groups: PathBuf,
    proc: PathBuf,
    /// The process by which a pod's namespace is known.
    known: HashMap<Arc<str>, Process>,
    /// The groups below which the kubelet keeps pods.
    roots: Vec<PathBuf>,
    announced: Announcements,
}

/// Where a pod is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Network {
    /// Its namespace.
    pub(crate) path: PathBuf,
    /// Its addresses, where the runtime has told them; else they are its object's affair.
    pub(crate) ips: Option<Arc<[IpAddr]>>,
}

impl Sandboxes {
    /// Of the node whose control groups are below `groups`.
    pub(crate) fn new(groups: PathBuf, proc: PathBuf) -> Self {
        Self { groups, proc, known: HashMap::new(), roots: Vec::new(), announced: Announcements::default() }
    }

    /// What the runtime says is in this file, too, and what it has said to others.
    pub(crate) fn recall(&mut self, file: PathBuf) {
        self.announced = Announcements::recalled(file);
    }

    /// The runtime has made this network: the pod is there, and nowhere else, as long as its path leads there.
    pub(crate) fn announce(&mut self, network: Announced) {
        self.announced.add(network);
    }

    /// The runtime takes this sandbox away.
    pub(crate) fn withdraw(&mut self, sandbox: &str) {
        self.announced.remove(sandbox);
    }

    /// The runtime knows no sandboxes but these.
    pub(crate) fn keep(&mut self, sandboxes: &HashSet<Arc<str>>) {
        self.announced.keep(sandboxes);
    }

    /// The networks of the pods with these UIDs, as far as they are there.
    ///
    /// A path is that of a process, where there is one already, and is true until this is called next: the number of a process
    /// is given to another one no sooner than when all others were.
    pub(crate) fn scan(&mut self, uids: &[Arc<str>]) -> HashMap<Arc<str>, Network> {
        self.announced.look();
        let mut known = std::mem::take(&mut self.known);
        let mut missing = Vec::new();
        for uid in uids {
            match known.remove(uid).filter(|process| self.holds(*process, uid)) {
                Some(process) => drop(self.known.insert(Arc::clone(uid), process)),
                None => missing.push(uid),
            }
        }
        if !missing.is_empty() {
            let groups = self.pods();
            for uid in missing {
                if let Some(process) = groups.get(&**uid).and_then(|group| self.oldest(group, uid)) {
                    self.known.insert(Arc::clone(uid), process);
                }
            }
        }
        uids.iter().filter_map(|uid| Some((Arc::clone(uid), self.network(uid)?))).collect()
    }

    /// Where the pod `uid` is, as far as it is known now.
    fn network(&self, uid: &str) -> Option<Network> {
        let announced = self.announced.get(uid);
        let process = self.known.get(uid).map(|process| process.netns(&self.proc));
        // A process' path is told rather than the runtime's: it is there whoever mounts what.
        let path = process.or_else(|| Some(announced?.path.clone()))?;
        Some(Network { path, ips: announced.map(|announced| Arc::clone(&announced.ips)) })
    }

    /// Whether `process` lives, is in the pod `uid`, and has another network namespace than this node: the one that was
    /// announced for the pod, if one was.
    fn holds(&self, process: Process, uid: &str) -> bool {
        let inside = process.cgroup(&self.proc).and_then(|text| groups::pod_of(&text));
        let own = fs::read_link(self.proc.join("self/ns/net")).ok();
        let its = fs::read_link(process.netns(&self.proc)).ok();
        let announced = self.announced.get(uid);
        let is_announced = |its: &Path| announced.is_none_or(|announced| announced.is_at(its));
        inside.as_deref() == Some(uid) && its != own && its.as_deref().is_some_and(is_announced)
    }

    /// The oldest process in `group` that has the namespace of the pod `uid`.
    fn oldest(&self, group: &Path, uid: &str) -> Option<Process> {
        let mut processes = Vec::new();
        below(group, DEPTH_IN_POD, &mut |folder| {
            let name = folder.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            if groups::is_of_a_monitor(name) {
                return false;
            }
            let text = fs::read_to_string(folder.join("cgroup.procs")).unwrap_or_default();
            let pids = text.lines().filter_map(|line| line.parse().ok());
            processes.extend(pids.filter_map(|pid| Process::find(&self.proc, pid)));
            true
        });
        processes.sort();
        processes.into_iter().find(|process| self.holds(*process, uid))
    }

    /// The groups of all pods, by UID.
    fn pods(&mut self) -> HashMap<String, PathBuf> {
        self.roots.retain(|root| root.exists());
        if self.roots.is_empty() {
            self.roots = roots(&self.groups);
        }
        let mut pods = HashMap::new();
        for root in &self.roots {
            below(root, DEPTH_OF_PODS, &mut |folder| {
                let uid = folder.file_name().and_then(|name| groups::pod(name.to_str()?));
                uid.map(|uid| pods.insert(uid, folder.to_owned())).is_none()
            });
        }
        pods
    }
}

/// The uppermost groups below `tree` that hold pods.
pub(super) fn roots(tree: &Path) -> Vec<PathBuf> {
    let mut roots = Vec::new();
    below(tree, DEPTH_OF_ROOTS, &mut |folder| {
        let name = folder.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let found = folder != tree && groups::is_of_pods(name);
        if found {
            roots.push(folder.to_owned());
        }
        !found
    });
    roots
}

/// Visits `folder` and those below it, down to `depth`; `visit` says whether to go on below one.
fn below(folder: &Path, depth: u32, visit: &mut impl FnMut(&Path) -> bool) {
    if !visit(folder) || depth == 0 {
        return;
    }
    // Groups come and go while they are listed.
    for entry in fs::read_dir(folder).into_iter().flatten().filter_map(io::Result::ok) {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            below(&entry.path(), depth - 1, visit);
        }
    }
}

/// How deep `kubepods` may lie in a node's tree, pods in that, and processes in a pod.
const DEPTH_OF_ROOTS: u32 = 4;
const DEPTH_OF_PODS: u32 = 2;
const DEPTH_IN_POD: u32 = 4;

#[cfg(test)]
mod tests;
