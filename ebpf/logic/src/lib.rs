//! The hooks' decisions as pure functions over [`Tables`].
//!
//! Owns: what a hook decides (where a dial goes, who may come in, which backend, which bytes count).
//! Must not know: helpers, contexts, maps. The same code runs in the kernel, where [`Tables`] are BPF
//! maps, and on the host, where tests give it tables in memory.
//!
//! ```text
//! connect, sendmsg ──► dial ──► balance
//!                        └────► policy ◄──── admit ◄── sk_lookup, backstop
//!                        └────► mtls ◄──────┘
//! sk_msg ──────────► latch
//! ```
#![no_std]
#![forbid(unsafe_code)]

#[cfg(test)]
extern crate std;

mod admit;
mod balance;
mod dial;
mod grant;
mod latch;
mod mtls;
mod policy;
mod tables;
#[cfg(test)]
mod testing;

pub use admit::{Admission, Arrival, Client, admit, is_backdoor};
pub use balance::{Caller, pick};
pub use dial::{Destination, Dial, Outcome, Verdict, dial, is_proxy};
pub use grant::{allowed, grant};
pub use latch::{App, Message, Way, decide, may_redirect, take_back};
pub use mtls::{is_captured, is_read};
pub use policy::{Denial, Request, Ruling, authorize};
pub use tables::Tables;
