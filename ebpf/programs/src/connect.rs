//! Where an app's new connection really goes.
//!
//! # Kernel
//! `cgroup/connect4,6` (4.17). Runs for TCP, MPTCP, `MSG_FASTOPEN` and connected UDP, in the app's
//! context, before the source port is chosen.

use aya_ebpf::{helpers::bpf_get_current_cgroup_id, macros::cgroup_sock_addr, programs::SockAddrContext};
use weft_abi::{
    BePort, CONNECTED_UDP, FlowKey, FlowRecord, TCP, UDP, names::stat, service_flags, socket_flags,
};
use weft_ebpf_logic::{Dial, Outcome, Tables, Verdict, dial, is_proxy};

use crate::{
    context::{Family, SockAddr},
    finish::{PROCEED, refuse},
    kernel::{self, Kernel},
    maps, mptcp, sockets,
};

#[cgroup_sock_addr(connect4)]
pub fn weft_connect4(ctx: SockAddrContext) -> i32 {
    connect(&SockAddr::new(&ctx, Family::V4))
}

#[cgroup_sock_addr(connect6)]
pub fn weft_connect6(ctx: SockAddrContext) -> i32 {
    connect(&SockAddr::new(&ctx, Family::V6))
}

#[inline(always)]
fn connect(call: &SockAddr) -> i32 {
    let Some(protocol) = call.protocol() else { return PROCEED };
    let wanted = Dial {
        netns: call.netns(),
        addr: call.addr(),
        port: call.port(),
        protocol,
        // A UDP socket has no source port yet, so nobody can attest it: see ARCHITECTURE.md.
        source_port: BePort { be: 0 },
    };
    let mut outcome = Outcome::of(&wanted);
    match dial(&Kernel, &wanted, &mut outcome) {
        Verdict::Pass => {
            start_anew(call, protocol, outcome.grant);
            mark_probe(call, &wanted);
            mark_proxy(call, &wanted);
            expect_answers(&wanted, &outcome);
            PROCEED
        }
        Verdict::Translate => {
            expect_answers(&wanted, &outcome);
            translate(call, &wanted, &outcome, 0)
        }
        Verdict::Proxy => {
            maps::count(stat::PROXIED, 1);
            translate(call, &wanted, &outcome, socket_flags::PROXIED)
        }
        Verdict::Tls => {
            maps::count(stat::PROXIED, 1);
            translate(call, &wanted, &outcome, socket_flags::PROXIED | socket_flags::TLS)
        }
        Verdict::Deny => {
            mark_refused(call, protocol);
            refuse(call, protocol, &outcome)
        }
    }
}

/// A socket that is connected again must not keep what an earlier connect left. With the connection
/// [`crate::sock_ops`] attests what the server's policies say to it, the `grant`.
#[inline(never)]
fn start_anew(call: &SockAddr, protocol: u8, grant: u64) {
    let before =
        if grant == 0 { sockets::state(call.socket()) } else { sockets::state_or_new(call.socket()) };
    if let Some(state) = before {
        sockets::uncount(state);
        if protocol == UDP && state.flags & socket_flags::TRANSLATED != 0 {
            sockets::unlist_udp(call.cookie());
        }
        state.flags &= socket_flags::ASKS;
        state.service = 0;
        state.backend = 0;
        state.grant = grant;
    }
    mptcp::forget(call.socket());
}

/// If the connection is made all the same, [`crate::sock_ops`] knows that another program has taken the refusal back, and
/// finds nothing of an earlier one. A UDP socket stays connected as it was.
#[inline(never)]
fn mark_refused(call: &SockAddr, protocol: u8) {
    if protocol != TCP {
        return;
    }
    start_anew(call, protocol, 0);
    if let Some(state) = sockets::state_or_new(call.socket()) {
        state.flags |= socket_flags::REFUSED;
    }
}

/// A probe of a pod of ours is known by the cgroup of whoever connects. [`crate::sock_ops`] attests it.
#[inline(never)]
fn mark_probe(call: &SockAddr, wanted: &Dial) {
    let probes = Kernel.config().map_or(0, |config| config.probe_cgroup);
    // SAFETY: no arguments; "current" is the thread that connects.
    if probes == 0 || probes != unsafe { bpf_get_current_cgroup_id() } {
        return;
    }
    let ours = Kernel.pod_at(&wanted.addr).is_some_and(|row| row.netns != 0);
    if ours
        && Kernel.pod(wanted.netns).is_none()
        && let Some(state) = sockets::state_or_new(call.socket())
    {
        state.flags |= socket_flags::PROBE;
    }
}

/// What the node's proxy connects for a pod is the proxy's to report.
///
/// A BPF function of its own, as is [`mark_probe`]: their stack is free again while `dial` needs its own.
#[inline(never)]
fn mark_proxy(call: &SockAddr, wanted: &Dial) {
    // Who connects is asked first: a look-up for every app's socket would cost more.
    if wanted.protocol == TCP
        && is_proxy(&Kernel)
        && Kernel.pod(wanted.netns).is_some_and(|pod| pod.outbound.be != 0)
        && let Some(state) = sockets::state_or_new(call.socket())
    {
        state.flags |= socket_flags::BY_PROXY;
    }
}

/// A connected UDP socket takes answers whatever policy says: a server on this node is not to be told
/// otherwise.
#[inline(never)]
fn expect_answers(wanted: &Dial, outcome: &Outcome) {
    let addr = &outcome.to.addr;
    if wanted.protocol != UDP || Kernel.pod_at(addr).is_none_or(|row| row.netns == 0) {
        return;
    }
    let Some(pod) = Kernel.pod(wanted.netns) else { return };
    let key = FlowKey {
        src: if addr.is_v4() { pod.ip4 } else { pod.ip6 },
        dst: *addr,
        src_port: BePort { be: 0 },
        dst_port: outcome.to.port,
        protocol: CONNECTED_UDP,
        _pad: [0; 3],
    };
    if maps::FLOWS.insert(key, FlowRecord::zeroed(), 0).is_err() {
        maps::count(stat::FLOWS_LOST, 1);
    }
}

/// A BPF function of its own, as [`mark_proxy`].
#[inline(never)]
fn translate(call: &SockAddr, wanted: &Dial, outcome: &Outcome, flags: u32) -> i32 {
    let to = &outcome.to;
    maps::count(stat::TRANSLATED, 1);
    if let Some(state) = sockets::state_or_new(call.socket()) {
        sockets::uncount(state);
        state.dialled = wanted.addr;
        state.dialled_port = wanted.port;
        state.peer = to.addr;
        state.peer_port = to.port;
        state.service = to.service;
        state.backend = to.backend;
        state.netns = wanted.netns;
        state.redirected = 0;
        state.grant = outcome.grant;
        state.latch = 0;
        state.flags = state.flags & socket_flags::ASKS | socket_flags::TRANSLATED | flags;
        if to.service_flags & service_flags::ACCELERATE != 0 {
            state.flags |= socket_flags::ACCELERATE;
        }
        if to.counted && wanted.protocol == TCP {
            state.flags |= socket_flags::COUNTED;
            kernel::add_open(to.backend, 1);
        }
        mptcp::show(call.socket(), state);
    }
    if wanted.protocol == UDP {
        sockets::list_udp(call.cookie(), to.backend);
    }
    call.rewrite(&to.addr, to.port);
    PROCEED
}
