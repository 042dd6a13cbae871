//! The last good text of every file, kept on disk for the next agent.
//!
//! A document that breaks keeps its last good version in force. Without this, one that broke while no
//! agent ran, or before a restart, would have none: a policy that cannot be read would let everybody in.

use std::{
    collections::BTreeSet,
    fs, io,
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
    sync::Arc,
};

use super::{directory, shown};
use crate::catalog::Catalog;

/// A copy of the manifests, less what is broken in them.
#[derive(Debug)]
pub(super) struct Memory {
    /// Where the copies are, by the names of their files.
    folder: PathBuf,
    /// The manifests.
    root: PathBuf,
    /// Files that changed since they were last copied.
    changed: BTreeSet<Arc<str>>,
}

impl Memory {
    /// The copies in `folder` of the manifests in `root`.
    pub(super) fn new(folder: PathBuf, root: PathBuf) -> Self {
        Self { folder, root, changed: BTreeSet::new() }
    }

    /// Has `catalog` read what a file held when it was good last, where it holds something else now.
    pub(super) fn recall(&mut self, catalog: &mut Catalog) {
        // None before the first start.
        for entry in directory::list(&self.folder).unwrap_or_default() {
            let name: Arc<str> = shown(&self.root, &entry.name).into();
            match (fs::read_to_string(&entry.path), fs::read(&*name)) {
                (Ok(good), Ok(now)) if good.as_bytes() == now => {}
                (Ok(_), Err(error)) if error.kind() == io::ErrorKind::NotFound => self.note(&name),
                (Ok(good), _) => {
                    catalog.put(&name, &good);
                    self.note(&name);
                }
                (Err(error), _) => {
                    tracing::warn!(file = %entry.path.display(), %error, "what a manifest held last is lost");
                }
            }
        }
    }

    /// A file has changed, or gone.
    pub(super) fn note(&mut self, name: &Arc<str>) {
        self.changed.insert(Arc::clone(name));
    }

    /// Copies what has changed.
    pub(super) fn write(&mut self, catalog: &Catalog) {
        for name in std::mem::take(&mut self.changed) {
            if let Err(error) = self.copy(&name, catalog) {
                tracing::warn!(
                    file = %name, %error, folder = %self.folder.display(),
                    "what the manifest holds now cannot be kept; if it breaks, a restart loses it"
                );
            }
        }
    }

    fn copy(&self, name: &str, catalog: &Catalog) -> io::Result<()> {
        let below = Path::new(name).strip_prefix(&self.root).map_err(io::Error::other)?;
        let copy = self.folder.join(below);
        let Ok(now) = fs::read(name) else {
            return if Path::new(name).exists() { Ok(()) } else { remove(&copy) };
        };
        let before = fs::read_to_string(&copy).unwrap_or_default();
        let good = catalog.good_text(name, &String::from_utf8_lossy(&now), &before);
        if good == before && copy.exists() {
            return Ok(());
        }
        let parent = copy.parent().unwrap_or(&self.folder);
        fs::DirBuilder::new().recursive(true).mode(0o700).create(parent)?;
        // Hidden: an interrupted write is never read.
        let draft = parent.join(".draft");
        fs::write(&draft, good)?;
        fs::rename(&draft, &copy)
    }
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
