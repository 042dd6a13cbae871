//! Policy behind a foreign `sk_lookup` program.
//!
//! A program that assigns a socket beats our refusal in `sk_lookup`, whatever the order. While one is
//! there, this hook drops what policy refuses; it cannot answer with a reset, so the client times out.
//!
//! # Kernel
//! `cgroup_skb/ingress` (4.10). Only SYNs are looked at. Keyed by the destination's address: the netns
//! cookie is not to be had here before 6.15.

use aya_ebpf::{macros::cgroup_skb, programs::SkBuffContext};
use weft_abi::{Addr, BePort, TCP, names::stat};
use weft_ebpf_logic::{Admission, Arrival, admit};

use crate::{events, kernel::Kernel, maps};

#[cgroup_skb(ingress)]
pub fn weft_backstop(ctx: SkBuffContext) -> i32 {
    let Some(arrival) = syn(&ctx) else { return ACCEPT };
    match admit(&Kernel, &arrival) {
        Admission::Deny(client, denial) => {
            maps::count(stat::DENIED_BACKSTOP, 1);
            events::refused_arrival(&arrival, &client, &denial);
            DROP
        }
        _ => ACCEPT,
    }
}

/// The packet, where it is a first SYN.
#[inline(always)]
fn syn(ctx: &SkBuffContext) -> Option<Arrival> {
    let first: u8 = ctx.load(0).ok()?;
    let (remote, local, at) = match first >> 4 {
        4 => {
            let protocol: u8 = ctx.load(9).ok()?;
            let at = usize::from(first & 0xf) * 4;
            (protocol == TCP).then_some(())?;
            (Addr::from_v4_word(ctx.load(12).ok()?), Addr::from_v4_word(ctx.load(16).ok()?), at)
        }
        6 => {
            let at = after_extensions(ctx)?;
            (Addr { words: ctx.load(8).ok()? }, Addr { words: ctx.load(24).ok()? }, at)
        }
        _ => return None,
    };
    let flags: u8 = ctx.load(at + 13).ok()?;
    (flags & (SYN | ACK) == SYN).then_some(())?;
    Some(Arrival {
        local,
        local_port: BePort { be: ctx.load(at + 2).ok()? },
        remote,
        remote_port: BePort { be: ctx.load(at).ok()? },
        protocol: TCP,
    })
}

/// Where TCP begins behind at most four IPv6 extension headers (RFC 8200, section 4).
#[inline(always)]
fn after_extensions(ctx: &SkBuffContext) -> Option<usize> {
    let mut next: u8 = ctx.load(6).ok()?;
    let mut at = 40_usize;
    for _ in 0..4 {
        match next {
            TCP => return Some(at),
            0 | 43 | 60 => {
                next = ctx.load(at).ok()?;
                at += (usize::from(ctx.load::<u8>(at + 1).ok()?) + 1) * 8;
            }
            _ => return None,
        }
    }
    (next == TCP).then_some(at)
}

const DROP: i32 = 0;
const ACCEPT: i32 = 1;
const SYN: u8 = 0x02;
const ACK: u8 = 0x10;
