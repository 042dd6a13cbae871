//! Groups of processes in the cgroup v2 hierarchy.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// Where cgroup v2 is mounted, which is below another folder where v1 is mounted too.
pub(crate) fn mount() -> PathBuf {
    let mount = mounted(|kind, _| kind == "cgroup2");
    mount.expect("these tests need cgroup v2: mount -t cgroup2 none /sys/fs/cgroup")
}

/// Where the groups of the memory controller are: apart from those of version 2 on hybrid hosts.
pub(crate) fn memory_mount() -> PathBuf {
    let version1 =
        mounted(|kind, options| kind == "cgroup" && options.split(',').any(|option| option == "memory"));
    version1.unwrap_or_else(mount)
}

/// The first mount whose type and options are wanted (proc(5): `/proc/self/mounts`, fields 2 to 4).
fn mounted(wanted: impl Fn(&str, &str) -> bool) -> Option<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mounts").expect("/proc is mounted");
    let mut fields = mounts.lines().map(|line| line.split(' ').collect::<Vec<_>>());
    let found =
        fields.find(|fields| matches!(fields[..], [_, _, kind, options, ..] if wanted(kind, options)));
    found.map(|fields| fields[1].into())
}

/// Moves the calling process into the group at `path`.
pub(crate) fn enter(path: &Path) -> io::Result<()> {
    fs::write(path.join("cgroup.procs"), std::process::id().to_string())
}

/// Ends every process in the group at `path` and below, then removes the groups. It does not panic:
/// it cleans up after panics.
pub(crate) fn remove(path: &Path) {
    for group in groups(path) {
        let deadline = Instant::now() + Duration::from_secs(10);
        // A killed process leaves its group only when it has exited.
        while let Err(error) = fs::remove_dir(&group) {
            if error.kind() != io::ErrorKind::ResourceBusy || Instant::now() > deadline {
                eprintln!("cannot remove {}: {error}", group.display());
                break;
            }
            kill_all(&group);
            thread::sleep(Duration::from_millis(1));
        }
    }
}

/// The groups at and below `path`, children first.
pub(crate) fn groups(path: &Path) -> Vec<PathBuf> {
    if !path.is_dir() {
        return Vec::new();
    }
    let children = fs::read_dir(path).into_iter().flatten().flatten();
    let children = children.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
    let mut groups: Vec<PathBuf> = children.flat_map(|entry| groups(&entry.path())).collect();
    groups.push(path.into());
    groups
}

fn kill_all(group: &Path) {
    let processes = fs::read_to_string(group.join("cgroup.procs")).unwrap_or_default();
    for pid in processes.lines().filter_map(|line| line.parse().ok()) {
        // It may have ended by itself meanwhile.
        let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
    }
}
