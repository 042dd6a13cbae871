//! The one meaning of authorization.
//!
//! Owns: which policies protect a workload ([`Policies`], [`Protection`]), what they decide about a connection
//! ([`open()`]) and a request ([`decide`]), and what a path means ([`path`]). Must not know: rows, the kernel, sockets,
//! how HTTP is framed. Kernel rows, node proxy and `weft authz check` all have to agree with [`decide`]; tests hold them
//! to it.
//!
//! ```text
//! Snapshot ──► Policies ──protection(workload)──► Protection ──► weft-datapath (rows)
//!                                                     │
//!                           Request { HttpRequest } ──► decide ──► Decision
//! ```
#![forbid(unsafe_code)]

mod decide;
pub mod path;
mod protection;
mod request;

pub use decide::{Audit, Decision, Identity, Opening, Request, Requests, RuleName, decide, open};
pub use protection::{Applied, Policies, Protection, protection};
pub use request::{Claims, Headers, HttpRequest};
