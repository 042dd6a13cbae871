//! An agent in a pod: what ends with the pod, and what does not.

use std::{
    fs,
    path::{Path, PathBuf},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use weft_tests::soon;

use crate::stage::{ROUTED, Stage};

/// A pod's control groups of the first version, where this machine has any.
struct Groups {
    /// Below `pids` of the first version, from the world's down to the container's.
    folders: Vec<PathBuf>,
}

impl Groups {
    fn make(world: &str) -> Self {
        let mut groups = Self { folders: Vec::new() };
        let mut folder = PathBuf::from("/sys/fs/cgroup/pids");
        if folder.exists() {
            for part in [world, "kubepods", "pod1", "agent"] {
                folder.push(part);
                fs::create_dir(&folder).unwrap();
                groups.folders.push(folder.clone());
            }
        }
        groups
    }

    /// A command that runs another one in the container's group.
    fn wrapper(&self) -> Vec<String> {
        let Some(container) = self.folders.last() else { return Vec::new() };
        let script = format!("echo 0 > {}/cgroup.procs && exec \"$@\"", container.display());
        ["sh", "-c", &script, "pod"].map(str::to_owned).into()
    }

    /// Ends all that is in the container, as a runtime does when the container has ended.
    fn end(&self, second_version: &Path) {
        for folder in self.folders.last().map(PathBuf::as_path).into_iter().chain([second_version]) {
            let list = fs::read_to_string(folder.join("cgroup.procs")).unwrap();
            for pid in list.lines() {
                // It may have ended by itself.
                let _ = kill(Pid::from_raw(pid.parse().unwrap()), Signal::SIGKILL);
            }
        }
    }
}

impl Drop for Groups {
    fn drop(&mut self) {
        for folder in self.folders.iter().rev() {
            let _ = fs::remove_dir(folder);
        }
    }
}

#[test]
fn the_proxy_outlives_the_pod_whose_agent_has_started_it() {
    let groups = Groups::make(&format!("weft-rollout-{}", std::process::id()));
    let Some(mut stage) = Stage::open_by(&groups.wrapper(), &[]) else { return };
    let a = stage.a.clone();
    let (agent, proxy) = (stage.of_a.pid().unwrap(), a.proxy_pid());
    let groups_of = |pid: u32| fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
    assert_eq!(groups_of(agent).contains("kubepods"), !groups.folders.is_empty());
    assert!(!groups_of(proxy.try_into().unwrap()).contains("kubepods"));

    let mut kept = stage.web.http(ROUTED).unwrap();
    assert_eq!(kept.ask(("GET", "/"), &[], &[]).unwrap().status, 200);
    groups.end(&a.agent_cgroup());
    stage.of_a.kill();
    assert_eq!(kept.ask(("GET", "/"), &[], &[]).unwrap().status, 200, "what it carries goes on");
    assert_eq!(stage.web.get(ROUTED, "/", &[]).unwrap().status, 200, "and it takes new connections");
    stage.of_a.start();
    a.wait();
    soon(|| a.has_proxy());
    assert_eq!(a.proxy_pid(), proxy);
}
