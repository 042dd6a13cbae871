//! The directory's content, its objects and the snapshot of them.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    fs, io,
    path::PathBuf,
    sync::Arc,
    thread,
};

use weft_model::{JwksHeld, RouteName, RouteStatus, Snapshot};

use super::{
    Catalog, Options,
    directory::{self, CLOCK_STEP, Entry, Stamp},
    memory::Memory,
    shown,
    watch::Ledger,
};
use crate::{
    Error,
    build::{Builder, Built, refused},
};

/// Everything read so far. Knows no runtime: reading blocks.
#[derive(Debug)]
pub(super) struct Store {
    root: PathBuf,
    /// The files read, by the names they are shown by.
    stamps: HashMap<Arc<str>, Stamp>,
    ledger: Ledger,
    catalog: Catalog,
    memory: Option<Memory>,
    builder: Builder,
    jwks: Arc<JwksHeld>,
    snapshot: Arc<Snapshot>,
}

impl Store {
    /// Nothing is read yet but what `memory` keeps; that `root` can be is checked.
    pub(super) fn new(root: PathBuf, options: Options) -> Result<Self, Error> {
        let Options { node, last_good: memory, mutual_tls } = options;
        directory::list(&root).map_err(|source| Error::Directory { directory: root.clone(), source })?;
        let mut store = Self {
            ledger: Ledger::new(&root)?,
            stamps: HashMap::new(),
            catalog: Catalog::default(),
            memory: memory.map(|folder| Memory::new(folder, root.clone())),
            root,
            builder: Builder::with_mutual_tls(node, mutual_tls),
            jwks: Arc::default(),
            snapshot: Arc::default(),
        };
        if let Some(memory) = &mut store.memory {
            memory.recall(&mut store.catalog);
            store.builder.apply(store.catalog.settle());
        }
        Ok(store)
    }

    /// Keeps what has changed for the next agent.
    pub(super) fn keep(&mut self) {
        if let Some(memory) = &mut self.memory {
            memory.write(&self.catalog);
        }
    }

    /// These keys are in the snapshot from the next scan on.
    pub(super) fn hold(&mut self, jwks: Arc<JwksHeld>) {
        self.jwks = jwks;
    }

    /// Reads what has changed; the same snapshot where nothing has.
    pub(super) fn rescan(&mut self) -> Arc<Snapshot> {
        for _ in 0..MOST_READS {
            match self.read() {
                Ok(true) => break,
                // Something was written meanwhile, or a moment ago: look again.
                Ok(false) => thread::sleep(CLOCK_STEP / 4),
                Err(error) => {
                    // Away for a moment, or for good: what is in force stays.
                    tracing::warn!(directory = %self.root.display(), %error, "cannot list the manifests");
                    break;
                }
            }
        }
        let changes = self.catalog.settle();
        let built = self.builder.apply(changes);
        let problems = self.catalog.problems(built.notices.values().flatten());
        let routes = routes(built, &self.catalog);
        if let Some(snapshot) = next(&self.snapshot, built, &self.jwks, routes, problems) {
            self.snapshot = Arc::new(snapshot);
        }
        Arc::clone(&self.snapshot)
    }

    /// Reads files that have changed, but for half-written ones; whether nobody wrote meanwhile.
    fn read(&mut self) -> io::Result<bool> {
        self.ledger.touched();
        let entries = directory::list(&self.root)?;
        let listed = |path: &PathBuf| entries.iter().any(|entry| entry.path == *path);
        // A file renamed while the directory was listed may be missing from the list.
        if self
            .ledger
            .touched()
            .iter()
            .any(|path| !listed(path) && directory::is_manifest(path) && path.exists())
        {
            return Ok(false);
        }
        let mut gone: HashSet<_> = self.stamps.keys().cloned().collect();
        let (mut changed, mut quiet) = (Vec::new(), true);
        for entry in entries {
            let name: Arc<str> = shown(&self.root, &entry.name).into();
            gone.remove(&name);
            let (known, complete) = (self.stamps.get(&name).copied(), self.ledger.is_complete(&entry.path));
            let changed_since = complete || known.is_none_or(|old| old.may_differ(entry.stamp));
            if !changed_since || self.ledger.is_being_written(&entry.path) {
                continue;
            }
            if !complete && entry.stamp.may_be_incomplete(known) {
                quiet = false;
            } else {
                changed.push((name, entry));
            }
        }
        for some in changed.chunks(BATCH) {
            quiet &= self.take(some);
        }
        for name in gone {
            self.catalog.remove(&name);
            self.stamps.remove(&name);
            self.memory.iter_mut().for_each(|memory| memory.note(&name));
        }
        Ok(quiet)
    }

