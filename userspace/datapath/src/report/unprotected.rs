//! Which live connections missed the mesh, and why.

use std::{
    cell::OnceCell, collections::HashSet, fs, net::SocketAddr, os::unix::fs::MetadataExt as _, path::Path,
};

use weft_abi::{SocketState, socket_flags};
use weft_model::{MtlsMode, ObjectName};
use weft_telemetry::{api::Unprotected, live::Carried, records::Security};
use weft_transport::{Protocol, State};

use crate::{flows::Names, host};

/// A connection of an enrolled pod, and what is known around it.
#[expect(clippy::struct_excessive_bools, reason = "facts that do not exclude each other")]
pub(super) struct Seen<'a> {
    pub pod: &'a ObjectName,
    pub protocol: Protocol,
    pub local: SocketAddr,
    pub remote: SocketAddr,
    pub state: State,
    /// 0 when no process holds its socket any more.
    pub inode: u32,
    /// The cgroup that its socket was made in; 0 where the kernel does not tell.
    pub group: u64,
    pub is_server: bool,
    /// What the hooks know of it.
    pub known: Option<&'a SocketState>,
    /// How the node's proxy carries it, where that has told.
    pub carried: Option<&'a Carried>,
    /// How long it has gone on, in nanoseconds.
    pub age_ns: u64,
    /// It is older than its pod's enrolment.
    pub is_older: bool,
    /// A foreign `sk_lookup` program may take the pod's connections.
    pub has_foreign_lookup: bool,
    /// A program of ours could not be attached.
    pub is_kept_out: bool,
    pub groups: &'a Groups<'a>,
    pub names: &'a Names,
}

/// Why the mesh does not protect it; `None` where it does, and for one that is over or not yet made.
pub(super) fn why(seen: &Seen<'_>) -> Option<Unprotected> {
    let within = seen.remote.ip() == seen.local.ip() || seen.remote.ip().is_loopback();
    if within || !goes_on(seen.state, seen.inode) {
        return None;
    }
    if seen.protocol == Protocol::Udp {
        return of_datagrams(seen);
    }
    let Some(known) = seen.known else { return unseen(seen) };
    let is_translated = known.flags & socket_flags::TRANSLATED != 0;
    if is_translated && SocketAddr::new(known.peer.to_ip(), known.peer_port.get()) != seen.remote {
        return Some(Unprotected::ForeignHook);
    }
    if seen.is_server { of_server(seen, known.flags) } else { of_client(seen, known.flags) }
}

/// A connected UDP socket. The kernel does not tell whether a hook has seen it.
fn of_datagrams(seen: &Seen<'_>) -> Option<Unprotected> {
    if !seen.groups.hold(seen.group) {
        return Some(Unprotected::HostPath);
    }
    seen.is_older.then_some(Unprotected::OlderThanEnrolment)
}

/// One that no hook has seen begin.
fn unseen(seen: &Seen<'_>) -> Option<Unprotected> {
    if !seen.groups.hold(seen.group) {
        return Some(Unprotected::HostPath);
    }
    if seen.is_older {
        return Some(Unprotected::OlderThanEnrolment);
    }
    // Of one between two pods of this node, the client's end is remembered alone.
    let client = seen.names.pod(seen.remote.ip()).filter(|client| client.workload.local);
    if let Some(client) = client.filter(|_| seen.is_server) {
        return (!client.workload.enrolled).then_some(Unprotected::ClientOutside);
    }
    Some(if seen.is_kept_out { Unprotected::ForeignHook } else { Unprotected::Unmanaged })
}

fn of_server(seen: &Seen<'_>, flags: u32) -> Option<Unprotected> {
    if flags & socket_flags::PROBE != 0 {
        return None;
    }
    if flags & socket_flags::BY_PROXY != 0 {
        return match seen.carried {
            Some(carried) if carried.security == Security::MutualTls => None,
            Some(_) => Some(Unprotected::ClientOutside),
            // It was to come to the proxy, which knows nothing of it.
            None => {
                (seen.has_foreign_lookup && seen.age_ns > TOLD_BY_NOW).then_some(Unprotected::ForeignHook)
            }
        };
    }
    match seen.names.pod(seen.remote.ip()) {
        Some(client) if client.workload.enrolled && client.workload.local => None,
        Some(client) if client.workload.enrolled => {
            let mode = seen.names.mode(seen.pod, seen.local.port());
            (mode != MtlsMode::Disabled).then(|| in_clear(seen))
        }
        _ => Some(Unprotected::ClientOutside),
    }
}

/// Who is outside the mesh cannot be called otherwise than in clear.
fn of_client(seen: &Seen<'_>, flags: u32) -> Option<Unprotected> {
    if flags & socket_flags::PROXIED != 0 {
        return None;
    }
    let remote = seen.remote;
    let server = &seen.names.pod(remote.ip())?.workload;
    let due = server.enrolled && !server.local;
    let mode = seen.names.mode(&server.name, remote.port());
    (due && mode != MtlsMode::Disabled).then(|| in_clear(seen))
}

/// Why it is, between nodes and where mutual TLS is due.
fn in_clear(seen: &Seen<'_>) -> Unprotected {
    if seen.is_kept_out { Unprotected::ForeignHook } else { Unprotected::OlderThanMutualTls }
}

/// Whether somebody holds it still, and the handshake is under way from here or over.
fn goes_on(state: State, inode: u32) -> bool {
    match state {
        State::Established | State::SynSent | State::CloseWait => true,
        State::FinWait1 | State::FinWait2 => inode != 0,
        _ => false,
    }
}

/// The cgroups that the programs are attached to, read when somebody asks.
pub(super) struct Groups<'a> {
    root: &'a Path,
    below: OnceCell<HashSet<u64>>,
}

impl<'a> Groups<'a> {
    pub(super) fn below(root: &'a Path) -> Self {
        Self { root, below: OnceCell::new() }
    }

    /// Whether sockets of this group are seen by the hooks. Where the kernel does not tell the group, they are taken to
    /// be.
    fn hold(&self, group: u64) -> bool {
        group == 0 || self.below.get_or_init(|| ids(self.root)).contains(&group)
    }
}

/// The ids of a cgroup and all below it.
fn ids(root: &Path) -> HashSet<u64> {
    let mut found: HashSet<u64> = host::cgroup_id(root).into_iter().collect();
    let mut waiting = vec![root.to_owned()];
    while let Some(group) = waiting.pop() {
        // One that went meanwhile has no sockets.
        for entry in fs::read_dir(group).into_iter().flatten().flatten() {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                found.extend(entry.metadata().map(|group| group.ino()));
                waiting.push(entry.path());
            }
        }
    }
    found
}

/// The proxy tells of a connection after a second, and a busy one is behind.
const TOLD_BY_NOW: u64 = 10_000_000_000;

#[cfg(test)]
mod tests;
