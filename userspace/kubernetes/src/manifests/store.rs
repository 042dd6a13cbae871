//! The directory's content, its objects and the snapshot of them.

use std::{
    collections::{HashMap, HashSet},
    fs, io,
    path::PathBuf,
    sync::Arc,
    thread,
};

use weft_model::{JwksHeld, Snapshot};

use super::{
    Options,
    directory::{self, CLOCK_STEP, Entry, Stamp},
    memory::Memory,
    shown,
    watch::Ledger,
};
use crate::{Error, assembly::Assembly};

/// Everything read so far. Knows no runtime: reading blocks.
#[derive(Debug)]
pub(super) struct Store {
    root: PathBuf,
    /// The files read, by the names they are shown by.
    stamps: HashMap<Arc<str>, Stamp>,
    ledger: Ledger,
    assembly: Assembly,
    memory: Option<Memory>,
}

impl Store {
    /// Nothing is read yet but what `memory` keeps; that `root` can be is checked.
    pub(super) fn new(root: PathBuf, options: Options) -> Result<Self, Error> {
        let Options { node, last_good: memory, mutual_tls, system, trust_domain } = options;
        directory::list(&root).map_err(|source| Error::Directory { directory: root.clone(), source })?;
        let mut store = Self {
            ledger: Ledger::new(&root)?,
            stamps: HashMap::new(),
            assembly: Assembly::new(node, mutual_tls),
            memory: memory.map(|folder| Memory::new(folder, root.clone())),
            root,
        };
        store.assembly.take_word_of(system);
        store.assembly.install_for(trust_domain);
        if let Some(memory) = &mut store.memory {
            memory.recall(&mut store.assembly.catalog);
            store.assembly.take_over();
        }
        Ok(store)
    }

    /// Keeps what has changed for the next agent.
    pub(super) fn keep(&mut self) {
        if let Some(memory) = &mut self.memory {
            memory.write(&self.assembly.catalog);
        }
    }

    /// These keys are in the snapshot from the next scan on.
    pub(super) fn hold(&mut self, jwks: Arc<JwksHeld>) {
        self.assembly.hold(jwks);
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
        self.assembly.snapshot()
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
            self.assembly.catalog.remove(&name);
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
            self.assembly.catalog.put_bytes(name, bytes);
            self.ledger.was_read(&entry.path);
            self.stamps.insert(Arc::clone(name), entry.stamp);
            self.memory.iter_mut().for_each(|memory| memory.note(name));
        }
        touched.is_empty()
    }
}

/// How often to read again what was written while it was read.
const MOST_READS: u32 = 6;
/// Files whose texts are in memory at once.
const BATCH: usize = 8;
