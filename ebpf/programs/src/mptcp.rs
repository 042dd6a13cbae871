//! MPTCP: the socket that connects is not the one that the app has.
//!
//! # Kernel
//! The connect hook sees the first subflow, `getpeername` the app's socket. `bpf_skc_to_mptcp_sock`
//! (5.19) leads from one to the other.

use aya_ebpf::{bindings::bpf_sock, helpers::generated::bpf_skc_to_mptcp_sock};
use weft_abi::{SocketState, socket_flags};

use crate::{sockets, tcp::global};

/// 1 where the kernel has MPTCP and the helper.
#[unsafe(no_mangle)]
static WEFT_HAS_MPTCP: u64 = 0;

/// The app's socket shows what its subflow dialled.
#[inline(always)]
pub fn show(subflow: *mut bpf_sock, dialled: &SocketState) {
    if let Some(app) = app_socket(subflow)
        && let Some(state) = sockets::state_or_new(app)
    {
        state.dialled = dialled.dialled;
        state.dialled_port = dialled.dialled_port;
        state.peer = dialled.peer;
        state.peer_port = dialled.peer_port;
        state.flags = socket_flags::TRANSLATED;
    }
}

/// The app's socket shows the address that its subflow is connected to.
#[inline(always)]
pub fn forget(subflow: *mut bpf_sock) {
    if let Some(app) = app_socket(subflow)
        && let Some(state) = sockets::state(app)
    {
        state.flags = 0;
    }
}

#[inline(always)]
fn app_socket(subflow: *mut bpf_sock) -> Option<*mut bpf_sock> {
    // Where it is 0, the verifier never sees the helper, which the kernel may not have.
    if global(&raw const WEFT_HAS_MPTCP) == 0 || subflow.is_null() {
        return None;
    }
    // SAFETY: the context's socket, not null; the answer is null or the socket that owns the subflow.
    let app: *mut bpf_sock = unsafe { bpf_skc_to_mptcp_sock(subflow.cast()) }.cast();
    (!app.is_null()).then_some(app)
}
