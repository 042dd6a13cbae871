use std::os::unix::fs::{MetadataExt as _, symlink};

use tempfile::TempDir;

use super::*;

const UID: &str = "3d1c5c52-0d5f-4c5e-9c07-6d1d4b6c8c11";
const SLICE: &str = "kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod3d1c5c52_0d5f_4c5e_9c07_6d1d4b6c8c11.slice";

/// A cgroup tree and a `/proc` of plain files.
struct Machine {
    folder: TempDir,
    sandboxes: Sandboxes,
}

impl Machine {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let sandboxes = Sandboxes::new(folder.path().join("cgroup"), folder.path().join("proc"));
        let machine = Self { folder, sandboxes };
        fs::create_dir_all(machine.proc("self/ns")).unwrap();
        symlink("net:[1]", machine.proc("self/ns/net")).unwrap();
        fs::create_dir_all(machine.folder.path().join("cgroup/system.slice")).unwrap();
        machine
    }

    fn proc(&self, path: &str) -> PathBuf {
        self.folder.path().join("proc").join(path)
    }

    /// A process in `group`, with this age and namespace.
    fn start(&self, pid: u32, started: u64, group: &str, netns: u32) {
        let process = self.proc(&pid.to_string());
        fs::create_dir_all(process.join("ns")).unwrap();
        let stat = format!("{pid} (odd) name) S {} {started} 4096 0", ["0"; 18].join(" "));
        fs::write(process.join("stat"), stat).unwrap();
        fs::write(process.join("cgroup"), format!("0::/{group}\n")).unwrap();
        symlink(format!("net:[{netns}]"), process.join("ns/net")).unwrap();
        let group = self.folder.path().join("cgroup").join(group);
        fs::create_dir_all(&group).unwrap();
        let others = fs::read_to_string(group.join("cgroup.procs")).unwrap_or_default();
        fs::write(group.join("cgroup.procs"), format!("{others}{pid}\n")).unwrap();
    }

    fn kill(&self, pid: u32, group: &str) {
        fs::remove_dir_all(self.proc(&pid.to_string())).unwrap();
        let procs = self.folder.path().join("cgroup").join(group).join("cgroup.procs");
        let others = fs::read_to_string(&procs).unwrap().replace(&format!("{pid}\n"), "");
        fs::write(procs, others).unwrap();
    }

    /// The number of the process by which the pod's namespace is known.
    fn found(&mut self) -> Option<u32> {
        let found = self.sandboxes.scan(&[UID.into()]);
        let path = found.get(UID)?.path.strip_prefix(self.folder.path().join("proc")).unwrap().to_owned();
        let (pid, rest) = path.to_str().unwrap().split_once('/').unwrap();
        assert_eq!(rest, "ns/net");
        Some(pid.parse().unwrap())
    }
}

impl Machine {
    /// Has the runtime tell of a namespace for the pod; which one that is.
    fn announce(&mut self, sandbox: &str) -> u32 {
        let path = self.runtime(sandbox);
        fs::write(&path, "").unwrap();
        let inode = fs::metadata(&path).unwrap().ino();
        let ips = vec!["10.1.0.7".parse().unwrap()];
        self.sandboxes.announce(Announced { uid: UID.into(), sandbox: sandbox.into(), netns: path, ips });
        inode.try_into().unwrap()
    }

    /// Where that namespace is.
    fn runtime(&self, sandbox: &str) -> PathBuf {
        self.folder.path().join(sandbox)
    }

    fn network(&mut self) -> Option<Network> {
        self.sandboxes.scan(&[UID.into()]).remove(UID)
    }
}

fn group(container: &str) -> String {
    format!("{SLICE}/cri-containerd-{container}.scope")
}

#[test]
fn a_pods_namespace_is_that_of_its_oldest_process() {
    let mut machine = Machine::new();
    assert_eq!(machine.found(), None, "it has not started");
    machine.start(70, 900, &group("app"), 5);
    machine.start(41, 500, &group("pause"), 5);
    machine.start(90, 100, "system.slice", 1);
    assert_eq!(machine.found(), Some(41));
    machine.start(40, 100, &group("late"), 5);
    assert_eq!(machine.found(), Some(41), "what is found is held on to");
}

#[test]
fn a_sandbox_that_is_made_again_is_found_again() {
    let mut machine = Machine::new();
    machine.start(41, 500, &group("pause"), 5);
    assert_eq!(machine.found(), Some(41));
    machine.kill(41, &group("pause"));
    assert_eq!(machine.found(), None);
    machine.start(52, 800, &group("pause2"), 6);
    assert_eq!(machine.found(), Some(52));
}

