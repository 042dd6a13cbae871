//! A TCP connection's life: attested when its SYN leaves, reported when it opens and closes.
//!
//! # Kernel
//! `sock_ops` (4.13; state callback 4.16; netns cookie 5.15). `TCP_CONNECT_CB` runs in the app's thread
//! with the final source port, before the SYN.

use aya_ebpf::{
    bindings::{
        BPF_SOCK_OPS_ACTIVE_ESTABLISHED_CB, BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB, BPF_SOCK_OPS_RTT_CB,
        BPF_SOCK_OPS_STATE_CB, BPF_SOCK_OPS_STATE_CB_FLAG, BPF_SOCK_OPS_TCP_CONNECT_CB, bpf_sock_ops,
    },
    helpers::generated::bpf_sock_ops_cb_flags_set,
    macros::sock_ops,
    programs::SockOpsContext,
};
use weft_abi::{FlowKey, FlowRecord, TCP, flow_flags, names::stat, socket_flags};
use weft_ebpf_logic::Tables;

use crate::{
    context::{SockOps, field},
    events,
    kernel::Kernel,
    maps, pairs, sockets,
};

#[sock_ops]
pub fn weft_sock_ops(ctx: SockOpsContext) -> u32 {
    let call = SockOps::new(&ctx);
    match field!(call.ctx, bpf_sock_ops, u32, op) {
        BPF_SOCK_OPS_TCP_CONNECT_CB => dialling(&call),
        BPF_SOCK_OPS_ACTIVE_ESTABLISHED_CB => dialled(&call),
        BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB => accepted(&call),
        BPF_SOCK_OPS_STATE_CB => changed(&call),
        BPF_SOCK_OPS_RTT_CB => pairs::settle(&call),
        _ => {}
    }
    1
}

/// The SYN is about to leave: whoever it reaches on this node may believe who sent it.
#[inline(always)]
fn dialling(call: &SockOps) {
    pairs::forget(call);
    let netns = call.netns();
    let key = outward(call);
    let server = Kernel.pod_at(&key.dst);
    let ours = server.is_some_and(|row| row.netns != 0);
    let Some(pod) = Kernel.pod(netns).copied() else {
        // The connect hook knows the probe by its cgroup: "current" is not to be had here before 6.2.
        if ours && sockets::state(call.socket()).is_some_and(|state| state.flags & socket_flags::PROBE != 0) {
            attest(&key, FlowRecord { flags: flow_flags::PROBE | flow_flags::HELD, ..FlowRecord::zeroed() });
            watch(call);
        }
        return;
    };
    let mut pair = 0;
    if let Some(state) = sockets::state_or_new(call.socket()) {
        state.netns = netns;
        state.since_ns = Kernel.now_ns();
        state.flags |= socket_flags::CLIENT;
        state.flags &= !socket_flags::REPORTED;
        pair = pairs::wanted(call, state, server);
        watch(call);
    }
    if ours {
        let (identity, namespace) = (pod.identity, pod.namespace);
        let flags = flow_flags::HELD;
        attest(&key, FlowRecord { identity, namespace, used_ns: 0, pair, flags, _pad: 0 });
    }
}

/// The handshake is over on the client's side.
#[inline(always)]
fn dialled(call: &SockOps) {
    let key = outward(call);
    let mut pair = 0;
    if let Some(record) = maps::FLOWS.get_ptr_mut(key) {
        // SAFETY: the verifier bounds the value; two fields, each written whole.
        unsafe {
            (*record).used_ns = Kernel.now_ns();
            (*record).flags &= !flow_flags::HELD;
            pair = (*record).pair;
        }
    }
    if let Some(state) = sockets::state(call.socket())
        && state.flags & socket_flags::CLIENT != 0
    {
        state.flags |= socket_flags::REPORTED;
        events::opened(call, state);
        if pair != 0 {
            pairs::open(call, state);
        }
    }
}

/// A server of ours has a new connection.
#[inline(always)]
fn accepted(call: &SockOps) {
    let netns = call.netns();
    if Kernel.pod(netns).is_none() {
        return;
    }
    let Some(state) = sockets::state_or_new(call.socket()) else { return };
    // All else is zero: a socket that was accepted a moment ago has no storage from before.
    state.netns = netns;
    state.since_ns = Kernel.now_ns();
    state.flags = socket_flags::SERVER;
    match Kernel.flow(&outward(call).reversed()) {
        // The client's side is on this node and reports.
        Some(record) if record.flags & flow_flags::PROBE == 0 => {
            state.client = record.identity;
            state.flags |= socket_flags::MIRRORED;
            let pair = record.pair;
            if pair == 0 {
                // Nothing is to be done when it ends: no callback at each of its states.
                return;
            }
            pairs::accept(call, state, pair);
        }
        seen => {
            state.flags |= socket_flags::REPORTED | if seen.is_some() { socket_flags::PROBE } else { 0 };
            events::opened(call, state);
        }
    }
    watch(call);
}

#[inline(always)]
fn changed(call: &SockOps) {
    if field!(call.ctx, bpf_sock_ops, u32, __bindgen_anon_1.args[1]) != TCP_CLOSE {
        return;
    }
    let Some(state) = sockets::state(call.socket()) else { return };
    sockets::uncount(state);
    pairs::close(call, state);
    // What the kernel attested of a pod's or a probe's connection dies with it.
    if state.flags & socket_flags::SERVER == 0 {
        let _ = maps::FLOWS.remove(outward(call));
    }
    if state.flags & socket_flags::REPORTED != 0 {
        state.flags &= !socket_flags::REPORTED;
        events::closed(call, state);
    }
}

#[inline(always)]
fn attest(key: &FlowKey, record: FlowRecord) {
    if maps::FLOWS.insert(key, record, 0).is_err() {
        maps::count(stat::FLOWS_LOST, 1);
    }
}

/// Asks for the callback on state changes.
#[inline(always)]
fn watch(call: &SockOps) {
    let flags = field!(call.ctx, bpf_sock_ops, u32, bpf_sock_ops_cb_flags) | BPF_SOCK_OPS_STATE_CB_FLAG;
    // SAFETY: the context is the kernel's.
    unsafe { bpf_sock_ops_cb_flags_set(call.ctx, flags as i32) };
}

/// The flow from this socket to its peer.
#[inline(always)]
fn outward(call: &SockOps) -> FlowKey {
    FlowKey {
        src: call.local(),
        dst: call.remote(),
        src_port: call.local_port(),
        dst_port: call.remote_port(),
        protocol: TCP,
        _pad: [0; 3],
    }
}

/// `enum tcp_state`: closed.
const TCP_CLOSE: u32 = 7;
