//! A TCP connection's life: attested when its SYN leaves, reported when it opens and closes.
//!
//! # Kernel
//! `sock_ops` (4.13; state callback 4.16; netns cookie 5.15). `TCP_CONNECT_CB` runs in the app's thread
//! with the final source port, before the SYN.

use aya_ebpf::{
    bindings::{
        BPF_SOCK_OPS_ACTIVE_ESTABLISHED_CB, BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB, BPF_SOCK_OPS_RTO_CB,
        BPF_SOCK_OPS_RTO_CB_FLAG, BPF_SOCK_OPS_RTT_CB, BPF_SOCK_OPS_STATE_CB, BPF_SOCK_OPS_STATE_CB_FLAG,
        BPF_SOCK_OPS_TCP_CONNECT_CB, bpf_sock_ops,
    },
    helpers::generated::bpf_sock_ops_cb_flags_set,
    macros::sock_ops,
    programs::SockOpsContext,
};
use weft_abi::{
    Addr, BePort, FlowKey, FlowRecord, Origin, OriginKey, SocketState, TCP, config_flags, flow_flags,
    names::stat, pod_flags, socket_flags,
};
use weft_ebpf_logic::{Arrival, Tables, allowed, is_captured, is_read};

use crate::{
    attested,
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
        BPF_SOCK_OPS_RTO_CB => dialling_again(&call),
        _ => {}
    }
    1
}

/// The SYN is about to leave: whoever it reaches on this node may believe who sent it. Nobody asks at a pod
/// without policies, so there nothing is written.
#[inline(always)]
fn dialling(call: &SockOps) {
    let state = sockets::state(call.socket());
    if let Some(state) = &state {
        pairs::forget(state);
        if state.flags & socket_flags::REFUSED != 0 {
            maps::count(stat::OVERRULED, 1);
        }
    }
    if state.as_ref().is_some_and(|state| state.grant != 0) {
        attested::approach(&outward(call));
    }
    let netns = call.netns();
    let Some(pod) = Kernel.pod(netns) else {
        // The connect hook knows the probe by its cgroup: "current" is not to be had here before 6.2.
        if state.is_some_and(|state| state.flags & socket_flags::PROBE != 0) {
            let (used_ns, flags) = (Kernel.now_ns(), flow_flags::PROBE);
            let _ = attest(call, &outward(call), FlowRecord { used_ns, flags, ..FlowRecord::zeroed() });
        }
        return;
    };
    let state = match state {
        Some(state) if state.flags & socket_flags::PROXIED != 0 => return to_proxy(call, netns, state),
        other => other,
    };
    let (identity, namespace) = (pod.identity, pod.namespace);
    let Some(state) = state.or_else(|| sockets::state_or_new(call.socket())) else {
        // An attestation that nobody remembers would not die with its connection: fails closed.
        if is_guarded(call) {
            maps::count(stat::FLOWS_LOST, 1);
        }
        return;
    };
    state.netns = netns;
    state.since_ns = Kernel.now_ns();
    let pair = pairs::wanted(call, state, |state| pairs::is_neighbour(state, Kernel.pod_at(&call.remote())));
    state.flags &= !(socket_flags::REPORTED | socket_flags::ATTESTED);
    state.flags |= socket_flags::CLIENT;
    let by_proxy = state.flags & socket_flags::BY_PROXY != 0;
    let lets_in = by_proxy && is_for_own_app(call, netns);
    // Who has been let in by policies dials a pod that has some.
    if state.grant != 0 || pair != 0 || lets_in || is_guarded(call) {
        state.flags |= socket_flags::ATTESTED;
        let flags = if by_proxy { flow_flags::BY_PROXY } else { 0 };
        let flags = if lets_in { flags | flow_flags::LET_IN } else { flags };
        let (flow, used_ns) = (outward(call), state.since_ns);
        let allowed = allowed(state.grant, pod, &flow);
        let record = FlowRecord { identity, namespace, used_ns, pair, allowed, flags, _pad: 0 };
        if !attest(call, &flow, record) {
            state.flags &= !socket_flags::PAIRS;
        }
    } else if state.flags & socket_flags::COUNTED != 0 {
        // A refusal is the end of it, too, however long the app keeps the socket.
        watch(call);
    }
}

