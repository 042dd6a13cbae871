//! What `weft controller` does: what a mesh on Kubernetes needs once, and not on each node.
//!
//! Owns: who leads, what agents may ask of it, and what it writes to the API server. Must not know: how the API server is
//! spoken to (`weft-kubernetes`), how certificates are made (`weft-identity`), the kernel, connections.
//!
//! ```text
//! API server ──► ClusterSource ──► Snapshot ──┐
//!                                             ├──► what is done for the mesh ──► API server
//! agents, over HTTPS, as whom a token says ───┘
//! ```
//!
//! Replicas are alike. Whatever happens to all of them, the data path goes on with what agents have.
#![forbid(unsafe_code)]

mod agents;
mod authority;
mod error;
mod health;
mod metrics;
mod nodes;
mod placed;
mod refused;
mod run;
mod server;
mod status;

pub use error::Error;
pub use run::{Settings, run};
