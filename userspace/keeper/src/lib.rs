//! The agent's half of the node proxy: keeps one running, and lends it the pods' listeners.
//!
//! Owns: the pods' listeners, the proxy's cgroup, process and generations, and how a proxy process begins
//! ([`enter`]) and ends ([`cleanup`]). Must not know: aya, Kubernetes, TLS, HTTP, what is in a configuration.
//!
//! ```text
//! pods, configuration ──► Keeper ──► Wishes ──► a session for each proxy ──► handover ──► proxy
//!                            │ ▲                     │ answers
//!        Ports::outbound ◄───┘ └── Event ◄───────────┴── a process ended
//! ```
//!
//! Nothing here is a step that must not be missed: after every event the keeper compares what there is with
//! what should be, and each session compares what its proxy has with what it should have. So an agent that
//! was killed at any point goes on from what it finds.
#![forbid(unsafe_code)]

mod cleanup;
mod counting;
mod enter;
mod error;
mod event;
mod generations;
mod given;
mod group;
mod inputs;
mod keeper;
mod legacy;
mod living;
mod log;
mod pods;
mod privileges;
mod process;
mod run;
mod session;
mod status;
mod strangers;
mod tellers;
mod transparent;
mod upgrade;
mod wishes;
mod withdrawn;

pub use cleanup::{cleanup, dismiss, is_left};
pub use enter::{Entered, enter};
pub use error::Error;
pub use inputs::{Configuration, Identities, Inputs, LocalPod, Maps, Ports, Program, Records, Settings};
pub use keeper::Keeper;
pub use run::DRAIN;
