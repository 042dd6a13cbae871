//! Connections through the proxy: real sockets in a real network namespace. Needs root.
#![expect(clippy::unwrap_used, reason = "a failed step fails the test")]
#![expect(clippy::disallowed_methods, reason = "a test's tasks end with its runtime")]

mod failures;
mod hostile;
mod life;
mod mesh;
mod namespace;
mod requests;
mod routes;
mod server;
mod streams;
mod telling;
mod undecided;
