//! What `/proc` says of a process.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// A process that is not taken for a later one of the same number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Process {
    /// When it began, in ticks since boot: the oldest is the least.
    started: u64,
    pub(super) pid: u32,
}

impl Process {
    /// The process of that number, if there is one.
    pub(super) fn find(proc: &Path, pid: u32) -> Option<Self> {
        let stat = fs::read_to_string(proc.join(pid.to_string()).join("stat")).ok()?;
        // The second field is the program's name, which may hold anything (proc(5)).
        let started = stat.rsplit_once(')')?.1.split_ascii_whitespace().nth(19)?.parse().ok()?;
        Some(Self { started, pid })
    }

    /// Its `/proc/<pid>/cgroup`.
    pub(super) fn cgroup(self, proc: &Path) -> Option<String> {
        let text = fs::read_to_string(self.folder(proc).join("cgroup")).ok()?;
        // Asked last: whatever was read before is this one's.
        (Self::find(proc, self.pid) == Some(self)).then_some(text)
    }

    /// The path of its network namespace.
    pub(super) fn netns(self, proc: &Path) -> PathBuf {
        self.folder(proc).join("ns/net")
    }

    fn folder(self, proc: &Path) -> PathBuf {
        proc.join(self.pid.to_string())
    }
}
