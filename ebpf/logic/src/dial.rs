//! Where a pod's new connection or datagram goes, or why it may not.

use weft_abi::{
    Addr, BePort, CONNECTED_UDP, FlowKey, Pod, Reason, ServiceKey, TCP, UDP, config_flags, pod_flags,
    service_flags,
};

use crate::{
    Caller, Denial, Request, Ruling, Tables,
    admit::answers,
    grant,
    mtls::{is_passing, mode},
};

/// What an app asked for.
pub struct Dial {
    /// Network namespace of its socket.
    pub netns: u64,
    /// The address it dialled.
    pub addr: Addr,
    /// The port it dialled.
    pub port: BePort,
    /// [`weft_abi::TCP`] or [`weft_abi::UDP`].
    pub protocol: u8,
    /// The port that it comes from, where that is known; else 0. A datagram of a known port is attested.
    pub source_port: BePort,
}

/// Where it is sent instead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Destination {
    /// The backend's address.
    pub addr: Addr,
    /// The backend's port.
    pub port: BePort,
    /// Id of the frontend.
    pub service: u64,
    /// Id of the backend.
    pub backend: u64,
    /// [`weft_abi::service_flags`].
    pub service_flags: u32,
    /// The backend's open connections are counted.
    pub counted: bool,
    /// 0.
    pub _pad: u8,
}

impl Destination {
    /// An address that is no backend of ours.
    #[inline(always)]
    pub const fn at(addr: Addr, port: BePort) -> Self {
        Self { addr, port, service: 0, backend: 0, service_flags: 0, counted: false, _pad: 0 }
    }
}

/// The decision.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing of ours: goes on unmodified.
    Pass,
    /// Goes to the backend.
    Translate,
    /// Goes to the pod's own listener, and so to the node's proxy.
    Proxy,
    /// As [`Verdict::Proxy`]; by mutual TLS to the backend, or to what was dialled if there is none.
    Tls,
    /// Refused.
    Deny,
}

/// What belongs to a [`Verdict`].
///
/// Not in it: a copy for each of its kinds is more stack than a hook has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// Where the app is sent, or had been sent to.
    pub to: Destination,
    /// Why it may not go there, where it is refused.
    pub denial: Denial,
    /// That policies let it in ([`grant()`]), where it goes to a pod of this node that has some; else 0.
    pub grant: u64,
}

impl Outcome {
    /// Before anything is known of `dial`.
    #[inline(always)]
    pub const fn of(dial: &Dial) -> Self {
        Self { to: Destination::at(dial.addr, dial.port), denial: Denial::NONE, grant: 0 }
    }
}

/// Decides a dial, of which `outcome` knows nothing yet.
#[inline(always)]
pub fn dial<T: Tables>(tables: &T, dial: &Dial, outcome: &mut Outcome) -> Verdict {
    match settle(tables, dial, outcome) {
        PASS => Verdict::Pass,
        TRANSLATE => Verdict::Translate,
        PROXY => Verdict::Proxy,
        TLS => Verdict::Tls,
        _ => Verdict::Deny,
    }
}

/// A BPF function of its own: what it needs on the stack is free again when it returns. Its signature
/// has plain structs and a code, since BTF cannot say Rust's enums with data.
#[inline(never)]
fn settle<T: Tables>(tables: &T, dial: &Dial, outcome: &mut Outcome) -> u32 {
    let pod = tables.pod(dial.netns);
    if pod.is_none() && !balances_everyone(tables) {
        return PASS;
    }
    let key = ServiceKey { addr: dial.addr, port: dial.port, protocol: dial.protocol, _pad: 0, _pad2: 0 };
    let mut caller = Caller {
        netns: dial.netns,
        hash: source_hash(pod, dial.netns),
        source_port: dial.source_port,
        protocol: dial.protocol,
        may_leave: pod.is_some() && dial.protocol == TCP,
    };
    let mut found = tables.pick(&key, &caller, &mut outcome.to);
    if outcome.to.service_flags & service_flags::PROXY != 0 && outcome.to.backend == 0 {
        match to_proxy(tables, dial, &mut outcome.to) {
            Reason::NONE => return PROXY,
            reason
                if outcome.to.service_flags & service_flags::PROXY_OPEN == 0
                    && !pod.is_some_and(|pod| awaits_listener(tables, pod)) =>
            {
                outcome.denial = Denial { reason, rule: 0 };
                return DENY;
            }
            _ => {
                caller.may_leave = false;
                found = tables.pick(&key, &caller, &mut outcome.to);
            }
        }
    }
    if found == Reason::NO_ENDPOINTS {
        outcome.denial = Denial { reason: found, rule: 0 };
        return DENY;
    }
    if echo(tables, dial, pod, outcome) && !is_proxy(tables) {
        return match to_proxy(tables, dial, &mut outcome.to) {
            Reason::NONE => TLS,
            reason => {
                outcome.denial = Denial { reason, rule: 0 };
                DENY
            }
        };
    }
    if outcome.denial.reason != Reason::NONE {
        return DENY;
    }
    if outcome.to.service == 0 { PASS } else { TRANSLATE }
}

const PASS: u32 = 0;
const TRANSLATE: u32 = 1;
const DENY: u32 = 2;
const PROXY: u32 = 3;
const TLS: u32 = 4;

