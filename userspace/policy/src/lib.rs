//! The one meaning of authorization.
//!
//! Owns: which policies protect a workload ([`Policies`], [`Protection`]) and what they decide about
//! a connection ([`decide`]). Must not know: rows, the kernel, sockets, HTTP. Kernel rows, node proxy
//! and `weft authz check` all have to agree with [`decide`]; tests hold them to it.
//!
//! ```text
//! Snapshot ──► Policies ──protection(workload)──► Protection ──► weft-datapath (rows)
//!                                                     │
//!                                         Request ──► decide ──► Decision
//! ```
#![forbid(unsafe_code)]

mod decide;
mod protection;

pub use decide::{Audit, Decision, Identity, Request, RuleName, decide};
pub use protection::{Applied, Policies, Protection, protection};
