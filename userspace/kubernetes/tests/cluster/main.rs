//! The source that reads a real API server. Not a part of `cargo test`: its programs take minutes to build.
#![expect(clippy::unwrap_used, reason = "a failed step fails the test")]

mod agent;
mod agents;
#[expect(dead_code, reason = "tests of other crates ask for more of it")]
mod api_server;
mod beside;
mod controller;
mod installation;
mod leaders;
mod objects;
mod outages;
mod sandboxes;
mod statuses;

use std::time::Duration;

use tokio::time::{Instant, sleep};

/// Waits for a condition.
async fn until(what: &str, holds: impl AsyncFnMut() -> bool) {
    let mut holds = holds;
    let began = Instant::now();
    while !holds().await {
        assert!(began.elapsed() < api_server::PATIENCE, "never seen: {what}");
        sleep(Duration::from_millis(50)).await;
    }
}
