//! The last sight of a socket.
//!
//! # Kernel
//! `cgroup/sock_release` (5.9). A connection that failed before its SYN left never changes state: here
//! its backend's count is put right.

use aya_ebpf::{macros::cgroup_sock, programs::SockContext};

use crate::{finish::PROCEED, sockets};

#[cgroup_sock(sock_release)]
pub fn weft_release(ctx: SockContext) -> i32 {
    if let Some(state) = sockets::state(ctx.sock) {
        sockets::uncount(state);
    }
    PROCEED
}
