//! Which cgroup the kubelet's probes come from: looked for again and again, as a kubelet that is started anew may have a
//! group that was made anew.

use std::{
    convert::Infallible,
    fs,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    time::Duration,
};

use tokio::sync::watch;
use weft_datapath::{Enforcer, cgroup_mount};
use weft_runtime::Stop;

use crate::{settings::AgentArgs, source::Place};

/// The kubelet's group, and how it is found.
pub(crate) struct Probes {
    /// Given by hand, it is no other one.
    given: bool,
    /// Where groups are, and the part of them that is this node; `None` where no kubelet is looked for.
    node: Option<(PathBuf, PathBuf)>,
    now: Option<Group>,
    found: watch::Sender<bool>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Group {
    path: PathBuf,
    /// By which the kernel knows it; never given to another one.
    inode: u64,
}

impl Probes {
    /// As found when the agent began.
    pub(crate) fn of(args: &AgentArgs, place: &Place) -> Self {
        let mount = cgroup_mount().filter(|_| args.manifests.is_none());
        let node = mount.map(|mount| (mount.clone(), place.cgroup.clone().unwrap_or(mount)));
        let now = place.probes.as_deref().and_then(Group::at);
        let found = watch::channel(place.probes.is_some() || node.is_none()).0;
        Self { given: args.probe_cgroup.is_some(), node, now, found }
    }

    /// Whether there is one, or none is looked for.
    pub(crate) fn found(&self) -> watch::Receiver<bool> {
        self.found.subscribe()
    }

    /// Tells the data path of each change until `stop`.
    pub(crate) async fn follow(mut self, enforcer: Enforcer, stop: Stop) -> Result<(), Infallible> {
        loop {
            tokio::select! {
                () = tokio::time::sleep(LOOK) => {}
                () = stop.cancelled() => return Ok(()),
            }
            let Some(group) = tokio::task::block_in_place(|| self.look(Path::new("/proc"))) else { continue };
            match tokio::task::block_in_place(|| enforcer.probes_are(&group.path)) {
                Ok(()) => {
                    tracing::info!(cgroup = %group.path.display(), "the kubelet's probes come from here now");
                    self.now = Some(group);
                    self.found.send_replace(true);
                }
                // Gone again: the next look finds what there is then.
                Err(error) => tracing::debug!(%error, "the kubelet's cgroup"),
            }
        }
    }

    /// The group that the probes come from, if it is another one than before.
    fn look(&self, proc: &Path) -> Option<Group> {
        let path = self.now.as_ref().map(|group| group.path.clone());
        let same_place = path.as_deref().and_then(Group::at);
        if same_place.is_some() && same_place == self.now && (self.given || is_in_use(&path?)) {
            return None;
        }
        let group = match &self.node {
            Some((mount, node)) if !self.given => {
                weft_kubernetes::kubelet_cgroup(proc, mount, node).as_deref().and_then(Group::at)
            }
            _ => same_place,
        };
        group.filter(|group| Some(group) != self.now.as_ref())
    }
}

impl Group {
    fn at(path: &Path) -> Option<Self> {
        let inode = fs::metadata(path).ok()?.ino();
        Some(Self { path: path.to_owned(), inode })
    }
}

/// Whether anybody is in there.
fn is_in_use(group: &Path) -> bool {
    fs::read_to_string(group.join("cgroup.procs")).is_ok_and(|processes| !processes.is_empty())
}

const LOOK: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    fn group(path: &Path) {
        fs::create_dir_all(path).unwrap();
        fs::write(path.join("cgroup.procs"), "11\n").unwrap();
    }

    fn kubelet(root: &Path, name: &str) {
        let process = root.join("proc/11");
        fs::create_dir_all(&process).unwrap();
        fs::write(process.join("comm"), "kubelet\n").unwrap();
        fs::write(process.join("stat"), format!("11 (kubelet) S {} 5 0", ["0"; 18].join(" "))).unwrap();
        fs::write(process.join("cgroup"), format!("0::/{name}\n")).unwrap();
        group(&root.join("cgroup").join(name));
    }

    #[test]
    fn a_kubelet_whose_group_was_made_anew_is_found_again_there_or_elsewhere() {
        let root = tempfile::tempdir().unwrap();
        let (proc, mount) = (root.path().join("proc"), root.path().join("cgroup"));
        let mut probes = Probes {
            given: false,
            node: Some((mount.clone(), mount.clone())),
            now: None,
            found: watch::channel(false).0,
        };
        fs::create_dir_all(&proc).unwrap();
        assert_eq!(probes.look(&proc), None, "there is none yet");
        kubelet(root.path(), "system.slice/kubelet.service");
        for name in ["system.slice/kubelet.service", "kubelet"] {
            kubelet(root.path(), name);
            let found = probes.look(&proc).unwrap();
            assert_eq!(found.path, mount.join(name));
            probes.now = Some(found);
            assert_eq!(probes.look(&proc), None, "no news");
            // Stopped; the service manager removes its group. A file keeps the number from being given again at once.
            fs::rename(mount.join(name), root.path().join(name.replace('/', "-"))).unwrap();
            fs::remove_file(proc.join("11/comm")).unwrap();
            assert_eq!(probes.look(&proc), None, "there is none");
        }
    }

    #[test]
    fn a_group_that_was_given_is_followed_under_its_name_alone() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("probes");
        group(&path);
        let now = Group::at(&path);
        let mut probes = Probes { given: true, node: None, now, found: watch::channel(true).0 };
        assert_eq!(probes.look(Path::new("/nonexistent")), None);
        fs::rename(&path, root.path().join("old")).unwrap();
        assert_eq!(probes.look(Path::new("/nonexistent")), None, "it is not there");
        group(&path);
        let found = probes.look(Path::new("/nonexistent"));
        assert_eq!(found, Group::at(&path));
        probes.now = found;
        assert_eq!(probes.look(Path::new("/nonexistent")), None);
    }
}
