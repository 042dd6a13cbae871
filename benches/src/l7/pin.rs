//! Which CPU does what.
//!
//! Client and server run on the last CPU, as the pieces of [`Work`](crate::work::Work) do; every proxy on the
//! first. With two CPUs nobody else's choice is left, and with more nobody gets more than the others.

use rustix::thread::{CpuSet, sched_getaffinity};
use weft_tests::{Pod, Running};

/// Where something runs.
#[derive(Clone, Copy)]
pub(crate) enum Cpu {
    /// Load and servers.
    Load,
    /// Proxies, and weft's agent.
    Proxies,
    /// Whatever there is: where everything shares all of it.
    All,
}

impl Cpu {
    /// The start of a command line that is pinned.
    pub(crate) fn pinned(self) -> [String; 3] {
        ["taskset".into(), "-c".into(), self.numbers()]
    }

    /// Starts a command inside `pod`.
    pub(crate) fn start(self, pod: &Pod, command: &[&str]) -> Running {
        let pinned = self.pinned();
        pod.spawn(&pinned.iter().map(String::as_str).chain(command.iter().copied()).collect::<Vec<_>>())
    }

    /// As `taskset` takes them.
    fn numbers(self) -> String {
        let allowed = sched_getaffinity(None).expect("a process may ask for its own affinity");
        let mut cpus = (0..CpuSet::MAX_CPU).filter(|cpu| allowed.is_set(*cpu));
        let one = match self {
            Self::Load => cpus.next_back(),
            Self::Proxies => cpus.next(),
            Self::All => return cpus.map(|cpu| cpu.to_string()).collect::<Vec<_>>().join(","),
        };
        one.expect("a process runs somewhere").to_string()
    }
}
