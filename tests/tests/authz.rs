//! Authorization of requests, end to end: real pods, the real kernel, the proxy of the server's node.
#![expect(clippy::unwrap_used, reason = "a failed step fails the test")]

#[path = "authz/stage.rs"]
mod stage;

#[path = "authz/asked.rs"]
mod asked;
#[path = "authz/changes.rs"]
mod changes;
#[path = "authz/conformance.rs"]
mod conformance;
#[path = "authz/gone.rs"]
mod gone;
#[path = "authz/grpc.rs"]
mod grpc;
#[path = "authz/nodes.rs"]
mod nodes;
#[path = "authz/requests.rs"]
mod requests;
#[path = "authz/switch.rs"]
mod switch;
