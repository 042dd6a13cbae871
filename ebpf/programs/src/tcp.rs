//! What no context shows of a TCP socket, read where this kernel's BTF says.

use aya_ebpf::{
    bindings::bpf_sock,
    helpers::generated::{bpf_probe_read_kernel, bpf_skc_to_tcp_sock},
};

/// Offsets in this kernel's `tcp_sock`; 0 where they are not known.
#[unsafe(no_mangle)]
static WEFT_BYTES_SENT_AT: u64 = 0;
/// Offset of `bytes_retrans`.
#[unsafe(no_mangle)]
static WEFT_BYTES_RETRANS_AT: u64 = 0;
/// Offset of `write_seq`.
#[unsafe(no_mangle)]
static WEFT_WRITE_SEQ_AT: u64 = 0;
/// Offset of `snd_nxt`.
#[unsafe(no_mangle)]
static WEFT_SND_NXT_AT: u64 = 0;
/// Offset of `icsk_ulp_ops`.
#[unsafe(no_mangle)]
static WEFT_ULP_AT: u64 = 0;
/// Offset of `sk_backlog`, whose first field counts the bytes that wait to be read.
#[unsafe(no_mangle)]
static WEFT_SK_BACKLOG_AT: u64 = 0;
/// Offset of `skc_flags`, whose bit 1 (`SOCK_DONE`) says that a FIN came in.
#[unsafe(no_mangle)]
static WEFT_SK_FLAGS_AT: u64 = 0;

/// Offset of `sk_socket`, which is null until the app has accepted.
#[unsafe(no_mangle)]
static WEFT_SK_SOCKET_AT: u64 = 0;
/// Offset of `file` in `struct socket`.
#[unsafe(no_mangle)]
static WEFT_SOCKET_FILE_AT: u64 = 0;
/// Offset of `f_flags` in `struct file`.
#[unsafe(no_mangle)]
static WEFT_FILE_FLAGS_AT: u64 = 0;

/// A TCP socket of the kernel's.
pub struct Tcp {
    base: *const u8,
}

impl Tcp {
    /// `sk` as a TCP socket; `None` where this kernel's layout is not known.
    #[inline(always)]
    pub fn of(sk: *mut bpf_sock) -> Option<Self> {
        if sk.is_null() || global(&raw const WEFT_BYTES_SENT_AT) == 0 {
            return None;
        }
        // SAFETY: `sk` is the context's socket and not null.
        let base = unsafe { bpf_skc_to_tcp_sock(sk.cast()) } as *const u8;
        (!base.is_null()).then_some(Self { base })
    }

    /// Payload bytes sent, each once.
    #[inline(always)]
    pub fn sent(&self) -> u64 {
        let again = self.word(&raw const WEFT_BYTES_RETRANS_AT);
        self.word(&raw const WEFT_BYTES_SENT_AT).wrapping_sub(again)
    }

    /// Whether a FIN came in.
    #[inline(always)]
    pub fn is_done(&self) -> bool {
        self.word(&raw const WEFT_SK_FLAGS_AT) & SOCK_DONE != 0
    }

    /// Whether no payload was ever handed to this socket, and no other protocol (kTLS) sits on it.
    #[inline(always)]
    pub fn is_untouched(&self) -> bool {
        let written = self.word(&raw const WEFT_WRITE_SEQ_AT) as u32;
        self.word(&raw const WEFT_BYTES_SENT_AT) == 0
            && written == self.word(&raw const WEFT_SND_NXT_AT) as u32
            && self.word(&raw const WEFT_ULP_AT) == 0
    }

    /// Where it is in the kernel's memory, to be [`unread`] from another socket's hook.
    #[inline(always)]
    pub fn address(&self) -> u64 {
        self.base as u64
    }

    #[inline(always)]
    fn word(&self, offset: *const u64) -> u64 {
        word_at(self.base.wrapping_add(global(offset) as usize))
    }
}

/// Bytes that wait to be read in the socket at `address` (`sk_rmem_alloc`).
///
/// The socket may have gone meanwhile: then the number means nothing, and the socket is in no map either.
///
/// # Kernel
/// What is redirected is counted since 54f89b3178d5 (6.13).
#[inline(always)]
pub fn unread(address: u64) -> u32 {
    word_at((address + global(&raw const WEFT_SK_BACKLOG_AT)) as *const u8) as u32
}

/// Whether calls on the socket at `address` wait (no `O_NONBLOCK`), as far as that is known: nobody has accepted a
/// server's socket at first.
///
/// The socket may have gone meanwhile: see [`unread`].
#[inline(always)]
pub fn blocks(address: u64) -> bool {
    let socket = word_at((address + global(&raw const WEFT_SK_SOCKET_AT)) as *const u8);
    if socket == 0 {
        return false;
    }
    let file = word_at((socket + global(&raw const WEFT_SOCKET_FILE_AT)) as *const u8);
    file != 0 && word_at((file + global(&raw const WEFT_FILE_FLAGS_AT)) as *const u8) & O_NONBLOCK == 0
}

#[inline(always)]
fn word_at(from: *const u8) -> u64 {
    let mut word = 0_u64;
    // SAFETY: a probe read never faults; the result is 0 when the address is bad.
    unsafe { bpf_probe_read_kernel((&raw mut word).cast(), 8, from.cast()) };
    word
}

/// Reads a constant that the loader fills in.
#[inline(always)]
pub fn global(global: *const u64) -> u64 {
    // SAFETY: a static; volatile, for the loader replaces the value that the compiler knows.
    unsafe { core::ptr::read_volatile(global) }
}

const SOCK_DONE: u64 = 1 << 1;
const O_NONBLOCK: u64 = 0o4000;
