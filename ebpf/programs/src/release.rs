//! The last sight of a socket.
//!
//! # Kernel
//! `cgroup/sock_release` (5.9). A connection that failed before its SYN left never changes state: here
//! its backend's count is put right.

use aya_ebpf::{
    bindings::bpf_sock, helpers::generated::bpf_get_socket_cookie, macros::cgroup_sock, programs::SockContext,
};
use weft_abi::socket_flags;

use crate::{context::field, finish::PROCEED, sockets};

#[cgroup_sock(sock_release)]
pub fn weft_release(ctx: SockContext) -> i32 {
    let Some(state) = sockets::state(ctx.sock) else { return PROCEED };
    sockets::uncount(state);
    if state.flags & socket_flags::TRANSLATED != 0 && field!(ctx.sock, bpf_sock, u32, type_) == SOCK_DGRAM {
        // SAFETY: the context is the kernel's.
        sockets::unlist_udp(unsafe { bpf_get_socket_cookie(ctx.sock.cast()) });
    }
    PROCEED
}

const SOCK_DGRAM: u32 = 2;
