//! Which manifest files there are, and which may have changed.

use std::{
    fs::{self, Metadata},
    io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};

/// What tells one version of a file from another without reading it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stamp {
    modified: (i64, i64),
    size: u64,
    inode: (u64, u64),
    /// How long ago that was when the file was listed.
    age: Duration,
}

/// One file of the directory.
#[derive(Debug)]
pub(super) struct Entry {
    /// Its path below the directory.
    pub(super) name: Arc<str>,
    pub(super) path: PathBuf,
    pub(super) stamp: Stamp,
}

/// All manifests in `root` and its direct sub-directories, by name.
pub(super) fn list(root: &Path) -> io::Result<Vec<Entry>> {
    let now = SystemTime::now();
    let mut entries = Vec::new();
    for (path, metadata) in children(root)? {
        if metadata.is_dir() {
            let below = match children(&path) {
                // It has gone since it was listed.
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                // Its files are there and cannot be seen: that is no removal of them.
                below => below?,
            };
            entries
                .extend(below.into_iter().filter_map(|(path, metadata)| entry(root, path, &metadata, now)));
        } else {
            entries.extend(entry(root, path, &metadata, now));
        }
    }
    entries.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(entries)
}

/// The paths of all manifests in `root`, by name.
pub(crate) fn files(root: &Path) -> io::Result<Vec<PathBuf>> {
    Ok(list(root)?.into_iter().map(|entry| entry.path).collect())
}

/// The directories to watch: `root` and those directly below.
pub(super) fn directories(root: &Path) -> Vec<PathBuf> {
    let below = children(root).unwrap_or_default();
    let below = below.into_iter().filter(|(_, metadata)| metadata.is_dir()).map(|(path, _)| path);
    std::iter::once(root.to_owned()).chain(below).collect()
}

/// Whether a file of this name is read.
pub(super) fn is_manifest(path: &Path) -> bool {
    let extension = path.extension().and_then(|extension| extension.to_str());
    extension.is_some_and(|extension| ["yaml", "yml", "json"].contains(&extension)) && !is_hidden(path)
}

impl Stamp {
    /// Whether a file that bore `self` when it was read may be another now that it bears `other`.
    pub(super) fn may_differ(self, other: Self) -> bool {
        // Read so soon after a change, the next one may bear the same time.
        self.age < CLOCK_STEP || !self.looks_like(other)
    }

    /// Whether nothing tells the two apart.
    pub(super) fn looks_like(self, other: Self) -> bool {
        (self.modified, self.size, self.inode) == (other.modified, other.size, other.inode)
    }

    /// Whether the file bearing this may be only half written, given the stamp it was last read with.
    ///
    /// The kernel truncates first and tells later, after waiting for the disk maybe. So a file changed
    /// in place without word of its completion is left alone for as long as a write may take; one that
    /// is new or was put in another's place, for a moment.
    pub(super) fn may_be_incomplete(self, known: Option<Self>) -> bool {
        match known {
            // Read when fresh and unchanged since: there is nothing to wait for.
            Some(known) if known.looks_like(self) => false,
            Some(known) if known.inode == self.inode => self.age < LONGEST_WRITE,
            _ => self.age < CLOCK_STEP,
        }
    }
}

fn children(directory: &Path) -> io::Result<Vec<(PathBuf, Metadata)>> {
    let mut children = Vec::new();
    for child in fs::read_dir(directory)? {
        let path = child?.path();
        if is_hidden(&path) {
            continue;
        }
        // Follows links, as a mounted ConfigMap needs; a dangling one is no file.
        if let Ok(metadata) = fs::metadata(&path) {
            children.push((path, metadata));
        }
    }
    Ok(children)
}

fn entry(root: &Path, path: PathBuf, metadata: &Metadata, now: SystemTime) -> Option<Entry> {
    if !metadata.is_file() || !is_manifest(&path) {
        return None;
    }
    let modified = (metadata.mtime(), metadata.mtime_nsec());
    let age = metadata.modified().map(|at| now.duration_since(at).unwrap_or_else(|ahead| ahead.duration()));
    let age = age.unwrap_or_default();
    let stamp = Stamp { modified, size: metadata.len(), inode: (metadata.dev(), metadata.ino()), age };
    let name = path.strip_prefix(root).ok()?.to_string_lossy().into();
    Some(Entry { name, path, stamp })
}

fn is_hidden(path: &Path) -> bool {
    path.file_name().is_none_or(|name| {
        name.as_encoded_bytes().starts_with(b".") || name.as_encoded_bytes().starts_with(b"#")
    })
}

/// File times move in steps of the kernel's tick, at most 10 ms; twice that is safe.
pub(super) const CLOCK_STEP: Duration = Duration::from_millis(20);
/// Whoever keeps a file open for longer has forgotten to close it.
pub(super) const LONGEST_WRITE: Duration = Duration::from_secs(1);
