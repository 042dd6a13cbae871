//! What the agent tells about itself: logs, metrics, flows, and the admin API that serves them.
//!
//! Owns: the types of the admin API, the ring of last flows, the metrics, the HTTP servers. Must
//! not know: the kernel, Kubernetes' wire forms; what it shows comes through [`admin::Agent`].
//!
//! ```text
//! weft-datapath ──► FlowLog, metrics ──┐
//! weft-proxy ──► records ──► Observer ─┤
//!                                      ├──► admin ──► unix socket (weft status, get, observe, ...)
//! weft_model::Snapshot ──► views ──────┘       └────► TCP (/metrics, /healthz, /readyz)
//! ```
#![forbid(unsafe_code)]

pub mod access_log;
pub mod admin;
pub mod api;
pub mod flows;
pub mod live;
pub mod logging;
pub mod metrics;
pub mod observer;
mod pods;
pub mod records;
pub mod views;
pub mod window;
