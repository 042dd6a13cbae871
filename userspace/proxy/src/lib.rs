//! A connection's life on the `http` path: accept, origin, identify, authorize, route, connect, relay.
//!
//! Owns: what the node proxy does between a client's socket and an upstream's. Must not know: aya, kube, rustls.
#![forbid(unsafe_code)]

pub mod balance;
pub mod clock;
pub mod draw;
pub mod limits;
