//! A process that stands still for a while.

use std::fs;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::soon;

/// Goes on when this is dropped.
#[must_use]
pub struct Suspended(Pid);

impl Suspended {
    /// Stops the process; back once each of its threads stands, since a signal is only sent at first.
    #[track_caller]
    pub fn new(pid: i32) -> Self {
        kill(Pid::from_raw(pid), Signal::SIGSTOP)
            .unwrap_or_else(|error| panic!("cannot stop {pid}: {error}"));
        let suspended = Self(Pid::from_raw(pid));
        soon(|| threads(pid).iter().all(|state| state == "T"));
        suspended
    }
}

impl Drop for Suspended {
    fn drop(&mut self) {
        // It may have ended meanwhile.
        let _ = kill(self.0, Signal::SIGCONT);
    }
}

/// The state of each thread, as in proc(5).
#[track_caller]
fn threads(pid: i32) -> Vec<String> {
    let threads =
        fs::read_dir(format!("/proc/{pid}/task")).unwrap_or_else(|error| panic!("no {pid}: {error}"));
    let state =
        |status: String| Some(status.lines().find_map(|line| line.strip_prefix("State:\t"))?[..1].to_owned());
    threads
        .flatten()
        .filter_map(|thread| state(fs::read_to_string(thread.path().join("status")).ok()?))
        .collect()
}
