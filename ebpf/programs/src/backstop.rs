//! Policy behind a foreign `sk_lookup` program.
//!
//! A program that assigns a socket beats our refusal in `sk_lookup`, whatever the order. While one is
//! there, this hook drops what policy refuses; it cannot answer with a reset, so the client times out.
//!
//! Nothing but a listener's own stack says what is behind IPv6 extension headers, and that goes on as long as they do. What
//! has more of them than are looked behind here comes to no pod of this node, whatever it is: nobody sends such packets
//! (RFC 8504, section 5.3, lets a host discard them), and one could be a SYN.
//!
//! # Kernel
//! `cgroup_skb/ingress` (4.10), after fragments were put together. Only SYNs are looked at. Keyed by the destination's
//! address: the netns cookie is not to be had here before 6.15.

use aya_ebpf::{macros::cgroup_skb, programs::SkBuffContext};
use weft_abi::{Addr, BePort, Reason, TCP, names::stat};
use weft_ebpf_logic::{Admission, Arrival, Client, Denial, Tables, admit};

use crate::{events, kernel::Kernel, maps, turned};

#[cgroup_skb(ingress)]
pub fn weft_backstop(ctx: SkBuffContext) -> i32 {
    let Some(Packet { arrival, kind }) = packet(&ctx) else { return ACCEPT };
    if arrival.local.is_link_local() && turned::was(&arrival, kind == TCP) {
        return refuse(&arrival, &Client::NOBODY, &UNKNOWN_ADDRESS);
    }
    if kind == UNSEEN {
        let ours = Kernel.pod_at(&arrival.local).is_some_and(|pod| pod.netns != 0);
        return if ours { refuse(&arrival, &Client::NOBODY, &NOT_ALLOWED) } else { ACCEPT };
    }
    match admit(&Kernel, &arrival) {
        Admission::Deny(client, denial) => refuse(&arrival, &client, &denial),
        _ => ACCEPT,
    }
}

#[inline(always)]
fn refuse(arrival: &Arrival, client: &Client, denial: &Denial) -> i32 {
    maps::count(stat::DENIED_BACKSTOP, 1);
    events::refused_arrival(arrival, client, denial);
    DROP
}

/// What may be a client's first packet.
struct Packet {
    /// Without ports where they are not seen.
    arrival: Arrival,
    /// [`TCP`], or [`UNSEEN`].
    kind: u8,
}

/// The packet, where it is a first SYN, or where nobody can say whether it is one.
#[inline(always)]
fn packet(ctx: &SkBuffContext) -> Option<Packet> {
    let first: u8 = ctx.load(0).ok()?;
    let (remote, local, kind, at) = match first >> 4 {
        4 => {
            let at = usize::from(first & 0xf) * 4;
            (
                Addr::from_v4_word(ctx.load(12).ok()?),
                Addr::from_v4_word(ctx.load(16).ok()?),
                ctx.load(9).ok()?,
                at,
            )
        }
        6 => {
            let (kind, at) = behind_extensions(ctx)?;
            (Addr { words: ctx.load(8).ok()? }, Addr { words: ctx.load(24).ok()? }, kind, at)
        }
        _ => return None,
    };
    let (mut local_port, mut remote_port) = (BePort { be: 0 }, BePort { be: 0 });
    match kind {
        UNSEEN => {}
        TCP => {
            let flags: u8 = ctx.load(at + 13).ok()?;
            (flags & (SYN | ACK) == SYN).then_some(())?;
            (local_port.be, remote_port.be) = (ctx.load(at + 2).ok()?, ctx.load(at).ok()?);
        }
        _ => return None,
    }
    Some(Packet { arrival: Arrival { local, local_port, remote, remote_port, protocol: TCP }, kind })
}

/// What comes behind IPv6 extension headers, and where; [`UNSEEN`] behind more than [`MOST`] of them.
///
/// RFC 8200, section 4, and RFC 4302. A fragment's header is still there where it is the only one of its packet (RFC 6946).
#[inline(always)]
fn behind_extensions(ctx: &SkBuffContext) -> Option<(u8, usize)> {
    let mut next: u8 = ctx.load(6).ok()?;
    let mut at = 40_usize;
    for _ in 0..MOST {
        let size = match next {
            HOP_BY_HOP | ROUTING | DESTINATION => (usize::from(ctx.load::<u8>(at + 1).ok()?) + 1) * 8,
            FRAGMENT => 8,
            AUTHENTICATION => (usize::from(ctx.load::<u8>(at + 1).ok()?) + 2) * 4,
            _ => return Some((next, at)),
        };
        next = ctx.load(at).ok()?;
        at += size;
    }
    match next {
        HOP_BY_HOP | ROUTING | DESTINATION | FRAGMENT | AUTHENTICATION => Some((UNSEEN, at)),
        _ => Some((next, at)),
    }
}

const UNKNOWN_ADDRESS: Denial = Denial { reason: Reason::UNKNOWN_ADDRESS, rule: 0 };
const NOT_ALLOWED: Denial = Denial { reason: Reason::NOT_ALLOWED, rule: 0 };
const DROP: i32 = 0;
const ACCEPT: i32 = 1;
const SYN: u8 = 0x02;
const ACK: u8 = 0x10;
/// More than any stack sends.
const MOST: usize = 8;
/// No protocol's number: it is reserved.
const UNSEEN: u8 = 255;
const HOP_BY_HOP: u8 = 0;
const ROUTING: u8 = 43;
const FRAGMENT: u8 = 44;
const AUTHENTICATION: u8 = 51;
const DESTINATION: u8 = 60;
