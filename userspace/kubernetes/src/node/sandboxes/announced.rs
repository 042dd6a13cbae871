//! Networks that the container runtime has told of.
//!
//! They are in a file, too: an agent that begins knows what the last one was told, and one that stands by what the other is.

use std::{
    collections::{HashMap, HashSet},
    fs, io,
    net::IpAddr,
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    sync::Arc,
};

use serde::{Deserialize, Serialize};

use crate::announce::Announced;

/// Those that are there.
#[derive(Debug, Default)]
pub(super) struct Announcements {
    /// By the UIDs of their pods.
    pods: HashMap<Arc<str>, Announcement>,
    file: Option<PathBuf>,
    /// Which file that was when it was read or written last.
    read: Option<u64>,
}

/// One of them.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Announcement {
    pub(super) path: PathBuf,
    pub(super) ips: Arc<[IpAddr]>,
    sandbox: Arc<str>,
    /// Of the namespace.
    inode: u64,
}

impl Announcements {
    /// Those that `file` has; from now on it has these.
    pub(super) fn recalled(file: PathBuf) -> Self {
        let mut announcements = Self { file: Some(file), ..Self::default() };
        announcements.look();
        announcements
    }

    /// Takes it over, in the place of an earlier one of the pod. One that is not there (any more) is nothing.
    pub(super) fn add(&mut self, network: Announced) {
        let Announced { uid, sandbox, netns: path, ips } = network;
        if let Some(inode) = inode(&path) {
            self.pods.insert(uid, Announcement { path, ips: ips.into(), sandbox, inode });
            self.save();
        }
    }

    pub(super) fn remove(&mut self, sandbox: &str) {
        self.retain(|one| &*one.sandbox != sandbox);
    }

    pub(super) fn keep(&mut self, sandboxes: &HashSet<Arc<str>>) {
        self.retain(|one| sandboxes.contains(&one.sandbox));
    }

    /// Reads what another agent was told, and forgets those whose namespaces have gone, or whose paths lead elsewhere.
    pub(super) fn look(&mut self) {
        let now = self.file.as_deref().and_then(inode);
        if now.is_some() && now != self.read {
            self.read = now;
            let text = self.file.as_deref().and_then(|file| fs::read(file).ok()).unwrap_or_default();
            // What cannot be read is made good by the pods' processes.
            if let Ok(pods) = serde_json::from_slice(&text) {
                self.pods = pods;
            }
        }
        self.pods.retain(|_, one| inode(&one.path) == Some(one.inode));
    }

    pub(super) fn get(&self, uid: &str) -> Option<&Announcement> {
        self.pods.get(uid)
    }

    fn retain(&mut self, keep: impl Fn(&Announcement) -> bool) {
        let before = self.pods.len();
        self.pods.retain(|_, one| keep(one));
        if self.pods.len() != before {
            self.save();
        }
    }

    fn save(&mut self) {
        let Some(file) = &self.file else { return };
        if let Err(error) = write(file, &self.pods) {
            tracing::warn!(%error, file = %file.display(), "the next agent does not know of pods that are just starting");
        }
        self.read = inode(file);
    }
}

impl Announcement {
    /// Whether a process whose `ns/net` says `link` is in there (namespaces(7): `net:[inode]`).
    pub(super) fn is_at(&self, link: &Path) -> bool {
        link.to_str() == Some(&format!("net:[{}]", self.inode))
    }
}

/// Replaces the file in one step: its inode says that it is another one.
fn write(file: &Path, pods: &HashMap<Arc<str>, Announcement>) -> io::Result<()> {
    fs::create_dir_all(file.parent().unwrap_or(Path::new("/")))?;
    let draft = file.with_extension("draft");
    let mut options = fs::OpenOptions::new();
    let to = options.write(true).create(true).truncate(true).mode(0o600).open(&draft)?;
    serde_json::to_writer(to, pods)?;
    fs::rename(&draft, file)
}

fn inode(path: &Path) -> Option<u64> {
    fs::metadata(path).ok().map(|found| found.ino())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::release;

    #[test]
    fn what_the_runtime_has_told_an_agent_of_another_release_is_the_same() {
        let announcement = Announcement {
            path: "/run/netns/cni-1".into(),
            ips: [[10, 1, 0, 7].into()].into(),
            sandbox: "ab12".into(),
            inode: 4_026_532_000,
        };
        let pods: HashMap<Arc<str>, _> = [("u1".into(), announcement)].into();
        release::agrees("announced.json", &pods, &[""]);
    }
}
