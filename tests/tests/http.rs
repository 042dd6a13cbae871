//! The http path, end to end: real pods, the real kernel, the agent and the proxy that it starts.

#[path = "http/capture.rs"]
mod capture;
#[path = "http/counted.rs"]
mod counted;
#[path = "http/databases.rs"]
mod databases;
#[path = "http/edges.rs"]
mod edges;
#[path = "http/fairness.rs"]
mod fairness;
#[path = "http/gapless.rs"]
mod gapless;
#[path = "http/h2spec.rs"]
mod h2spec;
#[path = "http/legs.rs"]
mod legs;
#[path = "http/life.rs"]
mod life;
#[path = "http/logged.rs"]
mod logged;
#[path = "http/routes.rs"]
mod routes;
#[path = "http/seen.rs"]
mod seen;
#[path = "http/shop.rs"]
mod shop;
#[path = "http/shown.rs"]
mod shown;
#[path = "http/soak.rs"]
mod soak;
#[path = "http/told.rs"]
mod told;
#[path = "http/unusual.rs"]
mod unusual;
