//! Same-node acceleration: a message that an app sends goes straight into its peer's socket.
//!
//! The latch that decides is `weft_ebpf_logic::decide`. This hook cannot look up its peer's socket, so the
//! pair's row says whether it is there, and where the kernel counts what its app has not read yet.
//!
//! # Kernel
//! `sk_msg` (4.17) with `bpf_sk_storage_get` (5.8), in the app's context under the lock of its socket.
//! `bpf_msg_redirect_hash` with `BPF_F_INGRESS` queues without a limit: the budget is ours. Its fixes of
//! 6.18.14 are needed, so the loader does not attach this before.

use aya_ebpf::{
    bindings::{BPF_F_INGRESS, bpf_sock, sk_msg_md},
    macros::sk_msg,
    programs::SkMsgContext,
};
use weft_abi::{PairEnd, SocketState, latch, names::stat, side};
use weft_ebpf_logic::{App, Message, Tables, Way, decide, take_back};

use crate::{
    context::field,
    kernel::Kernel,
    maps, pairs, sockets,
    tcp::{self, Tcp},
};

#[sk_msg]
pub fn weft_sk_msg(ctx: SkMsgContext) -> u32 {
    let sk = field!(ctx.msg, sk_msg_md, u64, __bindgen_anon_3.sk) as *mut bpf_sock;
    if let Some(state) = sockets::state(sk)
        && state.latch < latch::NATIVE
    {
        send(&ctx, sk, state);
    }
    SK_PASS
}

#[inline(always)]
fn send(ctx: &SkMsgContext, sk: *mut bpf_sock, state: &mut SocketState) {
    let size = field!(ctx.msg, sk_msg_md, u32, size);
    let Some(config) = Kernel.config() else { return };
    let side = state.side;
    let mut row = pairs::row(state.pair);
    let undecided = state.latch == latch::UNDECIDED;
    if undecided && let Some(row) = &mut row {
        pairs::begin(row, side);
    }
    // Read after the beginning is known to the other end.
    let to = row.as_ref().map_or(0, |row| if side == side::CLIENT { row.sockets[1] } else { row.sockets[0] });
    let unread = if to == 0 { 0 } else { tcp::unread(to) };
    let untouched = Tcp::of(sk).is_some_and(|tcp| tcp.is_untouched());
    let priority = field!(sk, bpf_sock, u32, priority);
    let blocks = match App::of(state.flags) {
        App::Sender => Tcp::of(sk).is_some_and(|tcp| tcp::blocks(tcp.address())),
        App::Peer => to != 0 && tcp::blocks(to),
        App::Both => false,
    };
    let message = Message { size, peer: to != 0, untouched, unread, priority, blocks };
    let way = decide(state, config, &message);
    let moved = match way {
        Way::First => Some(stat::LATCH_REDIRECT),
        Way::Never => Some(stat::LATCH_NATIVE),
        Way::Leave => Some(stat::LATCH_LEFT),
        Way::Redirect | Way::Native => None,
    };
    if let Some(moved) = moved {
        maps::count(moved, 1);
    }
    if !way.redirects() {
        if let Some(row) = row {
            if undecided {
                pairs::never_began(row, side);
            }
            pairs::has_left(row, side);
        }
        return;
    }
    if redirect(ctx, pairs::peer(state), row.as_ref().is_some_and(|row| pairs::only_reads(row, side))) {
        maps::count(stat::BYTES_REDIRECTED, size.into());
        if let Some(row) = row {
            state.arrived = pairs::arrived(row, side);
            // Under the lock of this end's socket: nobody else writes this field.
            let redirected =
                if side == side::CLIENT { &mut row.redirected[0] } else { &mut row.redirected[1] };
            *redirected += u64::from(size);
        }
    } else {
        take_back(state, &message);
        maps::count(stat::LATCH_LEFT, 1);
        if let Some(row) = row {
            pairs::has_left(row, side);
        }
    }
}

/// Whether the message goes into the socket at `to`. When that is not in the map (any more), the kernel's
/// answer would be EACCES to the app; TCP's is right.
#[inline(always)]
fn redirect(ctx: &SkMsgContext, to: PairEnd, only_reads: bool) -> bool {
    let into = BPF_F_INGRESS.into();
    let verdict = if only_reads {
        maps::PAIR_READERS.redirect_msg(ctx, to, into)
    } else {
        maps::PAIR_SOCKETS.redirect_msg(ctx, to, into)
    };
    verdict == i64::from(SK_PASS)
}

const SK_PASS: u32 = 1;
