//! Controllers and API servers that are away.

use std::{sync::Arc, time::Duration};

use weft_identity::{Certificates, Clock, TrustDomains, Wanted};
use weft_model::ServiceAccount;
use weft_runtime::Tasks;

use super::{stage::Stage, until};

#[tokio::test(flavor = "multi_thread")]
async fn certificates_outlive_their_controllers_and_status_says_why_there_are_no_new_ones() {
    let stage = Stage::open().await;
    let controller = stage.controller().await;
    let agent = stage.agent(&stage.agent_token("n1").await, &[&controller]).await;
    let (web, late) = (ServiceAccount::new("shop", "web"), ServiceAccount::new("shop", "late"));
    let certificates = Certificates::new(Wanted {
        domains: TrustDomains::new("cluster.local", []).unwrap(),
        ttl: Duration::from_hours(24),
        accounts: [web.clone()].into(),
    });
    let tasks = Tasks::new();
    let issuer = Arc::clone(&agent.issuer);
    tasks.spawn("certificates", certificates.clone().run(issuer, Clock::system(), tasks.stop_signal()));
    let before = tokio::time::timeout(Duration::from_secs(30), certificates.of(&web)).await.unwrap();
    drop(controller);
    certificates.want(|wanted| {
        wanted.accounts.insert(late);
    });
    until("status says that the controller is away", async || {
        let status = certificates.status();
        let mut failures = status.certificates.iter().filter_map(|one| one.failure.as_ref());
        failures.any(|failure| failure.error.contains("no connection to the controller at"))
    })
    .await;
    let held = Arc::clone(&certificates.held().borrow());
    assert_eq!(held.svids[&web].serial(), before.serial(), "what was issued serves on");
    tasks.drain(Duration::from_secs(5)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_hangs_is_passed_over() {
    let stage = Stage::open().await;
    let (frozen, well) = (stage.controller().await, stage.controller().await);
    let agent = stage.agent(&stage.agent_token("n1").await, &[&frozen, &well]).await;
    frozen.freeze();
    for _ in 0..3 {
        let began = std::time::Instant::now();
        agent.ask("web").await.unwrap();
        assert!(began.elapsed() < Duration::from_secs(10), "as long as an issuer may take");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_its_api_server_a_controller_signs_nothing_and_goes_on_when_that_is_back() {
    let mut stage = Stage::open().await;
    let controller = stage.controller().await;
    let token = stage.agent_token("n1").await;
    let agent = stage.agent(&token, &[&controller]).await;
    agent.ask("web").await.unwrap();
    stage.server.kill();
    until("nobody can be verified", async || agent.ask("web").await.is_err()).await;
    stage.server.bring_back().await;
    until("it signs again", async || agent.ask("web").await.is_ok()).await;
}
