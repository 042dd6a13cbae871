//! The http path, end to end: real pods, the real kernel, the agent and the proxy that it starts.

#[path = "http/capture.rs"]
mod capture;
#[path = "http/legs.rs"]
mod legs;
#[path = "http/life.rs"]
mod life;
#[path = "http/routes.rs"]
mod routes;
#[path = "http/shop.rs"]
mod shop;
