//! Controllers and their certificate authority: real `weft controller` processes at a real API server, with the rights
//! that `weft install` gives them. Not a part of `cargo test`: the API server takes minutes to build.
#![expect(clippy::unwrap_used, reason = "a failed step fails the test")]

#[path = "controller/admitted.rs"]
mod admitted;
#[path = "controller/agent.rs"]
mod agent;
#[path = "controller/agents.rs"]
mod agents;
#[path = "controller/alone.rs"]
mod alone;
#[expect(dead_code, reason = "the tests of the source use all of it")]
#[path = "../../userspace/kubernetes/tests/cluster/api_server.rs"]
mod api_server;
#[path = "controller/authority.rs"]
mod authority;
#[path = "controller/away.rs"]
mod away;
#[path = "controller/brought.rs"]
mod brought;
#[path = "controller/domain.rs"]
mod domain;
#[path = "controller/issued.rs"]
mod issued;
#[path = "controller/lacking.rs"]
mod lacking;
#[path = "controller/mesh.rs"]
mod mesh;
#[path = "controller/passage.rs"]
mod passage;
#[path = "controller/process.rs"]
mod process;
#[path = "controller/refused.rs"]
mod refused;
#[path = "controller/reported.rs"]
mod reported;
#[path = "controller/rotated.rs"]
mod rotated;
#[path = "controller/stage.rs"]
mod stage;
#[path = "controller/tokens.rs"]
mod tokens;

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
