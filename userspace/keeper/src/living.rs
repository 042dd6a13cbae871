//! Which proxies of a run directory live, asked of the kernel: a restarted agent has no other memory.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fd::OwnedFd;
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use crate::Error;
use crate::group::Group;

/// The proxies of `run_dir`: who is in the group and holds the lock of [`weft_transport::handover::Presence`].
///
/// Either alone could be another's: anyone in the run directory may lock a file, and two agents may share a
/// cgroup. Those that are `known` are not asked for their lock again.
pub(crate) fn living(run_dir: &Path, group: &Group, known: &BTreeSet<i32>) -> BTreeSet<i32> {
    let mut living = group.processes();
    living.retain(|pid| known.contains(pid) || holds(run_dir, *pid));
    living
}

/// Whether a process has the lock of living proxies in `run_dir` open. A proxy takes it before anything else,
/// so it is among the first descriptors, however many there are.
///
/// `/proc/locks` would name all holders, but who reads it while others lock and unlock may miss some.
pub(crate) fn holds(run_dir: &Path, pid: i32) -> bool {
    let Ok(lock) = fs::metadata(run_dir.join(LOCK)) else { return false };
    let Ok(open) = fs::read_dir(format!("/proc/{pid}/fd")) else { return false };
    let mut open = open.flatten().filter_map(|fd| fs::metadata(fd.path()).ok());
    open.any(|file| (file.dev(), file.ino()) == (lock.dev(), lock.ino()))
}

/// A process that keeps its identity: its number may be another's once it has ended.
pub(crate) struct Process {
    pid: i32,
    fd: OwnedFd,
}

impl Process {
    /// The living proxies of `run_dir`, which cannot be mistaken from then on.
    pub(crate) fn living(run_dir: &Path, group: &Group) -> Result<Vec<Self>, Error> {
        let mut found = Vec::new();
        for pid in living(run_dir, group, &BTreeSet::new()) {
            if let Some(process) = Self::open(pid)? {
                found.push(process);
            }
        }
        // Whoever is still there is who was opened.
        let still = living(run_dir, group, &BTreeSet::new());
        found.retain(|process| still.contains(&process.pid) && is_proxy(process.pid));
        Ok(found)
    }

    fn open(pid: i32) -> Result<Option<Self>, Error> {
        let Some(number) = Pid::from_raw(pid) else { return Ok(None) };
        match pidfd_open(number, PidfdFlags::empty()) {
            Ok(fd) => Ok(Some(Self { pid, fd })),
            Err(Errno::SRCH) => Ok(None),
            Err(source) => Err(Error::End { pid, source }),
        }
    }

    /// Its number.
    pub(crate) fn pid(&self) -> i32 {
        self.pid
    }

    /// Asks it to end.
    pub(crate) fn terminate(&self) -> Result<(), Error> {
        self.signal(Signal::TERM)
    }

    /// Ends it.
    pub(crate) fn kill(&self) -> Result<(), Error> {
        self.signal(Signal::KILL)
    }

    /// Blocks until it has ended, at the latest until `deadline`. Whether it has.
    pub(crate) fn wait(&self, deadline: Instant) -> bool {
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let left = left.min(Duration::from_hours(1)).try_into().expect("an hour is a timespec");
            match poll(&mut [PollFd::new(&self.fd, PollFlags::IN)], Some(&left)) {
                Ok(ready) => return ready > 0,
                Err(Errno::INTR) => {}
                Err(_) => return false,
            }
        }
    }

    fn signal(&self, signal: Signal) -> Result<(), Error> {
        match pidfd_send_signal(&self.fd, signal) {
            Ok(()) | Err(Errno::SRCH) => Ok(()),
            Err(source) => Err(Error::End { pid: self.pid, source }),
        }
    }
}

/// Whether it was started as `weft proxy`.
fn is_proxy(pid: i32) -> bool {
    let arguments = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    arguments.split(|&byte| byte == 0).nth(1) == Some(b"proxy")
}

/// Name of the lock in the run directory, as [`weft_transport::handover::Presence`] has it.
pub(crate) const LOCK: &str = "proxy.lock";

#[cfg(test)]
mod tests {
    use weft_transport::handover::Presence;

    use super::*;

    #[test]
    fn who_has_taken_the_lock_is_found_until_it_lets_go() {
        let dir = tempfile::tempdir().unwrap();
        let own = i32::try_from(std::process::id()).unwrap();
        assert!(!holds(dir.path(), own), "there is no lock");
        let presence = Presence::hold(dir.path()).unwrap();
        assert!(holds(dir.path(), own) && !holds(dir.path(), 1));
        drop(presence);
        assert!(!holds(dir.path(), own));
    }
}