/// Whether the node's proxy makes this socket. (Who may set what mark says nothing: a pod with `CAP_NET_RAW` may
/// set any.)
#[inline(always)]
pub fn is_proxy<T: Tables>(tables: &T) -> bool {
    let cgroup = tables.config().map_or(0, |config| config.proxy_cgroup);
    cgroup != 0 && tables.is_called_from(cgroup)
}

/// Sends a dial to the pod's own listener, by the pod's own address: what its socket is bound to stays
/// true.
///
/// A BPF function of its own, as [`settle`].
#[inline(never)]
fn to_proxy<T: Tables>(tables: &T, dial: &Dial, to: &mut Destination) -> Reason {
    let Some(pod) = tables.pod(dial.netns) else { return Reason::PROXY_UNAVAILABLE };
    let own = if dial.addr.is_v4() { pod.ip4 } else { pod.ip6 };
    if !proxy_is_there(tables) || pod.outbound.be == 0 || own.is_unspecified() {
        return Reason::PROXY_UNAVAILABLE;
    }
    to.addr = own;
    to.port = pod.outbound;
    Reason::NONE
}

/// Whether a pod has just been enrolled, and the node's proxy is about to listen for it. Without a proxy it may be on its way for
/// hours, and routes may have policies.
#[inline(always)]
fn awaits_listener<T: Tables>(tables: &T, pod: &Pod) -> bool {
    pod.outbound.be == 0 && is_passing(tables, pod) && proxy_is_there(tables)
}

/// Whether the node's proxy has renewed its lease.
#[inline(always)]
pub(crate) fn proxy_is_there<T: Tables>(tables: &T) -> bool {
    let lasts_ns = tables.config().map_or(0, |config| config.proxy_lease_ns);
    // The proxy may have renewed it after the clock was read.
    tables.now_ns().saturating_sub(tables.lease_ns()) < lasts_ns
}

#[inline(always)]
fn balances_everyone<T: Tables>(tables: &T) -> bool {
    tables.config().is_some_and(|config| config.flags & config_flags::SCOPE_NODE != 0)
}

/// The early, friendly copy of what the destination's hook will decide, where that pod is ours. It is
/// no boundary: raw sockets and older sockets come round it.
///
/// Whether the pod is another node's and is spoken to by mutual TLS: then its node decides.
#[inline(always)]
fn echo<T: Tables>(tables: &T, dial: &Dial, pod: Option<&Pod>, outcome: &mut Outcome) -> bool {
    let Some(pod) = pod else { return false };
    let Some(row) = tables.pod_at(&outcome.to.addr) else { return false };
    if row.netns == 0 {
        return dial.protocol == TCP
            && mode(tables, row, &outcome.to.addr, outcome.to.port) & pod_flags::TLS != 0
            && !is_passing(tables, pod);
    }
    if row.policy == 0 || row.netns == dial.netns {
        return false;
    }
    let source = if outcome.to.addr.is_v4() { pod.ip4 } else { pod.ip6 };
    if dial.protocol == UDP && is_answer(tables, dial, &source, &outcome.to) {
        return false;
    }
    let request = Request {
        policy: row.policy,
        flags: row.flags,
        source,
        identity: pod.identity,
        namespace: pod.namespace,
        proven: dial.source_port.be != 0 || dial.protocol == TCP,
        protocol: dial.protocol,
        port: outcome.to.port,
    };
    let Ruling { verdict, audit } = tables.authorize(&request);
    outcome.denial = verdict;
    // What the proxy is to read is no verdict to carry.
    let lets_in = verdict.reason == Reason::NONE && verdict.rule == 0;
    if dial.protocol == TCP && lets_in && audit.reason == Reason::NONE {
        outcome.grant = grant(&request);
    }
    false
}

/// A datagram to a pod that just sent one the other way passes that pod's hook. One to a connected socket
/// does not even come to it.
///
/// A BPF function of its own, as [`settle`].
#[inline(never)]
fn is_answer<T: Tables>(tables: &T, dial: &Dial, source: &Addr, to: &Destination) -> bool {
    let outward = FlowKey {
        src: *source,
        dst: to.addr,
        src_port: dial.source_port,
        dst_port: to.port,
        protocol: UDP,
        _pad: [0; 3],
    };
    if tables.config().is_some_and(|config| answers(tables, &outward, config)) {
        return true;
    }
    let connected = FlowKey { src_port: BePort { be: 0 }, protocol: CONNECTED_UDP, ..outward.reversed() };
    tables.flow(&connected).is_some()
}

/// FNV-1a over the pod's first address, so that both families of a pod hash alike. Of any other client the
/// namespace alone is known: its socket may have no address yet.
#[inline(always)]
fn source_hash(pod: Option<&Pod>, netns: u64) -> u32 {
    let words = match pod {
        Some(pod) if pod.ip4.is_unspecified() => pod.ip6.v6_words(),
        Some(pod) => pod.ip4.v6_words(),
        None => {
            let cookie = netns.to_ne_bytes();
            let half = |at| u32::from_ne_bytes([cookie[at], cookie[at + 1], cookie[at + 2], cookie[at + 3]]);
            [half(0), half(4), 0, 0]
        }
    };
    let mut hash = 0x811c_9dc5_u32;
    let mut i = 0;
    while i < 4 {
        hash = (hash ^ words[i]).wrapping_mul(0x0100_0193);
        hash ^= hash >> 15;
        i += 1;
    }
    hash
}

#[cfg(test)]
mod proxy_tests;
#[cfg(test)]
mod tests;
