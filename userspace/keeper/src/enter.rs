//! How a proxy process begins.

use std::fs;
use std::path::Path;

use nix::unistd::setsid;
use weft_transport::handover::{Presence, generation};

use crate::group::Group;
use crate::{Error, legacy, privileges};

/// This process is a proxy of its run directory, until the value is dropped or the process ends.
#[derive(Debug)]
pub struct Entered {
    /// Which generation it is, for its [`weft_transport::handover::Hello`].
    pub generation: u64,
    _presence: Presence,
}

/// Makes the calling process a proxy of `run_dir`: the first thing that `weft proxy` does, before any other
/// thread and any socket.
///
/// - A session of its own: what ends the agent's terminal does not end the proxy.
/// - The cgroup that the agent wrote down. The process moves itself, so there is no moment in which it runs
///   elsewhere with a socket, and no agent whose death could leave it there. Where no agent wrote one down,
///   as in a container of its own, it stays where it is. Groups of the first version it leaves as well: with the
///   pod that has started it they would be ended. `above_pods` says what is above the kubelet's pods of a group, if
///   that is a pod's.
/// - The lock by which agents see that it lives: after the cgroup, so whoever holds it is in there.
/// - Of its capabilities it keeps `CAP_SYS_ADMIN` and `CAP_NET_RAW` only, and can never get others.
///
/// From here on SIGTERM is to mean what `drain` does: accept nothing more, finish, and exit. [`crate::cleanup`]
/// waits for that.
pub fn enter(run_dir: &Path, above_pods: impl Fn(&str) -> Option<&str>) -> Result<Entered, Error> {
    let threads = fs::read_dir("/proc/self/task").map_or(1, Iterator::count);
    if threads > 1 {
        return Err(Error::Threads { threads });
    }
    let generation = generation();
    // Refused to the leader of a process group only: a shell's job, which has what it needs.
    let _ = setsid();
    if let Some(group) = Group::recorded(run_dir)? {
        group.join()?;
        legacy::leave_pod(above_pods);
    }
    let presence = Presence::hold(run_dir)?;
    privileges::give_up()?;
    Ok(Entered { generation, _presence: presence })
}
