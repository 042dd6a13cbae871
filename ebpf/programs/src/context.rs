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

/// Reads one field: `field!(ctx: bpf_sock_ops, u32, op)`.
///
/// In assembly, because the compiler merges equal loads of two branches into one behind a computed
/// pointer, and the verifier refuses any pointer to a context that was computed.
macro_rules! field {
    ($ctx:expr, $of:ty, $width:ty, $field:ident $(. $inner:ident)* $([$i:literal])?) => {{
        const AT: usize = core::mem::offset_of!($of, $field $(. $inner)*) $(+ $i * size_of::<$width>())?;
        let from: *const $of = $ctx;
        // SAFETY: the context, or a socket of it, is the kernel's; the verifier checks offset and width.
        unsafe { <$width as crate::context::Load>::load::<AT>(from.cast()) }
    }};
}

/// Writes one field of four bytes.
macro_rules! set_field {
    ($ctx:expr, $of:ty, $field:ident $([$i:literal])? = $value:expr) => {{
        const AT: usize = core::mem::offset_of!($of, $field) $(+ $i * 4)?;
        let value: u32 = $value;
        // SAFETY: as for `field`.
        unsafe {
            core::arch::asm!(
                "*(u32 *)({to} + {at}) = {value}",
                to = in(reg) $ctx, at = const AT, value = in(reg) u64::from(value), options(nostack)
            );
        }
    }};
}

macro_rules! words {
    ($ctx:expr, $of:ty, $field:ident) => {
        [
            field!($ctx, $of, u32, $field[0]),
            field!($ctx, $of, u32, $field[1]),
            field!($ctx, $of, u32, $field[2]),
            field!($ctx, $of, u32, $field[3]),
        ]
    };
}

pub(crate) use field;

/// A width that a context's field may have.
pub trait Load: Sized {
    /// Loads from `AT` bytes behind `from`.
    ///
    /// # Safety
    /// `from` is a context or socket of the kernel.
    unsafe fn load<const AT: usize>(from: *const u8) -> Self;
}

