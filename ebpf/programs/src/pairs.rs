//! Pairs for same-node acceleration: how two sockets find each other.
//!
//! The client's socket names the pair when it dials, in the attestation that the server's socket finds.
//! The pair's row is the client's: it comes when the client has joined and goes when the client closes.
//! Sockets leave `weft_pair_sock` by closing or dialling anew: taking a live one out would lose what it has
//! not read.
//!
//! # Kernel
//! `bpf_sock_hash_update` (4.18) refuses a socket that another tool has in a map with a program of its
//! own (EBUSY), and one with an upper layer protocol such as MPTCP or kTLS (EINVAL).

use aya_ebpf::{bindings::BPF_NOEXIST, helpers::generated::{bpf_get_socket_cookie, bpf_map_delete_elem}};
use weft_abi::{Pair, PairEnd, PairKey, PodRow, SocketState, config_flags, names::stat, side, socket_flags};
use weft_ebpf_logic::Tables;

use crate::{context::SockOps, kernel::Kernel, maps, sockets, tcp::Tcp};

/// A socket that was disconnected (`AF_UNSPEC`) dials again: the kernel left it in the map, with what it
/// had not read of its last connection. TCP forgets that, and so does this.
///
/// # Kernel
/// Deleting is open to `sock_ops`; sockmap has no hook on disconnect since b8b8315e39ff (5.14).
#[inline(always)]
pub fn forget(call: &SockOps) {
    if let Some(state) = sockets::state(call.socket())
        && state.pair != 0
    {
        leave(PairEnd { id: state.pair, side: state.side, _pad: 0 });
    }
}

/// The id of the pair that a dialling socket wants to form, or 0.
#[inline(always)]
pub fn wanted(call: &SockOps, state: &mut SocketState, server: Option<&PodRow>) -> u64 {
    state.flags &= !socket_flags::PAIRED;
    (state.latch, state.redirected, state.arrived, state.messages) = (0, 0, 0, 0);
    let elsewhere = server.is_some_and(|pod| pod.netns != 0 && pod.netns != state.netns);
    if state.flags & socket_flags::ACCELERATE == 0 || !elsewhere || !is_on() {
        return 0;
    }
    // SAFETY: the context is the kernel's.
    let cookie = unsafe { bpf_get_socket_cookie(call.ctx.cast()) };
    // A socket that dials again must not meet the server's socket of its last connection.
    let times = if state.pair >> TIMES_BITS == cookie { (state.pair + 1) & TIMES } else { 1 };
    state.pair = cookie << TIMES_BITS | times;
    state.pair
}

/// The client's socket is established: it joins, and lets the server's join.
#[inline(always)]
pub fn open(call: &SockOps, state: &mut SocketState) {
    let Some(socket) = join(call, state, side::CLIENT) else { return };
    let row = Pair { sockets: [socket, 0], ..Pair::zeroed() };
    if maps::PAIRS.insert(PairKey { id: state.pair }, row, 0).is_err() {
        maps::count(stat::PAIR_BUSY, 1);
    }
}

/// The server's socket is established.
#[inline(always)]
pub fn accept(call: &SockOps, state: &mut SocketState, pair: u64) {
    state.pair = pair;
    if row(pair).is_none() {
        return;
    }
    if let Some(socket) = join(call, state, side::SERVER)
        && let Some(row) = row(pair)
    {
        // Last: who sees it finds the socket in the map.
        row.sockets[1] = socket;
    }
}

/// The socket is closed: reads what it still has to report, and removes the row if it is its own.
#[inline(always)]
pub fn close(state: &mut SocketState) {
    if state.flags & socket_flags::PAIRED == 0 {
        return;
    }
    state.flags &= !socket_flags::PAIRED;
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

/// Puts a socket into the map, and says where it is in memory.
#[inline(always)]
fn join(call: &SockOps, state: &mut SocketState, side: u32) -> Option<u64> {
    if state.pair == 0 || !is_on() {
        return None;
    }
    let socket = Tcp::of(call.socket())?.address();
    state.side = side;
    let key = PairEnd { id: state.pair, side, _pad: 0 };
    // SAFETY: the context is the kernel's.
    if maps::PAIR_SOCKETS.update(key, unsafe { &mut *call.ctx }, BPF_NOEXIST.into()).is_err() {
        maps::count(stat::PAIR_BUSY, 1);
        return None;
    }
    state.flags |= socket_flags::PAIRED;
    Some(socket)
}

#[inline(always)]
fn leave(mut end: PairEnd) {
    let map = (&raw const maps::PAIR_SOCKETS).cast_mut().cast();
    // SAFETY: the map and a key of its type.
    unsafe { bpf_map_delete_elem(map, (&raw mut end).cast()) };
}

#[inline(always)]
fn is_on() -> bool {
    Kernel.config().is_some_and(|config| config.flags & config_flags::ACCELERATE != 0)
}

const TIMES_BITS: u32 = 16;
const TIMES: u64 = (1 << TIMES_BITS) - 1;
