//! Pairs for same-node acceleration: how two sockets find each other.
//!
//! The client's socket names the pair when it dials, in the attestation that the server's socket finds, or in
//! what it leaves for the node's proxy.
//! The pair's row is the client's: it comes when the client has joined and goes when the client closes.
//! A side that never redirects is in `weft_pair_read`, which has no program; the others are in `weft_pair_sock`.
//! Sockets leave their map by closing, by dialling anew, and when nothing was or can be redirected to
//! them: taking another one out would lose what it has not read.
//!
//! # Kernel
//! `bpf_sock_hash_update` (4.18) refuses a socket that another tool has in a map with a program of its
//! own (EBUSY), and one with an upper layer protocol such as MPTCP or kTLS (EINVAL).

use core::intrinsics::{AtomicOrdering, atomic_xchg};

use aya_ebpf::{
    bindings::{BPF_NOEXIST, BPF_SOCK_OPS_RTT_CB_FLAG, bpf_sock_ops},
    helpers::generated::{
        bpf_get_socket_cookie, bpf_getsockopt, bpf_map_delete_elem, bpf_setsockopt, bpf_sock_ops_cb_flags_set,
    },
};
use weft_abi::{
    BePort, FlowKey, OriginKey, Pair, PairEnd, PairKey, PodRow, SocketState, config_flags, latch,
    names::stat, side, socket_flags,
};
use weft_ebpf_logic::{App, Tables};

use crate::{
    context::{SockOps, field},
    kernel::Kernel,
    maps, sockets,
    tcp::{self, Tcp},
};

/// A socket that was disconnected (`AF_UNSPEC`) dials again: the kernel left it in the map, with what it
/// had not read of its last connection. TCP forgets that, and so does this.
///
/// # Kernel
/// Deleting is open to `sock_ops`; sockmap has no hook on disconnect since b8b8315e39ff (5.14).
#[inline(always)]
pub fn forget(state: &SocketState) {
    if state.pair != 0 {
        leave(PairEnd { id: state.pair, side: state.side, _pad: 0 });
    }
}

/// The id of the pair that a dialling socket wants to form with the one that it dials, if that is `here`; or 0.
#[inline(always)]
pub fn wanted(call: &SockOps, state: &mut SocketState, here: impl FnOnce(&SocketState) -> bool) -> u64 {
    state.flags &= !(socket_flags::PAIRED | socket_flags::PAIRS);
    (state.latch, state.redirected, state.arrived, state.messages) = (0, 0, 0, 0);
    if may_redirect(state) == [false; 2] || !here(state) {
        return 0;
    }
    // SAFETY: the context is the kernel's.
    let cookie = unsafe { bpf_get_socket_cookie(call.ctx.cast()) };
    // A socket that dials again must not meet the server's socket of its last connection.
    let times = if state.pair >> TIMES_BITS == cookie { (state.pair + 1) & TIMES } else { 1 };
    state.pair = cookie << TIMES_BITS | times;
    state.flags |= socket_flags::PAIRS;
    state.pair
}

/// Whether a pod's address leads to another pod of this node. What a pod says to itself stays as it is.
#[inline(always)]
pub fn is_neighbour(state: &SocketState, server: Option<&PodRow>) -> bool {
    server.is_some_and(|pod| pod.netns != 0 && pod.netns != state.netns)
}

/// The client's socket is established: it joins, and lets the server's join.
#[inline(always)]
pub fn open(call: &SockOps, state: &mut SocketState) {
    unpace(call, state);
    // An app that waits in its calls stays out of every map: nobody has asked on its behalf.
    if App::of(state.flags) == App::Sender
        && Tcp::of(call.socket()).is_none_or(|tcp| tcp::blocks(tcp.address()))
    {
        state.latch = latch::NATIVE;
        return;
    }
    let [there, back] = may_redirect(state);
    if !there {
        state.latch = latch::NATIVE;
    }
    let Some(socket) = join(call, state, side::CLIENT) else { return };
    let native = [u64::from(!there), u64::from(!back)];
    let row = Pair { sockets: [socket, 0], native, ..Pair::zeroed() };
    if maps::PAIRS.insert(PairKey { id: state.pair }, row, 0).is_err() {
        maps::count(stat::PAIR_BUSY, 1);
    }
}

/// The pair that an app of this namespace left word of for the proxy, which has accepted its connection; or 0.
#[inline(always)]
pub fn with_proxy(netns: u64, outward: &FlowKey) -> u64 {
    if Kernel.pod(netns).is_none_or(|pod| pod.outbound.be != outward.src_port.be) {
        return 0;
    }
    let key =
        OriginKey { netns, addr: outward.dst, port: outward.dst_port, to: BePort { be: 0 }, _pad: [0; 4] };
    // SAFETY: the verifier bounds the value. The proxy takes it away after it has accepted, which is later.
    unsafe { maps::ORIGINS.get(key) }.map_or(0, |origin| origin.pair)
}

