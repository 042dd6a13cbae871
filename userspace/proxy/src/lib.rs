//! A connection's life on the `http` and `tls` paths: accept, origin, identify, authorize, route, connect, relay.
//!
//! Owns: what the node proxy does between a client's socket and an upstream's. Must not know: aya, kube, rustls.
//!
//! ```text
//! Snapshot ──► tables ─────────────────────────────────┐ one pointer
//!                                                       ▼
//! pod's listener ──► worker ──► outbound ──► serve ──► exchange ──► pool ──► endpoint
//!    │                             │           │ Guarded     Guarded │
//!    │                             └ relay     └ malformed: 400, 414, 431 ... and nothing of it was forwarded
//!    └► inbound: mutual TLS from other nodes ──► the app
//! ```
//! [`bounds`] lists what is bounded, [`Reason`] why something is refused.
#![forbid(unsafe_code)]

pub mod account;
mod agent;
pub mod balance;
pub mod bounds;
mod carriers;
pub mod clock;
pub mod draw;
mod exchange;
mod forwarded;
pub mod http1;
mod http2;
mod identities;
mod inbound;
pub mod limits;
mod line;
mod live;
pub mod observe;
mod outbound;
mod pool;
mod proxy;
pub mod route;
mod serve;
mod short;
mod stream;
mod tables;
mod tell;
mod tokens;
mod worker;

pub use agent::{Maps, Unlent, serve_agent};
pub use bounds::Limits;
pub use proxy::{Error, Handle, Lease, PodSockets, Proxy, Settings, Status};
pub use tokens::authenticate;
pub use weft_abi::Reason;