macro_rules! load {
    ($width:ty, $asm:literal) => {
        impl Load for $width {
            #[inline(always)]
            unsafe fn load<const AT: usize>(from: *const u8) -> Self {
                let word: u64;
                // SAFETY: the caller's promise.
                unsafe {
                    core::arch::asm!(
                        $asm, word = out(reg) word, from = in(reg) from, at = const AT, options(nostack, readonly)
                    );
                }
                word as $width
            }
        }
    };
}
load!(u16, "{word} = *(u16 *)({from} + {at})");
load!(u32, "{word} = *(u32 *)({from} + {at})");
load!(u64, "{word} = *(u64 *)({from} + {at})");

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
        match (field!(self.ctx, bpf_sock_addr, u32, type_), field!(self.ctx, bpf_sock_addr, u32, protocol)) {
            (SOCK_STREAM, IPPROTO_TCP | IPPROTO_MPTCP) => Some(TCP),
            (SOCK_DGRAM, IPPROTO_UDP) => Some(UDP),
            _ => None,
        }
    }

    #[inline(always)]
    pub fn addr(&self) -> Addr {
        match self.family {
            Family::V4 => Addr::from_v4_word(field!(self.ctx, bpf_sock_addr, u32, user_ip4)),
            Family::V6 => Addr::from_v6_words(words!(self.ctx, bpf_sock_addr, user_ip6)),
        }
    }

    #[inline(always)]
    pub fn port(&self) -> BePort {
        BePort { be: field!(self.ctx, bpf_sock_addr, u32, user_port) as u16 }
    }

    /// Replaces the address and port; `addr` is of the family of the one that was there.
    #[inline(always)]
    pub fn rewrite(&self, addr: &Addr, port: BePort) {
        match self.family {
            Family::V4 => set_field!(self.ctx, bpf_sock_addr, user_ip4 = addr.v4_word()),
            Family::V6 => {
                let words = addr.v6_words();
                set_field!(self.ctx, bpf_sock_addr, user_ip6[0] = words[0]);
                set_field!(self.ctx, bpf_sock_addr, user_ip6[1] = words[1]);
                set_field!(self.ctx, bpf_sock_addr, user_ip6[2] = words[2]);
                set_field!(self.ctx, bpf_sock_addr, user_ip6[3] = words[3]);
            }
        }
        set_field!(self.ctx, bpf_sock_addr, user_port = u32::from(port.be));
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
        field!(self.ctx, bpf_sock_addr, u64, __bindgen_anon_1.sk) as *mut bpf_sock
    }

    /// Whether a UDP socket has a peer.
    #[inline(always)]
    pub fn is_connected(&self) -> bool {
        let sk = self.socket();
        !sk.is_null() && field!(sk, bpf_sock, u32, state) == TCP_ESTABLISHED
    }

    /// The port the socket is bound to; 0 before it is.
    #[inline(always)]
    pub fn source_port(&self) -> BePort {
        let sk = self.socket();
        if sk.is_null() { BePort { be: 0 } } else { BePort::new(field!(sk, bpf_sock, u32, src_port) as u16) }
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
        match field!(self.ctx, bpf_sock_ops, u32, family) {
            AF_INET => Addr::from_v4_word(field!(self.ctx, bpf_sock_ops, u32, local_ip4)),
            _ => Addr::from_v6_words(words!(self.ctx, bpf_sock_ops, local_ip6)),
        }
    }

    #[inline(always)]
    pub fn remote(&self) -> Addr {
        match field!(self.ctx, bpf_sock_ops, u32, family) {
            AF_INET => Addr::from_v4_word(field!(self.ctx, bpf_sock_ops, u32, remote_ip4)),
            _ => Addr::from_v6_words(words!(self.ctx, bpf_sock_ops, remote_ip6)),
        }
    }

    #[inline(always)]
    pub fn local_port(&self) -> BePort {
        BePort::new(field!(self.ctx, bpf_sock_ops, u32, local_port) as u16)
    }

    #[inline(always)]
    pub fn remote_port(&self) -> BePort {
        let word = field!(self.ctx, bpf_sock_ops, u32, remote_port).to_ne_bytes();
        // The be16 stands in the upper half of the word in memory order.
        BePort { be: u16::from_ne_bytes([word[2], word[3]]) }
    }

    #[inline(always)]
    pub fn socket(&self) -> *mut bpf_sock {
        field!(self.ctx, bpf_sock_ops, u64, __bindgen_anon_2.sk) as *mut bpf_sock
    }
}

/// The packet of an `sk_lookup` call, where it is TCP or UDP.
#[inline(always)]
pub fn arrival(ctx: &SkLookupContext) -> Option<Arrival> {
    let ctx: *mut bpf_sk_lookup = ctx.lookup;
    let protocol = match field!(ctx, bpf_sk_lookup, u32, protocol) {
        IPPROTO_TCP => TCP,
        IPPROTO_UDP => UDP,
        _ => return None,
    };
    let (local, remote) = match field!(ctx, bpf_sk_lookup, u32, family) {
        AF_INET => (
            Addr::from_v4_word(field!(ctx, bpf_sk_lookup, u32, local_ip4)),
            Addr::from_v4_word(field!(ctx, bpf_sk_lookup, u32, remote_ip4)),
        ),
        _ => (
            Addr::from_v6_words(words!(ctx, bpf_sk_lookup, local_ip6)),
            Addr::from_v6_words(words!(ctx, bpf_sk_lookup, remote_ip6)),
        ),
    };
    Some(Arrival {
        local,
        local_port: BePort::new(field!(ctx, bpf_sk_lookup, u32, local_port) as u16),
        remote,
        remote_port: BePort { be: field!(ctx, bpf_sk_lookup, u16, remote_port) },
        protocol,
    })
}

const AF_INET: u32 = 2;
const SOCK_STREAM: u32 = 1;
const SOCK_DGRAM: u32 = 2;
/// `enum tcp_state`, which UDP sockets have too.
const TCP_ESTABLISHED: u32 = 1;
const IPPROTO_TCP: u32 = 6;
const IPPROTO_UDP: u32 = 17;
const IPPROTO_MPTCP: u32 = 262;
