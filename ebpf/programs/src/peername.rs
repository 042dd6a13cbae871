//! What `getpeername(2)` shows: the address that the app dialled.
//!
//! # Kernel
//! `cgroup/getpeername4,6` (5.8). Must return 1. Also runs inside `accept(2)`, where the socket has no
//! state of ours and the address stays.

use aya_ebpf::{macros::cgroup_sock_addr, programs::SockAddrContext};
use weft_abi::socket_flags;

use crate::{
    context::{Family, SockAddr},
    finish::PROCEED,
    sockets,
};

#[cgroup_sock_addr(getpeername4)]
pub fn weft_peername4(ctx: SockAddrContext) -> i32 {
    show(&SockAddr::new(&ctx, Family::V4))
}

#[cgroup_sock_addr(getpeername6)]
pub fn weft_peername6(ctx: SockAddrContext) -> i32 {
    show(&SockAddr::new(&ctx, Family::V6))
}

#[inline(always)]
fn show(call: &SockAddr) -> i32 {
    if let Some(state) = sockets::state(call.socket())
        && state.flags & socket_flags::TRANSLATED != 0
        && state.peer.is(&call.addr())
        && state.peer_port == call.port()
    {
        let (dialled, port) = (state.dialled, state.dialled_port);
        call.rewrite(&dialled, port);
    }
    PROCEED
}
