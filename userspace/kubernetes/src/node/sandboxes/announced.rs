//! Networks that the container runtime has told of.

use std::{
    collections::{HashMap, HashSet},
    fs,
    net::IpAddr,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    sync::Arc,
};

use crate::announce::Announced;

/// Those that are there, by the UIDs of their pods.
#[derive(Debug, Default)]
pub(super) struct Announcements(HashMap<Arc<str>, Announcement>);

/// One of them.
#[derive(Debug)]
pub(super) struct Announcement {
    pub(super) path: PathBuf,
    pub(super) ips: Arc<[IpAddr]>,
    sandbox: Arc<str>,
    /// Of the namespace.
    inode: u64,
}

impl Announcements {
    /// Takes it over, in the place of an earlier one of the pod. One that is not there (any more) is nothing.
    pub(super) fn add(&mut self, network: Announced) {
        let Announced { uid, sandbox, netns: path, ips } = network;
        if let Some(inode) = inode(&path) {
            self.0.insert(uid, Announcement { path, ips: ips.into(), sandbox, inode });
        }
    }

    pub(super) fn remove(&mut self, sandbox: &str) {
        self.0.retain(|_, one| &*one.sandbox != sandbox);
    }

    pub(super) fn keep(&mut self, sandboxes: &HashSet<Arc<str>>) {
        self.0.retain(|_, one| sandboxes.contains(&one.sandbox));
    }

    /// Forgets those whose namespaces have gone, or whose paths lead elsewhere.
    pub(super) fn look(&mut self) {
        self.0.retain(|_, one| inode(&one.path) == Some(one.inode));
    }

    pub(super) fn get(&self, uid: &str) -> Option<&Announcement> {
        self.0.get(uid)
    }
}

impl Announcement {
    /// Whether a process whose `ns/net` says `link` is in there (namespaces(7): `net:[inode]`).
    pub(super) fn is_at(&self, link: &Path) -> bool {
        link.to_str() == Some(&format!("net:[{}]", self.inode))
    }
}

fn inode(path: &Path) -> Option<u64> {
    fs::metadata(path).ok().map(|found| found.ino())
}
