//! Removes all that a world has made, by its name alone.

use std::collections::BTreeSet;
use std::fs;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::sync::OnceLock;

use nix::mount::{MntFlags, umount2};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::cgroup;
use crate::command::helper;

/// Removes what is named `name` or `name-...`: groups with their processes, pins, namespaces, files.
pub(crate) fn sweep(name: &str) {
    for group in [cgroup::mount(), cgroup::memory_mount()].iter().flat_map(|mount| named(mount, name)) {
        cgroup::remove(&group);
    }
    for pins in named(Path::new(PINS), name) {
        discard(&pins, fs::remove_dir_all(&pins));
    }
    for netns in named(Path::new(NAMESPACES), name) {
        // Not mounted when its making was interrupted.
        let _ = umount2(&netns, MntFlags::MNT_DETACH);
        discard(&netns, fs::remove_file(&netns));
    }
    for folder in named(&std::env::temp_dir(), name) {
        discard(&folder, fs::remove_dir_all(&folder));
    }
}

/// What is left of `name`.
pub(crate) fn remains(name: &str) -> Vec<PathBuf> {
    let groups = BTreeSet::from([cgroup::mount(), cgroup::memory_mount()]);
    let others = [PINS.into(), NAMESPACES.into(), std::env::temp_dir()];
    groups.iter().chain(&others).flat_map(|folder| named(folder, name)).collect()
}

/// Starts, once in a process, the process that sweeps after this one, however it ends.
pub(crate) fn start_janitor(kind: &str) {
    JANITOR.get_or_init(|| {
        use std::os::unix::process::CommandExt as _;
        let mut command = helper(["janitor", &process_prefix(kind)]);
        // Out of the terminal's foreground group: Ctrl-C must not reach it.
        command.process_group(0).stdin(Stdio::piped());
        command.spawn().expect("the helper can be started")
    });
}

/// Ends the janitor: what this process has made stays when it is gone.
pub(crate) fn dismiss_janitor() {
    if let Some(janitor) = JANITOR.get() {
        let pid = i32::try_from(janitor.id()).expect("a process id is an i32");
        // It is a child that nobody has waited for: the id is still its own.
        let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
    }
}

/// The janitor's work: waits until the test process is gone, then sweeps.
pub(crate) fn serve_as_janitor(name: &str) -> io::Result<()> {
    io::stdin().read_to_end(&mut Vec::new())?;
    if !keep() {
        sweep(name);
    }
    Ok(())
}

/// What the names of all worlds of this process begin with.
pub(crate) fn process_prefix(kind: &str) -> String {
    format!("weft-{kind}-{}", std::process::id())
}

/// `WEFT_E2E=keep` leaves everything in place, to be looked at.
pub(crate) fn keep() -> bool {
    std::env::var_os("WEFT_E2E").is_some_and(|value| value == "keep")
}

fn named(folder: &Path, name: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let own =
        |file: &str| file.strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest.starts_with('-'));
    entries.filter(|entry| entry.file_name().to_str().is_some_and(own)).map(|entry| entry.path()).collect()
}

fn discard(path: &Path, result: io::Result<()>) {
    if let Err(error) = result {
        eprintln!("cannot remove {}: {error}", path.display());
    }
}

static JANITOR: OnceLock<Child> = OnceLock::new();
pub(crate) const PINS: &str = "/sys/fs/bpf/weft";
pub(crate) const NAMESPACES: &str = "/run/netns";
