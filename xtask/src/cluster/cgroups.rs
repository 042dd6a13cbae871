//! The cluster's cgroups: `weft-cluster` and one below it for the control plane and for each node, in every hierarchy.
//!
//! Everything that the cluster starts stays below, so one write ends all of it. The nodes' pods lie below their node's in
//! cgroup v2 also where controllers are still v1's: what is attached there sees that node's pods and no other's.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use super::wait;

/// A cgroup of the cluster's, by its path below each hierarchy's mount point.
pub(super) struct Cgroup {
    path: String,
}

impl Cgroup {
    /// All of the cluster.
    pub(super) fn cluster() -> Self {
        Self { path: CLUSTER.to_owned() }
    }

    /// A node, or the control plane.
    pub(super) fn of(name: &str) -> Self {
        Self { path: format!("{CLUSTER}/{name}") }
    }

    /// As a kubelet names its root.
    pub(super) fn path(&self) -> String {
        format!("/{}", self.path)
    }

    /// Makes it in every hierarchy, and returns the folders whose `cgroup.procs` a process has to join.
    pub(super) fn make(&self) -> Result<Vec<PathBuf>> {
        hierarchies()?.iter().map(|hierarchy| self.make_in(hierarchy)).collect()
    }

    /// Ends every process in it and below, and waits until they are gone.
    pub(super) fn kill(&self) -> Result<()> {
        let Some(folder) = self.unified()?.filter(|folder| folder.exists()) else { return Ok(()) };
        let kill = folder.join("cgroup.kill");
        fs::write(&kill, "1")
            .with_context(|| format!("write {} (Linux 5.14 and later have it)", kill.display()))?;
        wait::until("the cluster's processes have ended", LIMIT, || {
            let events = fs::read_to_string(folder.join("cgroup.events")).context("read cgroup.events")?;
            ensure!(events.contains("populated 0"), "some still run in {}", folder.display());
            Ok(())
        })
    }

    /// Removes it and those below, in every hierarchy. Nothing may run there any more.
    pub(super) fn remove(&self) -> Result<()> {
        for hierarchy in hierarchies()? {
            let folder = hierarchy.mount.join(&self.path);
            // What has just ended may hold its cgroup a moment longer.
            wait::until("cgroups can be removed", LIMIT, || remove_below(&folder))?;
        }
        Ok(())
    }

    fn unified(&self) -> Result<Option<PathBuf>> {
        let all = hierarchies()?;
        let unified = all.iter().find(|hierarchy| hierarchy.version == Version::Two);
        Ok(unified.map(|hierarchy| hierarchy.mount.join(&self.path)))
    }

    fn make_in(&self, hierarchy: &Hierarchy) -> Result<PathBuf> {
        let mut folder = hierarchy.mount.clone();
        let mut parts = self.path.split('/').peekable();
        while let Some(part) = parts.next() {
            let parent = folder.clone();
            folder.push(part);
            fs::create_dir_all(&folder).with_context(|| format!("create cgroup {}", folder.display()))?;
            match hierarchy.version {
                Version::One => inherit_cpus(&parent, &folder)?,
                Version::Two => pass_controllers_on(&parent)?,
            }
            // In v2 processes live in leaves only, and a node's cgroup has its pods' below.
            if parts.peek().is_none() && hierarchy.version == Version::Two {
                pass_controllers_on(&folder)?;
                folder.push("system");
                fs::create_dir_all(&folder).with_context(|| format!("create cgroup {}", folder.display()))?;
            }
        }
        Ok(folder)
    }
}

