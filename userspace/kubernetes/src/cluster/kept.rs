//! What was in force last, on disk, for an agent that begins while the API server is away.
//!
//! One file: the snapshot, when it was written, which pod of this node had which UID (their network namespaces are
//! looked for anew), and the last good versions of objects that may become bad ones.

use std::{
    collections::BTreeMap,
    fs, io,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use serde::{Deserialize, Serialize};
use serde_json::Value;
use weft_model::{JwksHeld, ObjectName, Snapshot};

use super::{membership::Members, resource::OPTIONAL, store::Pods};
use crate::{node::Network, object::Kind};

/// What an earlier agent left.
#[derive(Debug)]
pub(super) struct Kept {
    /// When it was written, in seconds since 1970.
    pub(super) at: u64,
    pub(super) snapshot: Arc<Snapshot>,
    pub(super) good: Vec<Value>,
    uids: BTreeMap<ObjectName, Arc<str>>,
}

/// What the next agent shall have.
#[derive(Debug)]
pub(super) struct Draft {
    pub(super) snapshot: Arc<Snapshot>,
    pub(super) uids: BTreeMap<ObjectName, Arc<str>>,
    pub(super) good: Vec<Arc<Value>>,
}

#[derive(Serialize, Deserialize)]
struct File<S, G> {
    format: u32,
    at: u64,
    uids: BTreeMap<ObjectName, Arc<str>>,
    good: Vec<G>,
    snapshot: S,
}

impl Kept {
    /// What is kept in `folder` for the agent of `node`, if anything is.
    pub(super) fn read(folder: &Path, node: &str, mutual_tls: bool) -> Option<Self> {
        let path = file_in(folder);
        let lost = |why: &dyn std::fmt::Display| {
            tracing::warn!(file = %path.display(), %why, "what was in force last is lost");
        };
        let text = match fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
            Err(error) => {
                lost(&error);
                return None;
            }
        };
        let file: File<Snapshot, Value> = serde_json::from_slice(&text).map_err(|error| lost(&error)).ok()?;
        if file.format != FORMAT || *file.snapshot.locality.node != *node || file.snapshot.version == 0 {
            lost(&"it is another agent's");
            return None;
        }
        let File { at, uids, good, mut snapshot, .. } = file;
        snapshot.version = 1;
        Arc::make_mut(&mut snapshot.mtls).on = mutual_tls;
        let mut kept = Self { at, snapshot: Arc::new(snapshot), good, uids };
        // Where they were is no more than a number of a process by now.
        kept.relocate(|_| None);
        Some(kept)
    }

    /// Takes over where the pods are; whether that changes anything.
    pub(super) fn place(&mut self, pods: &Pods) -> bool {
        self.relocate(|uid| pods.network(uid).cloned())
    }

    /// The keys of providers of tokens.
    pub(super) fn hold(&mut self, jwks: &Arc<JwksHeld>) {
        if self.snapshot.jwks != *jwks {
            let snapshot = Arc::make_mut(&mut self.snapshot);
            snapshot.jwks = Arc::clone(jwks);
            snapshot.version += 1;
        }
    }

    /// The UIDs of this node's pods.
    pub(super) fn uids(&self) -> impl Iterator<Item = &Arc<str>> {
        self.uids.values()
    }

    /// The same, with the names of the pods.
    pub(super) fn named_uids(&self) -> impl Iterator<Item = (&ObjectName, &Arc<str>)> {
        self.uids.iter()
    }

    fn relocate(&mut self, network: impl Fn(&str) -> Option<Network>) -> bool {
        let local = self.snapshot.workloads.values().filter(|workload| workload.local);
        let moved: Vec<_> = local
            .filter_map(|workload| {
                let found = self.uids.get(&workload.name).and_then(|uid| network(uid));
                let told = found.as_ref().and_then(|found| found.ips.as_ref());
                let ips = told.map_or_else(|| workload.ips.clone(), |ips| ips.to_vec());
                let netns = found.map(|found| found.path);
                (workload.netns != netns || workload.ips != ips).then(|| (workload.name.clone(), netns, ips))
            })
            .collect();
        if moved.is_empty() {
            return false;
        }
        let snapshot = Arc::make_mut(&mut self.snapshot);
        snapshot.version += 1;
        let workloads = Arc::make_mut(&mut snapshot.workloads);
        for (name, netns, ips) in moved {
            if let Some(workload) = workloads.get_mut(&name) {
                let workload = Arc::make_mut(workload);
                (workload.netns, workload.ips) = (netns, ips);
            }
        }
        true
    }
}

impl Draft {
    /// Replaces what `folder` keeps, in one step.
    pub(super) fn write(&self, folder: &Path) -> io::Result<()> {
        fs::create_dir_all(folder)?;
        let draft = folder.join(".draft");
        let mut options = fs::OpenOptions::new();
        let mut to =
            io::BufWriter::new(options.write(true).create(true).truncate(true).mode(0o600).open(&draft)?);
        let at = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        let Self { snapshot, uids, good } = self;
        let file = File { format: FORMAT, at, uids: uids.clone(), good: good.clone(), snapshot: &**snapshot };
        serde_json::to_writer(&mut to, &file)?;
        to.into_inner()?.sync_data()?;
        fs::rename(&draft, file_in(folder))?;
        Members::of(snapshot, uids).write(folder)
    }
}

/// The kind of an object that is kept.
pub(super) fn kind(object: &Value) -> Option<Kind> {
    let name = object.get("kind")?.as_str()?;
    OPTIONAL.iter().map(|optional| optional.kind).find(|kind| kind.name() == name)
}

/// The trust domain of what an earlier agent has kept in `folder`, if that can be read.
pub fn kept_trust_domain(folder: &Path) -> Option<Arc<str>> {
    #[derive(Deserialize)]
    struct Named {
        snapshot: OfMesh,
    }
    #[derive(Deserialize)]
    struct OfMesh {
        trust_domain: Arc<str>,
    }
    let named: Named = serde_json::from_slice(&fs::read(file_in(folder)).ok()?).ok()?;
    Some(named.snapshot.trust_domain)
}

fn file_in(folder: &Path) -> PathBuf {
    folder.join("cluster.json")
}

/// Grows when what an older agent has kept can no longer be read.
const FORMAT: u32 = 1;
