//! Who may come in to a pod: the decision that counts.

use weft_abi::{Addr, BePort, Config, FlowKey, FlowRecord, PodRow, Reason, TCP, UDP, flow_flags, pod_flags};

use crate::{
    Denial, Request, Ruling, Tables,
    dial::proxy_is_there,
    mtls::{Capture, capture, mode},
};

/// A packet that no established socket takes.
pub struct Arrival {
    /// Where it came to.
    pub local: Addr,
    /// Its port.
    pub local_port: BePort,
    /// Where it says it comes from.
    pub remote: Addr,
    /// Its port.
    pub remote_port: BePort,
    /// [`weft_abi::TCP`] or [`weft_abi::UDP`].
    pub protocol: u8,
}

/// Who the client is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Client {
    /// Token of its ServiceAccount; 0 for unknown.
    pub identity: u64,
    /// Token of its namespace; 0 for unknown.
    pub namespace: u64,
    /// The kernel of this node saw that pod send it.
    pub proven: bool,
    /// The node's proxy has sent it in that pod's place.
    pub by_proxy: bool,
}

impl Client {
    /// Somebody of whom nothing is known.
    pub const NOBODY: Self = Self { identity: 0, namespace: 0, proven: false, by_proxy: false };

    /// Whoever the kernel saw.
    #[inline(always)]
    const fn of(record: &FlowRecord) -> Self {
        let by_proxy = record.flags & flow_flags::BY_PROXY != 0;
        Self { identity: record.identity, namespace: record.namespace, proven: true, by_proxy }
    }
}

/// The decision.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    /// Nothing of ours: goes to the app.
    Pass,
    /// A probe: goes to the app whatever policies say.
    Probe,
    /// Allowed; `audit` is what the audited policies would have said.
    Allow(Client, Denial),
    /// Handed to the inbound listener of the pod with this network namespace, and so to the node's proxy, which decides.
    /// It is told who is attested.
    Capture(u64, Client),
    /// Refused. The client of a TCP connection gets a reset.
    Deny(Client, Denial),
}

/// Whether a packet to an enrolled pod came to an address of which nobody can say whose it is.
///
/// Every link gives a pod an address beside those of its object, and a client on the same link would come
/// round its policies by it: it fails closed. The pod itself may use it.
#[inline(always)]
pub fn is_backdoor<T: Tables>(tables: &T, arrival: &Arrival) -> bool {
    arrival.local.is_link_local()
        && !arrival.remote.is(&arrival.local)
        && tables.pod_at(&arrival.local).is_none()
}

/// Decides an arrival.
#[inline(always)]
pub fn admit<T: Tables>(tables: &T, arrival: &Arrival) -> Admission {
    let Some(pod) = tables.pod_at(&arrival.local) else { return Admission::Pass };
    if is_inbound(pod, arrival) || (is_for_proxy(pod, arrival) && !own(tables, arrival, pod.netns, false)) {
        return refused(Client::NOBODY, Reason::DIRECT_TO_LISTENER);
    }
    let (policy, netns) = (pod.policy, pod.netns);
    let mode = match arrival.protocol {
        TCP => mode(tables, pod, &arrival.local, arrival.local_port),
        _ => 0,
    };
    if policy | u64::from(mode) == 0 || pod.netns == 0 {
        return Admission::Pass;
    }
    let Some(config) = tables.config() else { return Admission::Pass };
    let inward = FlowKey {
        src: arrival.remote,
        dst: arrival.local,
        src_port: arrival.remote_port,
        dst_port: arrival.local_port,
        protocol: arrival.protocol,
        _pad: [0; 3],
    };
    let seen = tables.flow(&inward).filter(|record| holds(tables, record, config.attest_grace_ns));
    if let Some(record) = seen {
        if record.flags & flow_flags::PROBE != 0 {
            return Admission::Probe;
        }
        // The kernel saw the proxy dial inside this very pod.
        if record.flags & flow_flags::LET_IN != 0 {
            return Admission::Pass;
        }
        // The connect hook asked the same policies about the same client, source and port.
        if record.allowed == policy {
            return Admission::Allow(Client::of(&record), Denial::NONE);
        }
    }
    if own(tables, arrival, pod.netns, seen.is_some()) || answers(tables, &inward, config) {
        return Admission::Pass;
    }
    let client = client(tables, arrival, seen);
    let mut captured = false;
    if mode & pod_flags::TLS != 0 && !client.proven {
        match capture(tables, pod, arrival) {
            Capture::Captured => captured = true,
            Capture::NoProxy => return refused(client, Reason::PROXY_UNAVAILABLE),
            Capture::Plain if mode & pod_flags::STRICT != 0 => return refused(client, Reason::PLAINTEXT),
            Capture::Unproven if mode & pod_flags::STRICT != 0 => {
                return refused(client, Reason::IDENTITY_UNPROVEN);
            }
            Capture::Plain | Capture::Unproven => {}
        }
    }
    if policy == 0 {
        return if captured { Admission::Capture(netns, client) } else { Admission::Pass };
    }
    // Read before `pod` is not: its row may be recycled.
    let listens = pod.inbound.be != 0;
    let request = Request {
        policy,
        flags: pod.flags,
        source: arrival.remote,
        identity: client.identity,
        namespace: client.namespace,
        proven: client.proven,
        protocol: arrival.protocol,
        port: arrival.local_port,
    };
    let Ruling { verdict, audit } = tables.authorize(&request);
    match verdict.reason {
        // An address is enough to deny. Who may come in, the certificate says.
        reason if captured && reason != Reason::POLICY_DENIED => Admission::Capture(netns, client),
        Reason::NONE if verdict.rule != 0 && listens && proxy_is_there(tables) => {
            Admission::Capture(netns, client)
        }
        Reason::NONE if verdict.rule == Denial::JUDGED.rule => refused(client, Reason::PROXY_UNAVAILABLE),
        Reason::NONE => Admission::Allow(client, audit),
        _ => Admission::Deny(client, verdict),
    }
}

