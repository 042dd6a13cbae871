//! The http path, end to end: real pods, the real kernel, the agent and the proxy that it starts.

#[path = "http/capture.rs"]
mod capture;
#[path = "http/fairness.rs"]
mod fairness;
#[path = "http/life.rs"]
mod life;
#[path = "http/routes.rs"]
mod routes;
#[path = "http/shop.rs"]
mod shop;
#[path = "http/soak.rs"]
mod soak;
