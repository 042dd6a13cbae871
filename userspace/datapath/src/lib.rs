//! Loads, pins and feeds the eBPF data path.
//!
//! Owns: everything that touches aya, the pins, and the way from a Snapshot to rows in the kernel and
//! from kernel events to flows. Must not know: Kubernetes' wire forms, TLS, HTTP.
//!
//! ```text
//! Snapshot ─► rows ─► apply (add before remove) ─► maps ─► programs
//!                └──► sweep: connections that policy now forbids end
//! events ring ─► flows ─► FlowLog, metrics
//! ```

mod attach;
mod btf;
mod host;
mod link;
mod load;
mod maps;
mod object;
mod pins;
pub mod rows;

pub use load::MapSizes;
