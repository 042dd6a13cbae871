//! Where an agent's kernel objects are pinned: `/sys/fs/bpf/weft/<node>/v<version>/{maps,links,netns}`.

use std::{
    fs, io,
    os::{fd::AsFd, unix::fs::DirBuilderExt},
    path::{Path, PathBuf},
};

use crate::{accelerate, host::BPFFS, link};

/// The pins of one node.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    dir: PathBuf,
}

/// The pins of one layout version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Pins {
    /// The version.
    pub version: u32,
    dir: PathBuf,
}

impl Node {
    /// The pins of `node`. The BPF filesystem keeps names with a dot to itself; a node's name may have
    /// dots, and never an underscore.
    pub(crate) fn new(node: &str) -> Self {
        Self { dir: Path::new(BPFFS).join("weft").join(node.replace('.', "_")) }
    }

    /// Their folder.
    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    /// The versions that have pins, oldest first.
    pub(crate) fn versions(&self) -> Vec<Pins> {
        let entries = fs::read_dir(&self.dir).into_iter().flatten().flatten();
        let mut versions: Vec<_> = entries
            .filter_map(|entry| entry.file_name().to_str()?.strip_prefix('v')?.parse().ok())
            .map(|version| self.version(version))
            .collect();
        versions.sort_by_key(|pins| pins.version);
        versions
    }

    /// The pins of one version, which need not exist.
    pub(crate) fn version(&self, version: u32) -> Pins {
        Pins { version, dir: self.dir.join(format!("v{version}")) }
    }

    /// Removes the folder where nothing is in it, and that of all nodes after the last.
    pub(crate) fn remove_empty(&self) {
        // What is not empty, or gone already, is as it should be.
        if fs::remove_dir(&self.dir).is_ok()
            && let Some(all) = self.dir.parent()
        {
            let _ = fs::remove_dir(all);
        }
    }

    /// Removes every pin of this node; what is only held by its pin ends.
    pub(crate) fn remove(&self) -> io::Result<()> {
        self.versions().iter().try_for_each(Pins::remove)?;
        remove_dir(&self.dir)?;
        // The folder of all nodes goes with the last of them.
        match self.dir.parent().map(fs::remove_dir) {
            Some(Err(error)) if error.kind() != io::ErrorKind::DirectoryNotEmpty => gone(error),
            _ => Ok(()),
        }
    }
}

impl Pins {
    /// Makes the folders, for root only.
    pub(crate) fn make(&self) -> io::Result<()> {
        for folder in [self.maps(), self.links(), self.netns()] {
            fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
        }
        Ok(())
    }

    /// Pins of maps, by map name.
    pub(crate) fn maps(&self) -> PathBuf {
        self.dir.join("maps")
    }

    /// Pins of the links to the cgroup, by program name.
    pub(crate) fn links(&self) -> PathBuf {
        self.dir.join("links")
    }

    /// Pins of the links to network namespaces, by netns cookie.
    pub(crate) fn netns(&self) -> PathBuf {
        self.dir.join("netns")
    }

    /// The cookies of the network namespaces that have a link.
    pub(crate) fn linked(&self) -> Vec<u64> {
        let entries = fs::read_dir(self.netns()).into_iter().flatten().flatten();
        entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
    }

    /// Whether any program of this version is attached.
    pub(crate) fn is_attached(&self) -> bool {
        let has_any =
            |folder: PathBuf| fs::read_dir(folder).is_ok_and(|mut entries| entries.next().is_some());
        has_any(self.links()) || has_any(self.netns())
    }

    /// Removes every pin of this version.
    pub(crate) fn remove(&self) -> io::Result<()> {
        // Sockets that are paired outlive the pins.
        accelerate::stop(self)?;
        // First what redirects and refuses in the pods, while what it goes by is still written.
        for folder in [self.netns(), self.links(), self.maps()] {
            for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
                if folder != self.maps()
                    && let Ok(link) = link::open(&entry.path())
                    && let Err(error) = link::detach(link.as_fd())
                {
                    tracing::debug!(pin = %entry.path().display(), %error, "not detached; it goes with its pin");
                }
                fs::remove_file(entry.path()).or_else(gone)?;
            }
            remove_dir(&folder)?;
        }
        remove_dir(&self.dir)
    }
}

fn remove_dir(dir: &Path) -> io::Result<()> {
    fs::remove_dir(dir).or_else(gone)
}

fn gone(error: io::Error) -> io::Result<()> {
    if error.kind() == io::ErrorKind::NotFound { Ok(()) } else { Err(error) }
}
