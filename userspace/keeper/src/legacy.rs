//! A pod's control groups of the first version, where a machine has both.
//!
//! There a container runtime ends a container's processes by those groups, while the proxy has moved to a group of its own
//! in the second version: it leaves the others as well, or it would end with the pod of the agent that has started it.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// Moves the calling process out of the pod that it is in, in every hierarchy of the first version that is mounted here.
/// What cannot be left is said in the log: the proxy ends with its pod then.
///
/// `above_pods` says what is above the kubelet's pods of a group, if that is a pod's.
pub(crate) fn leave_pod(above_pods: impl Fn(&str) -> Option<&str>) {
    let own = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    for place in places(&own, &mounts, above_pods) {
        if let Err(error) = fs::write(place.join(PROCESSES), "0") {
            tracing::warn!(place = %place.display(), %error, "the proxy stays in the group of its agent's pod");
        }
    }
}

/// The folders above the kubelet's pods, of the hierarchies in which `own` is in one of these.
fn places(own: &str, mounts: &str, above_pods: impl Fn(&str) -> Option<&str>) -> Vec<PathBuf> {
    let place = |line: &str| {
        let mut fields = line.splitn(3, ':').skip(1);
        let controllers = fields.next().filter(|controllers| !controllers.is_empty())?;
        let above = above_pods(fields.next()?)?;
        let has = |mount: &Mount<'_>| {
            controllers.split(',').all(|one| mount.options.split(',').any(|option| option == one))
        };
        let mut whole = mounts
            .lines()
            .filter_map(Mount::parse)
            .filter(|mount| mount.kind == "cgroup" && mount.root == "/");
        whole.find(has).map(|mount| Path::new(mount.at).join(above.trim_start_matches('/')))
    };
    own.lines().filter_map(place).collect()
}

/// One line of `/proc/<pid>/mountinfo` (proc(5)).
struct Mount<'a> {
    root: &'a str,
    at: &'a str,
    kind: &'a str,
    options: &'a str,
}

impl<'a> Mount<'a> {
    fn parse(line: &'a str) -> Option<Self> {
        let (place, filesystem) = line.split_once(" - ")?;
        let (mut place, mut filesystem) = (place.split(' ').skip(3), filesystem.split(' '));
        let (root, at, kind) = (place.next()?, place.next()?, filesystem.next()?);
        Some(Self { root, at, kind, options: filesystem.nth(1)? })
    }
}

const PROCESSES: &str = "cgroup.procs";

#[cfg(test)]
mod tests {
    use super::*;

    const MOUNTS: &str = "\
35 34 0:29 / /sys/fs/cgroup/pids rw,nosuid - cgroup cgroup rw,pids
36 34 0:30 / /sys/fs/cgroup/cpu,cpuacct rw,nosuid shared:9 - cgroup cgroup rw,cpu,cpuacct
37 34 0:31 /docker/abc /sys/fs/cgroup/memory ro - cgroup cgroup rw,memory
38 34 0:32 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,xattr,name=systemd
39 34 0:33 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw";

    /// Which names are a kubelet's is tested where they are known.
    fn above(path: &str) -> Option<&str> {
        path.find("/kubepods").map(|at| &path[..at])
    }

    #[test]
    fn a_pods_groups_are_left_for_what_is_above_all_pods_and_no_others_are() {
        let own = "\
9:pids:/n1/kubepods/burstable/pod1/agent
8:cpu,cpuacct:/kubepods.slice/kubepods-pod1.slice/cri-containerd-2.scope
7:memory:/kubepods/pod1/agent
6:name=systemd:/system.slice/weft.service
5:freezer:/kubepods/pod1/agent
0::/n1/kubepods/burstable/pod1/agent
";
        let expected = ["/sys/fs/cgroup/pids/n1", "/sys/fs/cgroup/cpu,cpuacct/"].map(PathBuf::from);
        // That of the memory is mounted in part, the freezer not at all.
        assert_eq!(places(own, MOUNTS, above), expected);
        assert!(places("0::/kubepods/pod1/agent\n", MOUNTS, above).is_empty(), "there is nothing to leave");
    }
}
