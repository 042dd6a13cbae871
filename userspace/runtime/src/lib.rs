//! How weft's processes live: named tasks, an orderly end, patience between tries.
//!
//! Owns: [`Tasks`] (every task of weft is spawned there), [`Shutdown`], [`Backoff`]. Must not know:
//! what the tasks do.
//!
//! ```text
//! SIGTERM ──► Shutdown ──► Tasks::stop ──► each task sees its token ──► Tasks::drain(deadline)
//!                               ▲
//! a task fails or panics ───────┘ (reported with its name)
//! ```
#![forbid(unsafe_code)]

mod backoff;
mod shutdown;
mod tasks;

pub use backoff::{Backoff, fraction};
pub use shutdown::Shutdown;
pub use tasks::{Cause, Ended, Stop, Tasks};
