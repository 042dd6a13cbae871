//! The kubelet of this node.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use super::{groups, processes::Process, sandboxes};

/// The control group of the kubelet whose node is below `node`, a part of the tree mounted at `mount`; `proc` is `/proc`. Its
/// connections are its probes.
///
/// `None` where there is no kubelet, and where it has no group of its own: what is in there passes all policies.
pub fn kubelet_cgroup(proc: &Path, mount: &Path, node: &Path) -> Option<PathBuf> {
    let entries = fs::read_dir(proc).ok()?.filter_map(io::Result::ok);
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter_map(|pid| Process::find(proc, pid)).find_map(|process| {
        let name = fs::read_to_string(proc.join(process.pid.to_string()).join("comm")).ok()?;
        let group = process.cgroup(proc).filter(|_| name.trim_end() == "kubelet")?;
        // From a cgroup namespace of its own others are seen by way of `..`.
        let group = groups::v2(&group)?.split('/').filter(|name| *name != "..");
        let group =
            group.filter(|name| !name.is_empty()).fold(mount.to_owned(), |path, name| path.join(name));
        let inside = fs::read_to_string(group.join("cgroup.procs")).ok()?;
        if !inside.lines().any(|line| line.parse() == Ok(process.pid)) {
            return None;
        }
        let is_its_own = group.starts_with(node) && group != node && sandboxes::roots(&group).is_empty();
        // A program of that name in a pod is no kubelet.
        let in_a_pod = group.iter().any(|part| part.to_str().is_some_and(groups::is_of_pods));
        (is_its_own && !in_a_pod).then_some(group)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn process(root: &Path, pid: u32, name: &str, group: &str) {
        let process = root.join("proc").join(pid.to_string());
        fs::create_dir_all(&process).unwrap();
        fs::write(process.join("comm"), format!("{name}\n")).unwrap();
        fs::write(process.join("stat"), format!("{pid} ({name}) S {} 5 0", ["0"; 18].join(" "))).unwrap();
        fs::write(process.join("cgroup"), format!("0::{group}\n")).unwrap();
        let group = root.join("cgroup").join(group.trim_start_matches('/').trim_start_matches("../"));
        fs::create_dir_all(&group).unwrap();
        fs::write(group.join("cgroup.procs"), format!("1\n{pid}\n")).unwrap();
    }

    fn found(root: &Path, node: &str) -> Option<PathBuf> {
        let mount = root.join("cgroup");
        let found = kubelet_cgroup(&root.join("proc"), &mount, &mount.join(node));
        found.map(|path| path.strip_prefix(&mount).unwrap().to_owned())
    }

    #[test]
    fn each_node_of_a_machine_finds_its_own_kubelet() {
        let root = tempfile::tempdir().unwrap();
        process(root.path(), 10, "containerd", "/n1/system.slice/containerd.service");
        process(root.path(), 11, "kubelet", "/n1/system.slice/kubelet.service");
        process(root.path(), 12, "kubelet", "/n2/kubelet");
        process(root.path(), 13, "kubelet", "/n1/kubepods/burstable/podx/1");
        assert_eq!(found(root.path(), "n1").as_deref(), Some(Path::new("n1/system.slice/kubelet.service")));
        assert_eq!(found(root.path(), "n2").as_deref(), Some(Path::new("n2/kubelet")));
        assert_eq!(found(root.path(), "n3"), None);
    }

    #[test]
    fn it_is_found_from_a_cgroup_namespace_of_the_agents_own() {
        let root = tempfile::tempdir().unwrap();
        process(root.path(), 11, "kubelet", "/../../../system.slice/kubelet.service");
        assert_eq!(found(root.path(), "").as_deref(), Some(Path::new("system.slice/kubelet.service")));
        fs::write(root.path().join("cgroup/system.slice/kubelet.service/cgroup.procs"), "12\n").unwrap();
        assert_eq!(found(root.path(), ""), None, "another group of that name");
    }

    #[test]
    fn a_kubelet_without_a_group_of_its_own_would_let_everybody_pass() {
        let root = tempfile::tempdir().unwrap();
        process(root.path(), 11, "kubelet", "/n1");
        process(root.path(), 12, "kubelet", "/n2/all");
        process(root.path(), 13, "app", "/n2/all/kubepods.slice");
        assert_eq!(found(root.path(), "n1"), None, "the node's own group");
        assert_eq!(found(root.path(), "n2"), None, "pods are below it");
    }
}
