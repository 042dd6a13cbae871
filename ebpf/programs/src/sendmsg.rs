//! Where a datagram with an explicit address really goes.
//!
//! # Kernel
//! `cgroup/sendmsg4,6` (4.18): unconnected UDP, and connected UDP when an address is given. The source
//! port is chosen by then.

use aya_ebpf::{macros::cgroup_sock_addr, programs::SockAddrContext};
use weft_abi::{FlowKey, FlowRecord, ReverseKey, ReverseRow, UDP, names::stat, socket_flags};
use weft_ebpf_logic::{Destination, Dial, Outcome, Tables, Verdict, dial};

use crate::{
    context::{Family, SockAddr},
    events,
    finish::{PROCEED, refuse},
    kernel::Kernel,
    maps, sockets,
};

#[cgroup_sock_addr(sendmsg4)]
pub fn weft_sendmsg4(ctx: SockAddrContext) -> i32 {
    send(&SockAddr::new(&ctx, Family::V4))
}

#[cgroup_sock_addr(sendmsg6)]
pub fn weft_sendmsg6(ctx: SockAddrContext) -> i32 {
    send(&SockAddr::new(&ctx, Family::V6))
}

#[inline(always)]
fn send(call: &SockAddr) -> i32 {
    let wanted = Dial {
        netns: call.netns(),
        addr: call.addr(),
        port: call.port(),
        protocol: UDP,
        source_port: call.source_port(),
    };
    let mut outcome = Outcome::of(&wanted);
    let verdict = dial(&Kernel, &wanted, &mut outcome);
    let to = &outcome.to;
    match verdict {
        Verdict::Pass => {
            // An app that reaches a pod through a Service and by its own address is shown what it used last.
            if sockets::state(call.socket()).is_some_and(|state| state.flags & socket_flags::ASKS != 0) {
                remember(call, &wanted, to);
            }
            attest(call, &wanted, to);
        }
        Verdict::Translate | Verdict::Proxy | Verdict::Tls => {
            maps::count(stat::TRANSLATED, 1);
            remember(call, &wanted, to);
            attest(call, &wanted, to);
            call.rewrite(&to.addr, to.port);
        }
        Verdict::Deny => return refuse(call, UDP, &outcome),
    }
    PROCEED
}

/// Answers of the backend will seem to come from the address that the app sent to.
///
/// A BPF function of its own, as is [`attest`]: their stack is free again while `dial` needs its own.
#[inline(never)]
fn remember(call: &SockAddr, wanted: &Dial, to: &Destination) {
    let key = ReverseKey { socket: call.cookie(), addr: to.addr, port: to.port, _pad: [0; 6] };
    let row = ReverseRow { addr: wanted.addr, port: wanted.port, _pad: [0; 6] };
    // SAFETY: the entry is compared at once; a recycled one costs an update.
    let known = unsafe { maps::UDP_REVERSE.get(key) };
    if !known.is_some_and(|known| known.addr.is(&row.addr) && known.port.be == row.port.be) {
        let _ = maps::UDP_REVERSE.insert(key, row, 0);
        if let Some(state) = sockets::state_or_new(call.socket()) {
            state.flags |= socket_flags::ASKS;
        }
    }
}

/// The pod did send this: its answers may come in, and a pod of this node may believe who it is from.
#[inline(never)]
fn attest(call: &SockAddr, wanted: &Dial, to: &Destination) {
    let Some(pod) = Kernel.pod(wanted.netns).copied() else { return };
    let key = FlowKey {
        src: if to.addr.is_v4() { pod.ip4 } else { pod.ip6 },
        dst: to.addr,
        src_port: call.source_port(),
        dst_port: to.port,
        protocol: UDP,
        _pad: [0; 3],
    };
    let now = Kernel.now_ns();
    let last = Kernel.flow(&key).map(|record| record.used_ns);
    if last.is_some_and(|used| now.wrapping_sub(used) < FRESH_NS) {
        return;
    }
    let record =
        FlowRecord { identity: pod.identity, namespace: pod.namespace, used_ns: now, ..FlowRecord::zeroed() };
    if maps::FLOWS.insert(key, record, 0).is_err() {
        maps::count(stat::FLOWS_LOST, 1);
    }
    if last.is_none() {
        events::sent_datagram(wanted, &key, to.service);
    }
}

/// A record is not written again for each datagram: half of how long it proves its sender's identity, so
/// that the last of the datagrams has as long to arrive.
const FRESH_NS: u64 = 500_000_000;