/// Whether what is dialled is a pod of this node that has policies.
#[inline(always)]
fn is_guarded(call: &SockOps) -> bool {
    Kernel.pod_at(&call.remote()).is_some_and(|row| row.netns != 0 && row.flags & pod_flags::GUARDED != 0)
}

/// Whether the proxy, in a pod's namespace, dials that pod from an address that is not the one it dials.
#[inline(always)]
fn is_for_own_app(call: &SockOps, netns: u64) -> bool {
    let to = call.remote();
    !call.local().is(&to) && Kernel.pod_at(&to).is_some_and(|row| row.netns == netns)
}

/// Nobody has answered so far: the SYN is about to leave again.
///
/// # Kernel
/// `BPF_SOCK_OPS_RTO_CB` (4.16) runs before what timed out is sent.
#[inline(always)]
fn dialling_again(call: &SockOps) {
    if field!(call.ctx, bpf_sock_ops, u32, state) == TCP_SYN_SENT {
        attested::renew(&outward(call), Kernel.tick_ns());
    }
}

/// The node's proxy is told whom the app dialled, before it can accept.
#[inline(always)]
fn to_proxy(call: &SockOps, netns: u64, state: &mut SocketState) {
    state.netns = netns;
    state.since_ns = Kernel.now_ns();
    let pair = pairs::wanted(call, state, |_| true);
    let (dialled, port) = (state.dialled, state.dialled_port);
    let (mut chosen, mut chosen_port) = (Addr::ANY, BePort { be: 0 });
    if state.flags & socket_flags::TLS != 0 {
        (chosen, chosen_port) = match Kernel.backend(state.backend) {
            Some(backend) => (backend.addr, backend.port),
            None => (dialled, port),
        };
    }
    let service = state.service;
    let origin = Origin { dialled, service, pair, chosen, port, chosen_port, _pad: [0; 4] };
    if maps::ORIGINS.insert(origin_key(call, netns), origin, 0).is_err() {
        maps::count(stat::ORIGINS_LOST, 1);
    }
    watch(call);
}

/// A connection to the proxy that broke off: what it left is nobody's, unless the proxy has taken it. One that ended
/// well may still wait to be accepted, with all that it sent.
#[inline(always)]
fn broke_off(call: &SockOps, state: &SocketState) {
    let before = field!(call.ctx, bpf_sock_ops, u32, __bindgen_anon_1.args[0]);
    if state.flags & socket_flags::PROXIED != 0 && before != TCP_FIN_WAIT2 && before != TCP_CLOSING {
        let _ = maps::ORIGINS.remove(origin_key(call, state.netns));
    }
}

#[inline(always)]
fn origin_key(call: &SockOps, netns: u64) -> OriginKey {
    OriginKey { netns, addr: call.local(), port: call.local_port(), to: BePort { be: 0 }, _pad: [0; 4] }
}

/// The handshake is over on the client's side.
#[inline(always)]
fn dialled(call: &SockOps) {
    let Some(state) = sockets::state(call.socket()) else { return };
    if state.flags & socket_flags::CLIENT != 0 {
        if state.flags & socket_flags::BY_PROXY == 0 {
            state.flags |= socket_flags::REPORTED;
            events::opened(call, state);
        }
        if state.flags & socket_flags::ATTESTED == 0 {
            watch(call);
        }
        if state.flags & socket_flags::PAIRS != 0 {
            pairs::open(call, state);
        }
    } else if state.flags & (socket_flags::PROXIED | socket_flags::PAIRS) == TO_PROXY {
        watch(call);
        pairs::open(call, state);
    }
}

