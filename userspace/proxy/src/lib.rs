//! The node's HTTP proxy.
//!
//! Owns: what becomes of a connection that left the kernel path. Must not know: Kubernetes' wire forms, maps.
#![forbid(unsafe_code)]

pub mod route;
