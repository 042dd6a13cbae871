//! Tokens end to end: a provider that signs and serves its keys over HTTP, real pods, the proxy of the server's node.
#![expect(clippy::unwrap_used, reason = "a failed step fails the test")]

#[path = "jwt/provider.rs"]
mod provider;
#[path = "jwt/stage.rs"]
mod stage;

#[path = "jwt/asked.rs"]
mod asked;
#[path = "jwt/backend.rs"]
mod backend;
#[path = "jwt/keys.rs"]
mod keys;
#[path = "jwt/requests.rs"]
mod requests;
#[path = "jwt/seen.rs"]
mod seen;