/// The server's socket is established.
#[inline(always)]
pub fn accept(call: &SockOps, state: &mut SocketState, pair: u64) {
    state.pair = pair;
    unpace(call, state);
    let Some(native) = row(pair).map(|row| row.native[1]) else { return };
    if native != 0 {
        state.latch = latch::NATIVE;
    }
    if let Some(socket) = join(call, state, side::SERVER)
        && let Some(row) = row(pair)
    {
        // Last: who sees it finds the socket in the map.
        row.sockets[1] = socket;
    }
}

/// A side that has sent nothing yet is about to redirect: from now on the other side's socket stays.
///
/// Each of the two sides writes its word before it reads the
/// other's, with a full barrier between, so that at least one of them sees what the other did.
#[inline(always)]
pub fn begin(row: &mut Pair, side: u32) {
    swap(if side == side::CLIENT { &mut row.begun[0] } else { &mut row.begun[1] }, 1);
}

/// It did not redirect after all.
#[inline(always)]
pub fn never_began(row: &mut Pair, side: u32) {
    swap(if side == side::CLIENT { &mut row.begun[0] } else { &mut row.begun[1] }, 0);
}

/// Has an app send unpaced what it sends to the proxy: BBR spares the queues of a network that these bytes never come to,
/// and its timers cost more than all else. Every other congestion control stays as it is.
///
/// # Kernel
/// Before the first callback of an established socket its congestion control has not begun, and a timer of BBR's is not yet
/// asked for; afterwards it would stay. `TCP_CONGESTION` is open to `sock_ops` since 4.13, reading it since 4.15.
#[inline(always)]
fn unpace(call: &SockOps, state: &SocketState) {
    if App::of(state.flags) != App::Sender {
        return;
    }
    let mut name = [0_u8; CONGESTION_NAME];
    let (ctx, size) = (call.ctx.cast(), CONGESTION_NAME as i32);
    // SAFETY: the context is the kernel's, and the text as long as is said.
    let read = unsafe { bpf_getsockopt(ctx, SOL_TCP, TCP_CONGESTION, (&raw mut name).cast(), size) };
    if read == 0 && name.starts_with(b"bbr") {
        let mut other = *b"reno\0\0\0\0\0\0\0\0\0\0\0\0";
        // SAFETY: as above. If it fails, all goes on as it was.
        unsafe { bpf_setsockopt(ctx, SOL_TCP, TCP_CONGESTION, (&raw mut other).cast(), size) };
    }
}

/// From now on it sends through TCP: whatever it redirected before is in the other end's socket by now.
#[inline(always)]
pub fn has_left(row: &mut Pair, side: u32) {
    swap(if side == side::CLIENT { &mut row.left[0] } else { &mut row.left[1] }, 1);
}

/// TCP carries much of what this socket sends, and is faster without a map; or it is an app's that has turned out to wait
/// in its calls. Where nothing waits in it and nothing can be redirected to it any more, it leaves the map. An app that
/// waits is looked at again until then.
#[inline(always)]
pub fn settle(call: &SockOps) {
    let Some(state) = sockets::state(call.socket()) else { return };
    if state.flags & socket_flags::PAIRED == 0 || state.latch != latch::NATIVE {
        return;
    }
    let Some(tcp) = Tcp::of(call.socket()) else { return };
    let blocks = App::of(state.flags) == App::Sender && tcp::blocks(tcp.address());
    if !blocks && tcp.sent() < BULK {
        return;
    }
    let side = state.side;
    if let Some(row) = row(state.pair) {
        if has_not_begun(row, side) {
            let socket = swap(own_socket(row, side), 0);
            if has_not_begun(row, side) {
                leave(PairEnd { id: state.pair, side, _pad: 0 });
            } else {
                swap(own_socket(row, side), socket);
            }
        } else if has_ended(row, side) && tcp::unread(tcp.address()) == 0 {
            leave(PairEnd { id: state.pair, side, _pad: 0 });
        } else if blocks {
            return;
        }
    }
    let flags = field!(call.ctx, bpf_sock_ops, u32, bpf_sock_ops_cb_flags) & !BPF_SOCK_OPS_RTT_CB_FLAG;
    // SAFETY: the context is the kernel's.
    unsafe { bpf_sock_ops_cb_flags_set(call.ctx, flags as i32) };
}

/// The socket is closed: reads what it still has to report, and removes the row if it is its own.
#[inline(always)]
pub fn close(call: &SockOps, state: &mut SocketState) {
    if state.flags & socket_flags::PAIRED == 0 {
        return;
    }
    state.flags &= !socket_flags::PAIRED;
    if let Some(tcp) = Tcp::of(call.socket()) {
        maps::count(stat::BYTES_NATIVE, tcp.sent());
    }
    if let Some(row) = row(state.pair) {
        state.arrived = arrived(row, state.side);
    }
    if state.side == side::CLIENT {
        let _ = maps::PAIRS.remove(PairKey { id: state.pair });
    }
}

