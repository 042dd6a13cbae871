//! Reading and writing contexts.
//!
//! The verifier wants the exact width of each field, so every access is volatile and one field wide.
//! Byte orders differ by hook (ebpf docs, `bpf_sock_addr`, `bpf_sock_ops`, `bpf_sk_lookup`); here they
//! become [`Addr`] and [`BePort`] and are one from then on.

use aya_ebpf::{
    bindings::{bpf_sk_lookup, bpf_sock, bpf_sock_addr, bpf_sock_ops},
    helpers::generated::bpf_get_netns_cookie,
    programs::{SkLookupContext, SockAddrContext, SockOpsContext},
};
use weft_abi::{Addr, BePort, TCP, UDP};
use weft_ebpf_logic::Arrival;

/// Reads one field.
macro_rules! field {
    // SAFETY: `$ctx` is the context the kernel gave; the verifier checks offset and width.
    ($ctx:expr, $($path:tt)+) => { unsafe { core::ptr::read_volatile(&raw const (*$ctx).$($path)+) } };
}

/// Writes one field.
macro_rules! set_field {
    // SAFETY: as for `field`.
    ($ctx:expr, $field:ident $([$i:expr])? = $value:expr) => {
        unsafe { core::ptr::write_volatile(&raw mut (*$ctx).$field $([$i])?, $value) }
    };
}

macro_rules! words {
    ($ctx:expr, $field:ident) => {
        [field!($ctx, $field[0]), field!($ctx, $field[1]), field!($ctx, $field[2]), field!($ctx, $field[3])]
    };
}

pub(crate) use field;

/// The IP family that a hook is attached for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Family {
    /// `*4`.
    V4,
    /// `*6`; an IPv4-mapped destination comes here too, and here only.
    V6,
}

/// A `cgroup/{connect,sendmsg,recvmsg,getpeername}` call.
pub struct SockAddr {
    ctx: *mut bpf_sock_addr,
    family: Family,
}

impl SockAddr {
    #[inline(always)]
    pub fn new(ctx: &SockAddrContext, family: Family) -> Self {
        Self { ctx: ctx.sock_addr, family }
    }

    /// [`TCP`] (MPTCP included) or [`UDP`], where it is one of them.
    #[inline(always)]
    pub fn protocol(&self) -> Option<u8> {
        match (field!(self.ctx, type_), field!(self.ctx, protocol)) {
            (SOCK_STREAM, IPPROTO_TCP | IPPROTO_MPTCP) => Some(TCP),
            (SOCK_DGRAM, IPPROTO_UDP) => Some(UDP),
            _ => None,
        }
    }

    #[inline(always)]
    pub fn addr(&self) -> Addr {
        match self.family {
            Family::V4 => Addr::from_v4_word(field!(self.ctx, user_ip4)),
            Family::V6 => Addr::from_v6_words(words!(self.ctx, user_ip6)),
        }
    }

    #[inline(always)]
    pub fn port(&self) -> BePort {
        BePort { be: field!(self.ctx, user_port) as u16 }
    }

    /// Replaces the address and port; `addr` is of the family of the one that was there.
    #[inline(always)]
    pub fn rewrite(&self, addr: &Addr, port: BePort) {
        match self.family {
            Family::V4 => set_field!(self.ctx, user_ip4 = addr.v4_word()),
            Family::V6 => {
                let words = addr.v6_words();
                set_field!(self.ctx, user_ip6[0] = words[0]);
                set_field!(self.ctx, user_ip6[1] = words[1]);
                set_field!(self.ctx, user_ip6[2] = words[2]);
                set_field!(self.ctx, user_ip6[3] = words[3]);
            }
        }
        set_field!(self.ctx, user_port = u32::from(port.be));
    }

    #[inline(always)]
    pub fn netns(&self) -> u64 {
        // SAFETY: the context is the kernel's.
        unsafe { bpf_get_netns_cookie(self.ctx.cast()) }
    }

    #[inline(always)]
    pub fn cookie(&self) -> u64 {
        // SAFETY: the context is the kernel's.
        unsafe { aya_ebpf::helpers::generated::bpf_get_socket_cookie(self.ctx.cast()) }
    }

    #[inline(always)]
    pub fn socket(&self) -> *mut bpf_sock {
        field!(self.ctx, __bindgen_anon_1.sk)
    }

    /// The port the socket is bound to; 0 before it is.
    #[inline(always)]
    pub fn source_port(&self) -> BePort {
        let sk = self.socket();
        if sk.is_null() { BePort { be: 0 } } else { BePort::new(field!(sk, src_port) as u16) }
    }
}

/// A `sock_ops` call.
pub struct SockOps {
    pub ctx: *mut bpf_sock_ops,
}

impl SockOps {
    #[inline(always)]
    pub fn new(ctx: &SockOpsContext) -> Self {
        Self { ctx: ctx.ops }
    }

    #[inline(always)]
    pub fn netns(&self) -> u64 {
        // SAFETY: the context is the kernel's.
        unsafe { bpf_get_netns_cookie(self.ctx.cast()) }
    }

    #[inline(always)]
    pub fn local(&self) -> Addr {
        match field!(self.ctx, family) {
            AF_INET => Addr::from_v4_word(field!(self.ctx, local_ip4)),
            _ => Addr::from_v6_words(words!(self.ctx, local_ip6)),
        }
    }

    #[inline(always)]
    pub fn remote(&self) -> Addr {
        match field!(self.ctx, family) {
            AF_INET => Addr::from_v4_word(field!(self.ctx, remote_ip4)),
            _ => Addr::from_v6_words(words!(self.ctx, remote_ip6)),
        }
    }

    #[inline(always)]
    pub fn local_port(&self) -> BePort {
        BePort::new(field!(self.ctx, local_port) as u16)
    }

    #[inline(always)]
    pub fn remote_port(&self) -> BePort {
        let word = field!(self.ctx, remote_port).to_ne_bytes();
        // The be16 stands in the upper half of the word in memory order.
        BePort { be: u16::from_ne_bytes([word[2], word[3]]) }
    }

    #[inline(always)]
    pub fn socket(&self) -> *mut bpf_sock {
        field!(self.ctx, __bindgen_anon_2.sk)
    }
}

/// The packet of an `sk_lookup` call, where it is TCP or UDP.
#[inline(always)]
pub fn arrival(ctx: &SkLookupContext) -> Option<Arrival> {
    let ctx: *mut bpf_sk_lookup = ctx.lookup;
    let protocol = match field!(ctx, protocol) {
        IPPROTO_TCP => TCP,
        IPPROTO_UDP => UDP,
        _ => return None,
    };
    let (local, remote) = match field!(ctx, family) {
        AF_INET => (Addr::from_v4_word(field!(ctx, local_ip4)), Addr::from_v4_word(field!(ctx, remote_ip4))),
        _ => (Addr::from_v6_words(words!(ctx, local_ip6)), Addr::from_v6_words(words!(ctx, remote_ip6))),
    };
    Some(Arrival {
        local,
        local_port: BePort::new(field!(ctx, local_port) as u16),
        remote,
        remote_port: BePort { be: field!(ctx, remote_port) },
        protocol,
    })
}

const AF_INET: u32 = 2;
const SOCK_STREAM: u32 = 1;
const SOCK_DGRAM: u32 = 2;
const IPPROTO_TCP: u32 = 6;
const IPPROTO_UDP: u32 = 17;
const IPPROTO_MPTCP: u32 = 262;
