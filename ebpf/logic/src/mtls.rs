//! Which connections to a pod are its proxy's: between nodes, those that are mutual TLS; everywhere, those whose requests
//! its policies read.

use weft_abi::{Addr, BePort, Pod, PodPortKey, PodRow, TCP, pod_flags};

use crate::{Arrival, Tables, admit::own, dial::proxy_is_there, policy::reads_requests};

/// The mode of a port of the pod at `addr`: [`pod_flags::TLS`] and [`pod_flags::STRICT`], neither where mutual TLS is off.
#[inline(always)]
pub(crate) fn mode<T: Tables>(tables: &T, row: &PodRow, addr: &Addr, port: BePort) -> u32 {
    if row.flags & pod_flags::BY_PORT != 0 {
        return mode_of_port(tables, addr, port, row.flags) & MODE;
    }
    row.flags & MODE
}

/// A BPF function of its own: few pods have such ports, and none of the others shall need its stack.
#[inline(never)]
fn mode_of_port<T: Tables>(tables: &T, addr: &Addr, port: BePort, flags: u32) -> u32 {
    tables.pod_port(&PodPortKey { addr: *addr, port, _pad: [0; 6] }).map_or(flags, |own| own.flags)
}

/// What becomes of an arrival at a pod of this node whose mode is not Disabled, where nobody attests its client.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Capture {
    /// Mutual TLS may come of it: the proxy finds out.
    Captured,
    /// As [`Capture::Captured`], but there is no proxy.
    NoProxy,
    /// It is no mutual TLS: the mode says whether it may come in.
    Plain,
    /// As [`Capture::Plain`], from the address of a pod of this node, which the kernel did not see send it.
    Unproven,
}

/// Whether mutual TLS may come from where `arrival` does.
///
/// A client sends it to whom it knows to be enrolled, and may know of its own enrolment before this node does: of a
/// source that nobody knows, its first bytes tell.
#[inline(always)]
pub(crate) fn capture<T: Tables>(tables: &T, row: &PodRow, arrival: &Arrival) -> Capture {
    let client = tables.pod_at(&arrival.remote);
    if client.is_some_and(|client| client.netns != 0) {
        return Capture::Unproven;
    }
    if client.is_some_and(|client| client.flags & pod_flags::ENROLLED == 0) {
        return Capture::Plain;
    }
    if row.inbound.be != 0 && proxy_is_there(tables) {
        return Capture::Captured;
    }
    // Of who is known to be enrolled no plaintext could pass, once both ends know of each other.
    let both = (row.flags & pod_flags::PASSING == 0)
        && client.is_some_and(|client| client.flags & pod_flags::PASSING == 0);
    if both { Capture::NoProxy } else { Capture::Plain }
}

/// Whether `pod` has nobody yet, or no longer, by whom it could be known: its connections go in clear.
///
/// A BPF function of its own: it is asked only of what would go by mutual TLS, or to a listener that is not there.
#[inline(never)]
pub(crate) fn is_passing<T: Tables>(tables: &T, pod: &Pod) -> bool {
    let own = if pod.ip4.is_unspecified() { &pod.ip6 } else { &pod.ip4 };
    tables.pod_at(own).is_some_and(|row| row.flags & pod_flags::PASSING != 0)
}

/// Whether a connection that a pod of this node has accepted is its proxy's, as [`crate::admit`] has decided.
#[inline(always)]
pub fn is_captured<T: Tables>(tables: &T, arrival: &Arrival) -> bool {
    let Some(row) = tables.pod_at(&arrival.local) else { return false };
    let by_mode = mode(tables, row, &arrival.local, arrival.local_port) & pod_flags::TLS != 0;
    arrival.protocol == TCP
        && ((by_mode && capture(tables, row, arrival) == Capture::Captured) || is_read(tables, row, arrival))
}

/// Whether a connection is the proxy's because policies ask for what only its requests say.
#[inline(always)]
pub fn is_read<T: Tables>(tables: &T, row: &PodRow, arrival: &Arrival) -> bool {
    row.flags & pod_flags::BY_REQUEST != 0
        && row.inbound.be != 0
        && !own(tables, arrival, row.netns, false)
        && reads_requests(tables, row.policy, row.flags, arrival.local_port)
}

const MODE: u32 = pod_flags::TLS | pod_flags::STRICT;

#[cfg(test)]
mod tests;