/// The row of a pair.
#[inline(always)]
pub fn row(pair: u64) -> Option<&'static mut Pair> {
    // SAFETY: the verifier bounds the value. A recycled row costs at most a latch that goes native.
    maps::PAIRS.get_ptr_mut(PairKey { id: pair }).map(|row| unsafe { &mut *row })
}

/// The key of the socket at the other end.
#[inline(always)]
pub fn peer(state: &SocketState) -> PairEnd {
    let side = if state.side == side::CLIENT { side::SERVER } else { side::CLIENT };
    PairEnd { id: state.pair, side, _pad: 0 }
}

/// Bytes that the other end redirected to `side`.
#[inline(always)]
pub fn arrived(row: &Pair, side: u32) -> u64 {
    if side == side::CLIENT { row.redirected[1] } else { row.redirected[0] }
}

/// Whether the other end of `side` never redirects, and so is in the map of those who do not.
#[inline(always)]
pub fn only_reads(row: &Pair, side: u32) -> bool {
    (if side == side::CLIENT { row.native[1] } else { row.native[0] }) != 0
}

/// Puts a socket into its map, and says where it is in memory. One that is native before it has sent anything only
/// reads.
#[inline(always)]
fn join(call: &SockOps, state: &mut SocketState, side: u32) -> Option<u64> {
    if state.pair == 0 || !is_on() {
        return None;
    }
    let socket = Tcp::of(call.socket())?.address();
    state.side = side;
    let key = PairEnd { id: state.pair, side, _pad: 0 };
    // SAFETY: the context is the kernel's.
    let ctx = unsafe { &mut *call.ctx };
    let joined = if state.latch == latch::NATIVE {
        maps::PAIR_READERS.update(key, ctx, BPF_NOEXIST.into())
    } else {
        maps::PAIR_SOCKETS.update(key, ctx, BPF_NOEXIST.into())
    };
    if joined.is_err() {
        maps::count(stat::PAIR_BUSY, 1);
        return None;
    }
    state.flags |= socket_flags::PAIRED;
    let flags = field!(call.ctx, bpf_sock_ops, u32, bpf_sock_ops_cb_flags) | BPF_SOCK_OPS_RTT_CB_FLAG;
    // SAFETY: as above. Round trips are only measured where TCP carries data.
    unsafe { bpf_sock_ops_cb_flags_set(call.ctx, flags as i32) };
    Some(socket)
}

#[inline(always)]
fn own_socket(row: &mut Pair, side: u32) -> &mut u64 {
    if side == side::CLIENT { &mut row.sockets[0] } else { &mut row.sockets[1] }
}

/// Whether the other side has not redirected anything and is not about to.
#[inline(always)]
fn has_not_begun(row: &mut Pair, side: u32) -> bool {
    let begun = if side == side::CLIENT { &raw const row.begun[1] } else { &raw const row.begun[0] };
    // SAFETY: a word of a map's value; volatile, for the other side writes it.
    unsafe { core::ptr::read_volatile(begun) == 0 }
}

/// Whether the other side has redirected its last.
#[inline(always)]
fn has_ended(row: &mut Pair, side: u32) -> bool {
    let left = if side == side::CLIENT { &raw const row.left[1] } else { &raw const row.left[0] };
    // SAFETY: as in `has_not_begun`.
    unsafe { core::ptr::read_volatile(left) != 0 }
}

/// Replaces a word, with a full barrier.
#[inline(always)]
fn swap(word: &mut u64, value: u64) -> u64 {
    // SAFETY: an aligned word of a map's value.
    unsafe { atomic_xchg::<u64, { AtomicOrdering::SeqCst }>(word, value) }
}

#[inline(always)]
fn leave(mut end: PairEnd) {
    let readers = (&raw const maps::PAIR_READERS).cast_mut().cast();
    let sockets = (&raw const maps::PAIR_SOCKETS).cast_mut().cast();
    // SAFETY: maps and a key of their type. It is in one of them.
    unsafe {
        bpf_map_delete_elem(readers, (&raw mut end).cast());
        bpf_map_delete_elem(sockets, (&raw mut end).cast());
    }
}

#[inline(always)]
pub fn is_on() -> bool {
    Kernel.config().is_some_and(|config| config.flags & config_flags::ACCELERATE != 0)
}

/// By [`side`], for a client's socket.
#[inline(always)]
fn may_redirect(state: &SocketState) -> [bool; 2] {
    Kernel.config().map_or([false; 2], |config| weft_ebpf_logic::may_redirect(state.flags, config))
}

/// What a socket has sent through TCP, in bytes, when the map is worth leaving.
const BULK: u64 = 1 << 20;
const TIMES_BITS: u32 = 16;
const TIMES: u64 = (1 << TIMES_BITS) - 1;
/// `linux/tcp.h`; the longest name, with its end.
const SOL_TCP: i32 = 6;
const TCP_CONGESTION: i32 = 13;
const CONGESTION_NAME: usize = 16;
