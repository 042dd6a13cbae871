//! The network namespaces of this node's pods: found by path, let go of when the path goes away.

use std::{collections::BTreeMap, path::PathBuf};

use weft_model::{ObjectName, Workload};
use weft_transport::{Diag, Netns, NetnsId};

/// The namespaces that are held open.
#[derive(Default)]
pub(crate) struct Namespaces {
    held: BTreeMap<ObjectName, Held>,
    waiting: BTreeMap<ObjectName, Waiting>,
}

/// A namespace that is there.
pub(crate) struct Held {
    /// Itself.
    pub netns: Netns,
    /// Its cookie.
    pub cookie: u64,
    /// Its sockets.
    pub diag: Diag,
    path: PathBuf,
}

/// One that is not there yet.
pub(crate) struct Waiting {
    /// Where it should be.
    pub path: PathBuf,
    /// Why it is not held.
    pub why: String,
}

impl Namespaces {
    /// Opens what `pods` need and is there, lets go of the rest. True when that changed anything.
    pub(crate) fn follow<'a>(&mut self, pods: impl Iterator<Item = &'a Workload>) -> bool {
        let wanted: BTreeMap<_, _> =
            pods.filter_map(|pod| pod.netns.clone().map(|path| (pod.name.clone(), path))).collect();
        let before = self.held.len();
        self.held.retain(|name, held| wanted.get(name) == Some(&held.path) && held.is_there());
        let mut changed = self.held.len() != before;
        self.waiting.clear();
        for (name, path) in wanted {
            if self.held.contains_key(&name) {
                continue;
            }
            match Held::open(path.clone()) {
                Ok(held) => {
                    self.held.insert(name, held);
                    changed = true;
                }
                Err(why) => {
                    self.waiting.insert(name, Waiting { path, why });
                }
            }
        }
        changed
    }

    /// Whether a path came, went away, or leads to another namespace now.
    pub(crate) fn moved(&self) -> bool {
        self.held.values().any(|held| !held.is_there())
            || self.waiting.values().any(|waiting| matches!(NetnsId::at(&waiting.path), Ok(Some(_))))
    }

    /// The namespace of a pod.
    pub(crate) fn get(&self, name: &ObjectName) -> Option<&Held> {
        self.held.get(name)
    }

    /// The namespace of a pod, to list its sockets.
    pub(crate) fn get_mut(&mut self, name: &ObjectName) -> Option<&mut Held> {
        self.held.get_mut(name)
    }

    /// Every namespace that is held.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&ObjectName, &Held)> {
        self.held.iter()
    }

    /// Every namespace that is held, to list their sockets.
    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = (&ObjectName, &mut Held)> {
        self.held.iter_mut()
    }

    /// Those that are not there.
    pub(crate) fn waiting(&self) -> impl Iterator<Item = (&ObjectName, &Waiting)> {
        self.waiting.iter()
    }
}

impl Held {
    fn open(path: PathBuf) -> Result<Self, String> {
        let open = || {
            let netns = Netns::open(&path)?;
            Ok::<_, weft_transport::Error>((netns.cookie()?, Diag::open(&netns)?, netns))
        };
        match NetnsId::at(&path) {
            Ok(None) => Err("its network namespace is not there yet".to_owned()),
            Err(error) => Err(error.to_string()),
            Ok(Some(_)) => {
                let (cookie, diag, netns) = open().map_err(|error| error.to_string())?;
                Ok(Self { netns, cookie, diag, path })
            }
        }
    }

    /// The path still leads here. A path below /run/netns is a bind mount, and stays a plain file for a
    /// moment when the namespace was unmounted but not removed.
    fn is_there(&self) -> bool {
        matches!(NetnsId::at(&self.path), Ok(Some(id)) if id == self.netns.id())
    }
}
