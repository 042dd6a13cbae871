//! The eBPF programs: hooks and maps, one file per attach point.
//!
//! Owns: reading contexts, calling helpers, what a verdict returns. Must not know: why. Every decision
//! is in `weft-ebpf-logic`; a hook reads its context, asks, and [`finish`]es.
//!
//! ```text
//! cgroup  connect  sendmsg ──► logic::dial  ──► rewrite | refuse
//!         recvmsg  peername ─► the address the app dialled
//!         sock_ops release ──► attestation, events, counters
//! sockmap sk_msg ────────────► logic::decide ► the peer's socket | TCP
//! netns   sk_lookup ─────────► logic::admit ──► pass | reset   (backstop: the same, per SYN)
//! ```
#![no_std]
#![no_main]
#![expect(
    internal_features,
    reason = "the target has no compare-and-swap, so core hides its atomics; adding is one instruction"
)]
#![feature(asm_experimental_arch, core_intrinsics)]
#![expect(unreachable_pub, reason = "a binary: `pub` marks what its other files use")]
#![expect(unsafe_code, reason = "contexts and map values are raw pointers; the verifier checks every access")]

mod attested;
mod backstop;
mod connect;
mod context;
mod events;
mod finish;
mod global;
mod kernel;
mod maps;
mod mptcp;
mod origins;
mod pairs;
mod peername;
mod recvmsg;
mod release;
mod sendmsg;
mod sk_lookup;
mod sk_msg;
mod sock_ops;
mod sockets;
mod tcp;
mod turned;

/// The programs call GPL-only helpers; the rest of weft is Apache-2.0.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    // No path leads here: the verifier would refuse the loop.
    loop {}
}
