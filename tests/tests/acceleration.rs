//! Same-node acceleration: what it must keep of TCP, what it may not, and when it is off.
#![expect(clippy::unwrap_used, reason = "a failed step fails the test")]

#[path = "acceleration/budget.rs"]
mod budget;
#[path = "acceleration/closing.rs"]
mod closing;
#[path = "acceleration/deviations.rs"]
mod deviations;
#[path = "acceleration/edges.rs"]
mod edges;
#[path = "acceleration/gate.rs"]
mod gate;
#[path = "acceleration/lifetime.rs"]
mod lifetime;
#[path = "acceleration/order.rs"]
mod order;
#[path = "acceleration/outside.rs"]
mod outside;
#[path = "acceleration/records.rs"]
mod records;
#[path = "acceleration/selftest.rs"]
mod selftest;
#[path = "acceleration/stage.rs"]
mod stage;
