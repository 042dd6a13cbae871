//! What a person's commands show: one file for each verb.
//!
//! Owns: asking an agent over its unix socket, tables, exit codes. Must not know: the kernel, how an
//! answer comes about; everything shown is a type of [`weft_telemetry::api`].
//!
//! ```text
//! Verb (clap) ──► Agents ──► Client, of each ──► agent.sock ─────────────────┐
//!                                          └──► its pod, by the API server ──┴► api types ──► table | json | yaml ──► Screen
//! ```
#![forbid(unsafe_code)]

mod agents;
mod analyze;
mod ask;
mod authz;
mod bpf;
pub mod ca;
pub mod check;
mod client;
mod controllers;
mod describe;
mod diagnose;

mod error;
mod exit;
mod explain;
mod flow;
mod get;
pub mod install;
mod log;
mod merge;
mod observe;
mod output;
mod peers;
mod probe;
mod problem;
pub mod proxy;
mod screen;
mod stat;
mod status;
mod table;
mod top;
mod traffic;
pub mod tunnel;
mod uninstall;
mod units;
mod verb;
mod way;

pub use ask::Whom;
pub(crate) use client::Client;
pub use error::Error;
pub use exit::Exit;
pub use output::Format;
pub use screen::Screen;
pub use status::duration;
pub use verb::Verb;