#[test]
fn a_number_that_another_process_has_now_is_not_believed() {
    let mut machine = Machine::new();
    machine.start(41, 500, &group("pause"), 5);
    assert_eq!(machine.found(), Some(41));
    machine.kill(41, &group("pause"));
    machine.start(41, 800, &SLICE.replace("3d1c5c52", "ffffffff"), 7);
    assert_eq!(machine.found(), None, "it is another pod's");
    machine.kill(41, &SLICE.replace("3d1c5c52", "ffffffff"));
    machine.start(41, 900, "system.slice", 8);
    assert_eq!(machine.found(), None, "it is no pod's");
}

#[test]
fn monitors_and_processes_of_the_host_are_no_sandbox() {
    let mut machine = Machine::new();
    machine.start(30, 100, &format!("{SLICE}/crio-conmon-app.scope"), 5);
    machine.start(31, 200, &group("starting"), 1);
    assert_eq!(machine.found(), None, "it has not left the host's namespace yet");
    machine.start(41, 500, &group("pause"), 5);
    assert_eq!(machine.found(), Some(41));
}

#[test]
fn a_pod_that_nobody_asks_for_any_more_is_let_go_of() {
    let mut machine = Machine::new();
    machine.start(41, 500, &group("pause"), 5);
    assert_eq!(machine.found(), Some(41));
    assert!(machine.sandboxes.scan(&[]).is_empty());
    assert!(machine.sandboxes.known.is_empty());
}

#[test]
fn what_the_runtime_says_holds_before_any_process_is_there_and_with_it() {
    let mut machine = Machine::new();
    let netns = machine.announce("sandbox-1");
    let told = machine.network().unwrap();
    assert_eq!(
        (told.path, told.ips.as_deref()),
        (machine.runtime("sandbox-1"), Some(&["10.1.0.7".parse().unwrap()][..]))
    );
    machine.start(41, 500, &group("pause"), netns);
    assert_eq!(machine.found(), Some(41), "a process is more lasting than a path of the runtime's");
    assert!(machine.network().unwrap().ips.is_some(), "the object may not have them yet");
    fs::remove_file(machine.runtime("sandbox-1")).unwrap();
    assert_eq!(machine.network().unwrap().ips, None, "by now it has");
}

#[test]
fn a_new_sandbox_of_the_same_pod_is_believed_while_the_old_one_still_runs() {
    let mut machine = Machine::new();
    machine.start(41, 500, &group("pause"), 5);
    assert_eq!(machine.found(), Some(41));
    let netns = machine.announce("sandbox-2");
    assert_eq!(machine.network().unwrap().path, machine.runtime("sandbox-2"));
    machine.start(52, 800, &group("pause2"), netns);
    assert_eq!(machine.found(), Some(52), "not the oldest, but the one in there");
    machine.sandboxes.withdraw("sandbox-1");
    assert_eq!(machine.found(), Some(52), "that was another one");
}

#[test]
fn the_next_agent_and_one_that_stands_by_know_what_the_runtime_has_told() {
    let mut machine = Machine::new();
    let file = machine.folder.path().join("kept/announced.json");
    let folder = machine.folder.path().to_owned();
    let other = || {
        let mut other = Sandboxes::new(folder.join("cgroup"), folder.join("proc"));
        other.recall(file.clone());
        other
    };
    let mut standing_by = other();
    machine.sandboxes.recall(file.clone());
    let found =
        |sandboxes: &mut Sandboxes| sandboxes.scan(&[UID.into()]).remove(UID).map(|network| network.path);
    assert_eq!(found(&mut standing_by), None);
    machine.announce("sandbox-1");
    let path = Some(machine.runtime("sandbox-1"));
    assert_eq!(found(&mut standing_by), path, "it was told another one");
    assert_eq!(found(&mut other()), path);
    // Under the path there is another namespace after a reboot.
    fs::rename(machine.runtime("sandbox-1"), machine.runtime("old")).unwrap();
    fs::write(machine.runtime("sandbox-1"), "").unwrap();
    assert_eq!(found(&mut other()), None);
}

#[test]
fn a_sandbox_that_the_runtime_takes_away_is_nowhere() {
    let mut machine = Machine::new();
    machine.announce("sandbox-1");
    machine.sandboxes.withdraw("sandbox-1");
    assert_eq!(machine.network(), None);
    machine.announce("sandbox-2");
    machine.sandboxes.keep(&["sandbox-2".into()].into());
    assert!(machine.network().is_some());
    machine.sandboxes.keep(&["sandbox-3".into()].into());
    assert_eq!(machine.network(), None);
    machine.announce("sandbox-4");
    fs::remove_file(machine.runtime("sandbox-4")).unwrap();
    assert_eq!(machine.network(), None, "it was removed, and nobody said so");
}
