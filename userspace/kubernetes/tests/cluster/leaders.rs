//! Who leads.

use std::time::Duration;

use serde_json::json;
use tokio::time::{Instant, sleep};

use super::{api_server::ApiServer, controller::Controller, objects::namespace, until};

async fn cluster() -> ApiServer {
    let server = ApiServer::start(&[]).await;
    server.apply(&namespace("weft-system", &json!({}))).await;
    server
}

async fn holder(server: &ApiServer) -> String {
    let leases = server.list("coordination.k8s.io/v1", "Lease").await;
    let lease = leases.iter().find(|lease| lease["metadata"]["name"] == "weft-controller").cloned();
    lease.unwrap_or_default()["spec"]["holderIdentity"].as_str().unwrap_or_default().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn one_of_two_leads_and_the_other_follows_when_it_ends_or_is_killed() {
    let server = cluster().await;
    let first = Controller::start(&server, "a").await;
    until("a leads", async || first.leads()).await;
    let second = Controller::start(&server, "b").await;
    sleep(Duration::from_secs(6)).await;
    assert!(first.leads() && !second.leads());
    assert_eq!(holder(&server).await, "a");

    let began = Instant::now();
    first.stop().await;
    until("b leads", async || second.leads()).await;
    eprintln!("after a graceful end another led within {:?}", began.elapsed());
    assert!(began.elapsed() <= Duration::from_secs(3), "{:?}", began.elapsed());

    let third = Controller::start(&server, "c").await;
    sleep(Duration::from_secs(3)).await;
    assert!(!third.leads());
    let began = Instant::now();
    second.kill();
    until("c leads", async || third.leads()).await;
    eprintln!("after a kill another led within {:?}", began.elapsed());
    assert!(began.elapsed() <= Duration::from_secs(20), "{:?}", began.elapsed());
    assert_eq!(holder(&server).await, "c");
    third.stop().await;
    assert_eq!(holder(&server).await, "");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_loses_its_api_server_knows_that_before_another_leads() {
    let server = cluster().await;
    let mut its_own = server.beside().await;
    let first = Controller::start(&its_own, "a").await;
    until("a leads", async || first.leads()).await;
    let second = Controller::start(&server, "b").await;
    sleep(Duration::from_secs(3)).await;
    its_own.kill();
    let began = Instant::now();
    let mut alone = None;
    while !second.leads() {
        assert!(began.elapsed() < Duration::from_secs(30), "nobody leads");
        if !first.leads() {
            alone.get_or_insert_with(Instant::now);
        }
        sleep(Duration::from_millis(20)).await;
    }
    assert!(!first.leads());
    let gap = alone.expect("there was a time without a leader").elapsed();
    eprintln!("nobody led for {gap:?}");
    assert!(gap >= Duration::from_secs(4), "what it had under way may not have ended: {gap:?}");
    first.kill();
    second.stop().await;
}
