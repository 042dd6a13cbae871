//! Pods from a container runtime's first call to their end, on a real API server and the real kernel. Not a part of `cargo test`:
//! its programs take minutes to build.
#![expect(clippy::unwrap_used, reason = "a failed step fails the test")]

#[path = "../../userspace/kubernetes/tests/cluster/api_server.rs"]
#[expect(dead_code, reason = "it is the other crate's, and does more than is asked of it here")]
mod api_server;
#[path = "enrolment/first_packet.rs"]
mod first_packet;
#[path = "enrolment/lives.rs"]
mod lives;
#[path = "enrolment/stage.rs"]
mod stage;
#[path = "enrolment/versions.rs"]
mod versions;
#[path = "enrolment/without_agent.rs"]
mod without_agent;

use std::time::Duration;

use tokio::time::{Instant, sleep};

/// Waits for a condition.
async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let began = Instant::now();
    while !holds().await {
        assert!(began.elapsed() < api_server::PATIENCE, "never seen: {what}");
        sleep(Duration::from_millis(50)).await;
    }
}