/// A server of ours has a new connection.
#[inline(always)]
fn accepted(call: &SockOps) {
    let outward = outward(call);
    // The client's side is on this node and enrolled, and reports: this side keeps nothing, and nothing is to
    // be done when it ends.
    let (client, is_enrolled) = Kernel
        .pod_at(&outward.dst)
        .map_or((0, false), |row| (row.netns, row.flags & pod_flags::ENROLLED != 0));
    let mirrored = client != 0 && is_enrolled;
    if mirrored {
        if is_read_here()
            && let Some(row) = Kernel.pod_at(&outward.src)
            && is_read(&Kernel, row, &arrival(&outward))
        {
            return by_proxy(call);
        }
        if !pairs::is_on() {
            return;
        }
    }
    let seen = Kernel.flow(&outward.reversed());
    let (mut pair, said) = seen.map_or((0, 0), |row| (row.pair, row.flags));
    let mut proxy = if said & flow_flags::BY_PROXY != 0 { socket_flags::DIALLED_BY_PROXY } else { 0 };
    let netns = call.netns();
    if client == netns && pair == 0 {
        pair = pairs::with_proxy(netns, &outward);
        proxy = socket_flags::ACCEPTED_BY_PROXY;
    }
    if mirrored && pair == 0 {
        return;
    }
    let Some(pod) = Kernel.pod(netns) else { return };
    // Of an app's connection and of the proxy's own alike: the proxy reports whom it has let in, and judges him.
    if said & flow_flags::LET_IN != 0 || (pod.inbound.be != 0 && is_captured(&Kernel, &arrival(&outward))) {
        return by_proxy(call);
    }
    let Some(state) = sockets::state_or_new(call.socket()) else { return };
    // All else is zero: a socket that was accepted a moment ago has no storage from before.
    state.netns = netns;
    state.since_ns = Kernel.now_ns();
    state.flags = socket_flags::SERVER;
    if mirrored {
        state.flags |= proxy;
        pairs::accept(call, state, pair);
    } else {
        let probe = said & flow_flags::PROBE != 0;
        state.flags |= socket_flags::REPORTED | if probe { socket_flags::PROBE } else { 0 };
        events::opened(call, state);
    }
    watch(call);
}

/// Whether policies of any pod of this node read requests.
#[inline(always)]
fn is_read_here() -> bool {
    Kernel.config().is_some_and(|config| config.flags & config_flags::READS != 0)
}

/// The node's proxy has accepted a connection that was made to the pod: it reports it, and judges it.
#[inline(always)]
fn by_proxy(call: &SockOps) {
    let Some(state) = sockets::state_or_new(call.socket()) else { return };
    state.netns = call.netns();
    state.since_ns = Kernel.now_ns();
    state.flags = socket_flags::SERVER | socket_flags::BY_PROXY;
}

#[inline(always)]
fn changed(call: &SockOps) {
    if field!(call.ctx, bpf_sock_ops, u32, __bindgen_anon_1.args[1]) != TCP_CLOSE {
        return;
    }
    let Some(state) = sockets::state(call.socket()) else { return };
    sockets::uncount(state);
    broke_off(call, state);
    pairs::close(call, state);
    // What the kernel attested of a pod's or a probe's connection dies with it.
    if state.flags & (socket_flags::ATTESTED | socket_flags::PROBE) != 0
        && state.flags & socket_flags::SERVER == 0
    {
        attested::forget(&outward(call));
    }
    if state.flags & socket_flags::REPORTED != 0 {
        state.flags &= !socket_flags::REPORTED;
        events::closed(call, state);
    }
}

/// Whether it could be written. It is to be removed even if the connection never comes about, and to hold as long
/// as SYNs are sent.
#[inline(always)]
fn attest(call: &SockOps, flow: &FlowKey, record: FlowRecord) -> bool {
    ask_for(call, BPF_SOCK_OPS_STATE_CB_FLAG | BPF_SOCK_OPS_RTO_CB_FLAG);
    let is_written = attested::attest(flow, &record);
    if !is_written {
        maps::count(stat::FLOWS_LOST, 1);
    }
    is_written
}

/// Asks for the callback on state changes.
#[inline(always)]
fn watch(call: &SockOps) {
    ask_for(call, BPF_SOCK_OPS_STATE_CB_FLAG);
}

#[inline(always)]
fn ask_for(call: &SockOps, flags: u32) {
    let flags = field!(call.ctx, bpf_sock_ops, u32, bpf_sock_ops_cb_flags) | flags;
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

/// What came to the socket that sends `outward`.
#[inline(always)]
fn arrival(outward: &FlowKey) -> Arrival {
    Arrival {
        local: outward.src,
        local_port: outward.src_port,
        remote: outward.dst,
        remote_port: outward.dst_port,
        protocol: TCP,
    }
}

/// An app's socket that pairs with the proxy's.
const TO_PROXY: u32 = socket_flags::PROXIED | socket_flags::PAIRS;
/// `enum tcp_state`: closed, and where a socket that was closed comes from once its peer has all that it sent.
const TCP_CLOSE: u32 = 7;
const TCP_SYN_SENT: u32 = 2;
const TCP_FIN_WAIT2: u32 = 5;
const TCP_CLOSING: u32 = 11;
