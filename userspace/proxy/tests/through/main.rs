//! Connections through the proxy: real sockets in a real network namespace. Needs root.
#![expect(clippy::unwrap_used, reason = "a failed step fails the test")]
#![expect(clippy::disallowed_methods, reason = "a test's tasks end with its runtime")]

mod bodies;
mod breaker;
mod carriers;
mod failures;
mod filters;
mod floods;
mod frames;
mod hostile;
mod kept;
mod life;
mod mesh;
mod mirrors;
mod namespace;
mod nginx;
mod parked;
mod requests;
mod resilience;
mod routes;
mod server;
mod sessions;
mod streams;
mod telling;
mod undecided;