#[inline(always)]
const fn refused(client: Client, reason: Reason) -> Admission {
    Admission::Deny(client, Denial { reason, rule: 0 })
}

/// Whether a packet comes to the listener to which others are handed: nobody comes there by its port.
#[inline(always)]
fn is_inbound(pod: &PodRow, arrival: &Arrival) -> bool {
    pod.inbound.be != 0
        && arrival.protocol == TCP
        && arrival.local_port.be == pod.inbound.be
        && pod.netns != 0
}

/// Whether a packet comes to the listener by which the pod's own connections come to the node's proxy.
#[inline(always)]
fn is_for_proxy(pod: &PodRow, arrival: &Arrival) -> bool {
    pod.outbound.be != 0
        && arrival.protocol == TCP
        && arrival.local_port.be == pod.outbound.be
        && pod.netns != 0
}

/// Whether an attestation still stands: what its sender sent last may be on its way. Whoever forges the sender's
/// address later is nobody.
///
/// It may be written anew after the clock was read: the sender runs on another processor.
#[inline(always)]
fn holds<T: Tables>(tables: &T, record: &FlowRecord, lasts_ns: u64) -> bool {
    tables.tick_ns().saturating_sub(record.used_ns) < lasts_ns
}

/// A pod may always talk to itself. IPv6 has no martian check: a datagram from the pod's own address may
/// come from anywhere, and needs no handshake, so there the kernel must have seen the pod send it.
#[inline(always)]
pub(crate) fn own<T: Tables>(tables: &T, arrival: &Arrival, netns: u64, seen: bool) -> bool {
    if arrival.protocol == UDP && !arrival.local.is_v4() && !seen {
        return false;
    }
    arrival.remote.is(&arrival.local) || tables.pod_at(&arrival.remote).is_some_and(|pod| pod.netns == netns)
}

/// An answer to a datagram that the receiving pod sent itself.
#[inline(always)]
pub(crate) fn answers<T: Tables>(tables: &T, inward: &FlowKey, config: &Config) -> bool {
    inward.protocol == UDP
        && tables.flow(&inward.reversed()).is_some_and(|record| holds(tables, &record, config.udp_reply_ns))
}

#[inline(always)]
fn client<T: Tables>(tables: &T, arrival: &Arrival, seen: Option<FlowRecord>) -> Client {
    if let Some(record) = seen {
        return Client::of(&record);
    }
    match tables.pod_at(&arrival.remote) {
        Some(pod) => {
            Client { identity: pod.identity, namespace: pod.namespace, proven: false, by_proxy: false }
        }
        None => Client::NOBODY,
    }
}

#[cfg(test)]
mod tests;