    /// Reads these files and takes over those that nobody touched meanwhile; whether that is all.
    fn take(&mut self, entries: &[(Arc<str>, Entry)]) -> bool {
        let read: Vec<_> = entries.iter().map(|(_, entry)| fs::read(&entry.path)).collect();
        let touched = self.ledger.touched();
        for ((name, entry), bytes) in entries.iter().zip(read) {
            if touched.contains(&entry.path) {
                continue;
            }
            // Removed since it was listed: the next scan does not list it.
            if bytes.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::NotFound) {
                continue;
            }
            self.catalog.put_bytes(name, bytes);
            self.ledger.was_read(&entry.path);
            self.stamps.insert(Arc::clone(name), entry.stamp);
            self.memory.iter_mut().for_each(|memory| memory.note(name));
        }
        touched.is_empty()
    }
}

/// What became of each route, those included that cannot be read.
fn routes(built: &Built, catalog: &Catalog) -> Arc<BTreeMap<RouteName, Arc<RouteStatus>>> {
    let mut routes = Arc::clone(&built.routes);
    for (name, reason, message) in catalog.refusals() {
        let status = refused(reason, &message, built.routes.get(&name).map(|status| &**status));
        Arc::make_mut(&mut routes).insert(name, Arc::new(status));
    }
    routes
}

/// The snapshot after `old`; `None` where it would hold the same.
fn next(
    old: &Snapshot,
    built: &Built,
    jwks: &Arc<JwksHeld>,
    routes: Arc<BTreeMap<RouteName, Arc<RouteStatus>>>,
    problems: Vec<weft_model::Problem>,
) -> Option<Snapshot> {
    let Built { locality, services, workloads, policies, mtls, jwt, access_logs, .. } = built;
    let same = old.version > 0
        && old.trust_domain == built.trust_domain
        && old.trust_domain_aliases == built.trust_domain_aliases
        && old.certificate_ttl == built.certificate_ttl
        && old.locality == *locality
        && Arc::ptr_eq(&old.services, services)
        && Arc::ptr_eq(&old.workloads, workloads)
        && Arc::ptr_eq(&old.policies, policies)
        && Arc::ptr_eq(&old.mtls, mtls)
        && Arc::ptr_eq(&old.jwt, jwt)
        && old.jwks == *jwks
        && Arc::ptr_eq(&old.access_logs, access_logs);
    let problems = if *old.problems == problems { Arc::clone(&old.problems) } else { Arc::new(problems) };
    let routes = if old.routes == routes { Arc::clone(&old.routes) } else { routes };
    if same && Arc::ptr_eq(&old.routes, &routes) && Arc::ptr_eq(&old.problems, &problems) {
        return None;
    }
    Some(Snapshot {
        version: old.version + 1,
        trust_domain: Arc::clone(&built.trust_domain),
        trust_domain_aliases: Arc::clone(&built.trust_domain_aliases),
        certificate_ttl: built.certificate_ttl,
        locality: Arc::clone(locality),
        services: Arc::clone(services),
        workloads: Arc::clone(workloads),
        policies: Arc::clone(policies),
        mtls: Arc::clone(mtls),
        jwt: Arc::clone(jwt),
        jwks: Arc::clone(jwks),
        access_logs: Arc::clone(access_logs),
        routes,
        problems,
    })
}

/// How often to read again what was written while it was read.
const MOST_READS: u32 = 6;
/// Files whose texts are in memory at once.
const BATCH: usize = 8;
