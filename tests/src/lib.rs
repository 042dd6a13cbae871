//! End-to-end and conformance tests on the real kernel.
//!
//! Owns: [`World`], a private network of pods on nodes, each with a real network namespace, a real
//! cgroup and, where a test asks for it, the real agent. Must not know: how the agent does its work.
//!
//! ```text
//! World ─── fabric: one namespace with a bridge, apart from the machine's own network
//!   ├── Node "a": cgroup, manifests, run-dir ── Agent (`weft agent`)
//!   │     ├── Pod shop/web: netns + veth, cgroup ── sockets, servers, commands
//!   │     └── Pod shop/api
//!   └── Node "b" ...
//! ```
//!
//! Everything a world makes is named `weft-test-<pid>-<n>...`. It goes when the world is dropped, also
//! by a panic; a janitor process does it when the test process itself is ended.

mod agent;
mod cgroup;
mod command;
pub mod conformance;
mod eventually;
mod fabric;
pub mod foreign;
pub mod helper;
mod http;
mod kernel;
mod load;
pub mod manifests;
mod memory;
mod node;
mod observe;
pub mod packet;
mod pod;
mod polled;
mod rate;
mod rush;
mod serve;
mod suspended;
mod sweep;
mod tokens;
mod traces;
pub mod wire;
mod world;

pub use agent::Agent;
pub use command::{private, text, weft};
pub use eventually::{eventually, soon, throughout};
pub use http::{Answer, HttpClient, Seen};
pub use kernel::{kernel, slowness};
pub use load::{Tally, while_connecting};
pub use memory::{MemoryGroup, top_of_memory};
pub use node::Node;
pub use pod::{Pod, PodBuilder, PodManifest, Running, SocketRequest};
pub use polled::Polled;
pub use rate::at_a_rate;
pub use rush::{Rush, Rushed};
pub use serve::Server;
pub use suspended::Suspended;
pub use tokens::TokenKey;
pub use world::World;
