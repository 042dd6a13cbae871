//! A connection's life on the `http` path: accept, origin, identify, authorize, route, connect, relay.
//!
//! Owns: what the node proxy does between a client's socket and an upstream's. Must not know: aya, kube, rustls.
//!
//! ```text
//! socket ──► Guarded ──► hyper's server ──► (what a request meets) ──► hyper's client ──► Guarded ──► socket
//!               │ malformed
//!               └──► 400, 414, 431 ... and the connection ends; nothing of it was forwarded
//! ```
#![forbid(unsafe_code)]

pub mod balance;
pub mod clock;
pub mod draw;
pub mod http1;
pub mod limits;
pub mod route;
