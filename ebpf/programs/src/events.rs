//! Flow events. A full ring drops the event and counts it; it never changes a verdict.

use aya_ebpf::bindings::bpf_sock_ops;
use weft_abi::{
    Addr, FlowEvent, FlowKey, Reason, SocketState, TCP, UDP, event_kind, names::stat, path, socket_flags,
};
use weft_ebpf_logic::{Arrival, Client, Denial, Dial, Outcome, Tables};

use crate::{
    context::{SockAddr, SockOps, field},
    kernel::Kernel,
    maps,
    tcp::{Tcp, global},
};

/// 1 where `bpf_set_retval` exists (kernel 5.18).
#[unsafe(no_mangle)]
static WEFT_HAS_RETVAL: u64 = 1;

/// Whether the kernel has `bpf_set_retval`.
#[inline(always)]
pub fn has_retval() -> bool {
    global(&raw const WEFT_HAS_RETVAL) != 0
}

/// A TCP connection is established.
#[inline(always)]
pub fn opened(call: &SockOps, state: &SocketState) {
    emit(state.since_ns, |event| {
        of_socket(event, call, state);
        event.kind = event_kind::OPENED;
    });
}

/// A TCP connection ended.
#[inline(always)]
pub fn closed(call: &SockOps, state: &SocketState) {
    let (out, into) = payload(call);
    let (out, into) = (out + state.redirected, into + state.arrived);
    emit(Kernel.now_ns(), |event| {
        of_socket(event, call, state);
        event.kind = event_kind::CLOSED;
        let client = state.flags & socket_flags::CLIENT != 0;
        (event.sent, event.received) = if client { (out, into) } else { (into, out) };
        event.redirected = state.redirected + state.arrived;
        event.duration_ns = event.time_ns.wrapping_sub(state.since_ns);
        event.rtt_us = field!(call.ctx, bpf_sock_ops, u32, srtt_us) >> 3;
        event.retransmits = field!(call.ctx, bpf_sock_ops, u32, total_retrans);
    });
}

/// A pod sent a first datagram to somebody.
#[inline(always)]
pub fn sent_datagram(wanted: &Dial, key: &FlowKey, service: u64) {
    emit(Kernel.now_ns(), |event| {
        event.netns = wanted.netns;
        event.service = service;
        (event.src, event.src_port) = (key.src, key.src_port);
        (event.dst, event.dst_port) = (key.dst, key.dst_port);
        (event.dialled, event.dialled_port) = (wanted.addr, wanted.port);
        event.protocol = UDP;
        event.kind = event_kind::OPENED;
        event.client_side = 1;
        event.attested = 1;
    });
}

/// A connect or sendmsg call was refused.
#[inline(always)]
pub fn refused_dial(call: &SockAddr, protocol: u8, outcome: &Outcome) {
    let Outcome { to, denial, .. } = outcome;
    let netns = call.netns();
    let src = match Kernel.pod(netns) {
        Some(pod) if to.addr.is_v4() => pod.ip4,
        Some(pod) => pod.ip6,
        None => Addr::ANY,
    };
    emit(Kernel.now_ns(), |event| {
        event.netns = netns;
        (event.src, event.src_port) = (src, call.source_port());
        event.service = to.service;
        (event.dst, event.dst_port) = (to.addr, to.port);
        (event.dialled, event.dialled_port) = (call.addr(), call.port());
        event.protocol = protocol;
        event.kind = event_kind::DENIED;
        event.reason = denial.reason.code;
        event.rule = denial.rule;
        event.client_side = 1;
        event.attested = 1;
    });
}

/// A packet was refused at the pod.
#[inline(always)]
pub fn refused_arrival(arrival: &Arrival, client: &Client, denial: &Denial) {
    at_pod(arrival, client, denial, event_kind::DENIED);
}

/// A packet came in that an audit policy would have refused.
#[inline(always)]
pub fn audited(arrival: &Arrival, client: &Client, denial: &Denial) {
    at_pod(arrival, client, denial, event_kind::AUDIT);
}

#[inline(always)]
fn at_pod(arrival: &Arrival, client: &Client, denial: &Denial, kind: u8) {
    emit(Kernel.now_ns(), |event| {
        (event.src, event.src_port) = (arrival.remote, arrival.remote_port);
        (event.dst, event.dst_port) = (arrival.local, arrival.local_port);
        (event.dialled, event.dialled_port) = (arrival.local, arrival.local_port);
        event.protocol = arrival.protocol;
        event.kind = kind;
        event.reason = denial.reason.code;
        event.rule = denial.rule;
        event.attested = u8::from(client.proven);
    });
}

#[inline(always)]
fn of_socket(event: &mut FlowEvent, call: &SockOps, state: &SocketState) {
    event.connection = state.connection(call.local_port());
    event.netns = state.netns;
    event.service = state.service;
    event.protocol = TCP;
    event.path = if state.redirected + state.arrived > 0 { path::ACCELERATED } else { path::KERNEL };
    if state.flags & socket_flags::CLIENT != 0 {
        event.client_side = 1;
        event.attested = 1;
        (event.src, event.src_port) = (call.local(), call.local_port());
        (event.dst, event.dst_port) = (call.remote(), call.remote_port());
    } else {
        (event.src, event.src_port) = (call.remote(), call.remote_port());
        (event.dst, event.dst_port) = (call.local(), call.local_port());
    }
    let translated = state.flags & socket_flags::TRANSLATED != 0;
    (event.dialled, event.dialled_port) =
        if translated { (state.dialled, state.dialled_port) } else { (event.dst, event.dst_port) };
}

/// Payload bytes out of and into this socket.
///
/// `bytes_acked` and `bytes_received` count SYN and FIN as bytes; `bytes_sent` and `SOCK_DONE` do not
/// lie, but no context shows them: they are read where this kernel's BTF says.
#[inline(always)]
fn payload(call: &SockOps) -> (u64, u64) {
    let received = field!(call.ctx, bpf_sock_ops, u64, bytes_received);
    match Tcp::of(call.socket()) {
        Some(tcp) => (tcp.sent(), received.saturating_sub(u64::from(tcp.is_done()))),
        None => (field!(call.ctx, bpf_sock_ops, u64, bytes_acked), received),
    }
}

#[inline(always)]
fn emit(time_ns: u64, fill: impl FnOnce(&mut FlowEvent)) {
    let Some(mut entry) = maps::EVENTS.reserve(0) else {
        maps::count(stat::EVENTS_LOST, 1);
        return;
    };
    let event = maps::clear(&mut *entry);
    event.time_ns = time_ns;
    event.reason = Reason::NONE.code;
    fill(event);
    // The agent looks every few milliseconds; waking it for each event would cost more than the event.
    entry.submit(BPF_RB_NO_WAKEUP);
}

const BPF_RB_NO_WAKEUP: u64 = 1;
