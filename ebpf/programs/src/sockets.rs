//! State kept with a socket.

use aya_ebpf::{
    bindings::{BPF_SK_STORAGE_GET_F_CREATE, bpf_sock},
    helpers::generated::bpf_sk_storage_get,
};
use weft_abi::{BackendKey, SocketKey, SocketState, names::stat, socket_flags};

use crate::{kernel, maps};

/// The state of a socket that has one.
#[inline(always)]
pub fn state(sk: *mut bpf_sock) -> Option<&'static mut SocketState> {
    get(sk, 0)
}

/// The state of a socket, made where there is none.
#[inline(always)]
pub fn state_or_new(sk: *mut bpf_sock) -> Option<&'static mut SocketState> {
    let state = get(sk, BPF_SK_STORAGE_GET_F_CREATE.into());
    if state.is_none() {
        maps::count(stat::SOCKETS_LOST, 1);
    }
    state
}

/// Takes a socket out of the open connections of its backend, once.
#[inline(always)]
pub fn uncount(state: &mut SocketState) {
    if state.flags & socket_flags::COUNTED != 0 {
        state.flags &= !socket_flags::COUNTED;
        kernel::add_open(state.backend, -1);
    }
}

/// Remembers which backend a UDP socket is connected to: when that goes, nothing tells the app.
#[inline(never)]
pub fn list_udp(cookie: u64, backend: u64) {
    if maps::UDP_CONNECTED.insert(SocketKey { cookie }, BackendKey { id: backend }, 0).is_err() {
        maps::count(stat::SOCKETS_LOST, 1);
    }
}

/// A UDP socket is closed, or connected elsewhere.
#[inline(always)]
pub fn unlist_udp(cookie: u64) {
    let _ = maps::UDP_CONNECTED.remove(SocketKey { cookie });
}

#[inline(always)]
fn get(sk: *mut bpf_sock, flags: u64) -> Option<&'static mut SocketState> {
    if sk.is_null() {
        return None;
    }
    let map = (&raw const maps::SOCKETS).cast_mut().cast();
    // SAFETY: `sk` is the context's socket and not null; the value, if any, is a `SocketState` that lives
    // as long as the socket, which outlives this call.
    unsafe { bpf_sk_storage_get(map, sk.cast(), core::ptr::null_mut(), flags).cast::<SocketState>().as_mut() }
}
