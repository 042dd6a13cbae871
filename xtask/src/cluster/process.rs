//! A process that is still the one we mean: its number may be another's by now, its number and its birth may not.

use std::ffi::OsStr;
use std::fs;
use std::process::Command;

use serde::{Deserialize, Serialize};

/// A process of this boot.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
pub(super) struct Process {
    pub(super) pid: u32,
    /// Clock ticks since the machine's start.
    born: u64,
    boot: String,
}

impl Process {
    /// The process that has this number now; none where there is none, or it has ended and was not waited for.
    pub(super) fn of(pid: u32) -> Option<Self> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
        Some(Self { pid, born: born(&stat)?, boot: boot.trim().to_owned() })
    }

    /// A command that runs `program` in its network and mount namespaces. By `nsenter`, since `ip netns exec` would mount
    /// another /sys, without cgroups.
    pub(super) fn enter(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new("nsenter");
        command.args(self.enter_args()).arg(program);
        command
    }

    /// What `nsenter` is told before the program.
    pub(super) fn enter_args(&self) -> [String; 5] {
        ["--target", &self.pid.to_string(), "--mount", "--net", "--"].map(str::to_owned)
    }

    pub(super) fn is_alive(&self) -> bool {
        Self::of(self.pid).as_ref() == Some(self)
    }
}

/// Field 22 of `/proc/PID/stat`, of a process that is no zombie. The name before it may hold spaces and parentheses.
fn born(stat: &str) -> Option<u64> {
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
    let state = fields.next()?;
    let born = fields.nth(18)?.parse().ok()?;
    (!["Z", "X"].contains(&state)).then_some(born)
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::{Process, born};

    #[test]
    fn the_birth_is_found_behind_any_name() {
        let fields = "1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 4711 20 21";
        assert_eq!(born(&format!("77 (kubelet) S {fields}")), Some(4711));
        assert_eq!(born(&format!("77 (a) R 1) S {fields}")), Some(4711));
        assert_eq!(born(&format!("77 (kubelet) Z {fields}")), None);
        assert_eq!(born("77 (kubelet) S 1"), None);
    }

    #[test]
    fn a_process_is_itself_until_it_ends_and_nobody_else() {
        let mut child = Command::new("cat").stdin(std::process::Stdio::piped()).spawn().unwrap();
        let process = Process::of(child.id()).unwrap();
        assert!(process.is_alive());
        assert!(!Process { born: process.born + 1, ..process.clone() }.is_alive());
        assert!(!Process { boot: "another".to_owned(), ..process.clone() }.is_alive());
        drop(child.stdin.take());
        child.wait().unwrap();
        assert!(!process.is_alive());
    }
}
