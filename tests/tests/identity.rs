//! Certificates, end to end: an authority in a directory, agents that issue by it, proxies that have what they issue.

#[path = "identity/diagnosed.rs"]
mod diagnosed;
#[path = "identity/issued.rs"]
mod issued;
#[path = "identity/kept.rs"]
mod kept;
#[path = "identity/memory.rs"]
mod memory;
#[path = "identity/rotated.rs"]
mod rotated;
#[path = "identity/secret.rs"]
mod secret;
#[path = "identity/stage.rs"]
mod stage;
