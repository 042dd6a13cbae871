//! Whom a datagram seems to come from: the address that the app sent to.
//!
//! # Kernel
//! `cgroup/recvmsg4,6` (5.2). Must return 1. Runs only for apps that ask for the address.

use aya_ebpf::{macros::cgroup_sock_addr, programs::SockAddrContext};
use aya_log_ebpf::debug;
use weft_abi::{ReverseKey, names::stat, socket_flags};

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
    let Some(state) = sockets::state(call.socket()) else { return PROCEED };
    let (addr, port) = (call.addr(), call.port());
    // A connected socket hears its peer alone, whatever it sent elsewhere; once it is disconnected,
    // what it was connected to means nothing.
    if state.flags & socket_flags::TRANSLATED != 0
        && state.peer.is(&addr)
        && state.peer_port == port
        && call.is_connected()
    {
        let (dialled, port) = (state.dialled, state.dialled_port);
        call.rewrite(&dialled, port);
    } else if state.flags & socket_flags::ASKS != 0 {
        let key = ReverseKey { socket: call.cookie(), addr, port, _pad: [0; 6] };
        // SAFETY: the entry is copied at once.
        match unsafe { maps::UDP_REVERSE.get(key) }.copied() {
            Some(row) => call.rewrite(&row.addr, row.port),
            None => {
                maps::count(stat::REVERSE_MISSES, 1);
                debug!(call, "a datagram from somebody who was not dialled, or was forgotten since");
            }
        }
    }
    PROCEED
}
