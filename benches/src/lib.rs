//! Performance of the data path and of the http path against no mesh, in one run.
//!
//! Owns: the load, the rounds and the table. Must not know: how the data path works. Everything is seen
//! from the outside: pods of the test harness, the real agent, sockets, `/metrics`, `/proc`.
//!
//! ```text
//! l4 ── cases ──┬── site: sides of one world, each a client pod and a server pod on a node of its own
//!               │     plain: no agent, dials the server      mesh: an agent, dials a Service
//!               ├── rounds: every side in turn, again and again; a ratio for each round, then medians
//!               └── report: rows, targets, verdicts ─► table, JSON
//! l7 ── see module l7: the http path, Envoy and nginx, with rounds and work as here
//! mtls ── see module mtls: mutual TLS between two nodes, with the pairs and load of l7 and the report of l4
//! pod: l4 work '{...}'  (work: the load generator and its server)
//! ```
//!
//! Both sides share the machine, the bridge and the moment, so noise falls on both. Merely loading programs
//! turns on static branches of the whole kernel; what those cost the plain side is some nanoseconds.
#![forbid(unsafe_code)]

pub mod cases;
pub mod l7;
mod manifests;
pub mod mtls;
mod only;
mod report;
mod rounds;
mod site;
pub mod work;

pub use only::Only;
pub use report::Report;
pub use rounds::Plan;
