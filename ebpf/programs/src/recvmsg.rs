//! Whom a datagram seems to come from: the address that the app sent to.
//!
//! # Kernel
//! `cgroup/recvmsg4,6` (5.2). Must return 1.

use aya_ebpf::{macros::cgroup_sock_addr, programs::SockAddrContext};
use weft_abi::{ReverseKey, socket_flags};

use crate::{
    context::{Family, SockAddr},
    finish::PROCEED,
    maps, sockets,
};

#[cgroup_sock_addr(recvmsg4)]
pub fn weft_recvmsg4(ctx: SockAddrContext) -> i32 {
    receive(&SockAddr::new(&ctx, Family::V4))
}

#[cgroup_sock_addr(recvmsg6)]
pub fn weft_recvmsg6(ctx: SockAddrContext) -> i32 {
    receive(&SockAddr::new(&ctx, Family::V6))
}

#[inline(always)]
fn receive(call: &SockAddr) -> i32 {
    let (addr, port) = (call.addr(), call.port());
    let key = ReverseKey { socket: call.cookie(), addr, port, _pad: [0; 6] };
    // SAFETY: the entry is copied at once.
    if let Some(row) = unsafe { maps::UDP_REVERSE.get(key) }.copied() {
        call.rewrite(&row.addr, row.port);
        return PROCEED;
    }
    // A connected socket dialled once; its state says what.
    if let Some(state) = sockets::state(call.socket())
        && state.flags & socket_flags::TRANSLATED != 0
        && state.peer.is(&addr)
        && state.peer_port == port
    {
        let (dialled, port) = (state.dialled, state.dialled_port);
        call.rewrite(&dialled, port);
    }
    PROCEED
}
