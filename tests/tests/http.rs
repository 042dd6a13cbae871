//! The http path, end to end: real pods, the real kernel, the agent and the proxy that it starts.

#[path = "http/capture.rs"]
mod capture;
#[path = "http/databases.rs"]
mod databases;
#[path = "http/gapless.rs"]
mod gapless;
#[path = "http/h2spec.rs"]
mod h2spec;
#[path = "http/life.rs"]
mod life;
#[path = "http/routes.rs"]
mod routes;
#[path = "http/shop.rs"]
mod shop;
#[path = "http/unusual.rs"]
mod unusual;