/// A mounted tree of cgroups.
#[derive(Debug, PartialEq, Eq)]
struct Hierarchy {
    mount: PathBuf,
    version: Version,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Version {
    One,
    Two,
}

fn hierarchies() -> Result<Vec<Hierarchy>> {
    let mounts = fs::read_to_string("/proc/self/mounts").context("read /proc/self/mounts")?;
    let found = hierarchies_of(&mounts);
    if !found.iter().any(|hierarchy| hierarchy.version == Version::Two) {
        bail!(
            "cgroup v2 is not mounted on this host: mount it (`mount -t cgroup2 none /sys/fs/cgroup/unified`)"
        );
    }
    Ok(found)
}

/// Of `/proc/self/mounts`: device, place, kind, options.
fn hierarchies_of(mounts: &str) -> Vec<Hierarchy> {
    let mut found = Vec::new();
    for line in mounts.lines() {
        let mut fields = line.split(' ').skip(1);
        let (Some(place), Some(kind)) = (fields.next(), fields.next()) else { continue };
        let version = match kind {
            "cgroup" => Version::One,
            "cgroup2" => Version::Two,
            _ => continue,
        };
        // Other mounts of the same trees lie elsewhere.
        if place.starts_with("/sys/fs/cgroup") {
            found.push(Hierarchy { mount: place.into(), version });
        }
    }
    found
}

/// A cpuset of v1 begins with no CPU and no memory, and takes no process until it has some.
fn inherit_cpus(parent: &Path, folder: &Path) -> Result<()> {
    for file in ["cpuset.cpus", "cpuset.mems"] {
        let (from, to) = (parent.join(file), folder.join(file));
        if to.exists() {
            let value = fs::read_to_string(&from).with_context(|| format!("read {}", from.display()))?;
            fs::write(&to, value.trim()).with_context(|| format!("write {}", to.display()))?;
        }
    }
    Ok(())
}

/// In v2 a cgroup has the controllers that its parent passes on. What kubelets do without is left as it is: the first to
/// pass it on is the host's root.
fn pass_controllers_on(parent: &Path) -> Result<()> {
    let path = parent.join("cgroup.controllers");
    let there = fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
    for controller in there.split_whitespace().filter(|controller| KUBELETS.contains(controller)) {
        let control = parent.join("cgroup.subtree_control");
        fs::write(&control, format!("+{controller}"))
            .with_context(|| format!("pass {controller} on in {}", control.display()))?;
    }
    Ok(())
}

fn remove_below(folder: &Path) -> Result<()> {
    let Ok(entries) = fs::read_dir(folder) else { return Ok(()) };
    for entry in entries {
        let path = entry.with_context(|| format!("list {}", folder.display()))?.path();
        if path.is_dir() {
            remove_below(&path)?;
        }
    }
    fs::remove_dir(folder).with_context(|| format!("remove cgroup {}", folder.display()))
}

const CLUSTER: &str = "weft-cluster";
/// The controllers that a kubelet asks for.
const KUBELETS: [&str; 5] = ["cpu", "cpuset", "io", "memory", "pids"];
const LIMIT: Duration = Duration::from_secs(20);

#[cfg(test)]
mod tests {
    use super::{Hierarchy, Version, hierarchies_of};

    #[test]
    fn a_hybrid_host_has_hierarchies_of_both_versions() {
        let mounts = "tmpfs /sys/fs/cgroup tmpfs rw,mode=755 0 0\n\
            cgroup /sys/fs/cgroup/cpuset cgroup rw,cpuset 0 0\n\
            cgroup2 /sys/fs/cgroup/unified cgroup2 rw 0 0\n\
            cgroup2 /run/elsewhere cgroup2 rw 0 0\n";
        let found = [("/sys/fs/cgroup/cpuset", Version::One), ("/sys/fs/cgroup/unified", Version::Two)];
        let found = found.map(|(mount, version)| Hierarchy { mount: mount.into(), version });
        assert_eq!(hierarchies_of(mounts), found);
    }

    #[test]
    fn a_usual_host_has_one() {
        let found = hierarchies_of("cgroup2 /sys/fs/cgroup cgroup2 rw,nosuid 0 0\n");
        assert_eq!(found, [Hierarchy { mount: "/sys/fs/cgroup".into(), version: Version::Two }]);
    }
}
