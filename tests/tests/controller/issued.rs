//! What agents get.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use weft_identity::{Certificates, Clock, Issuer as _, TrustDomains, Wanted};
use weft_model::ServiceAccount;
use weft_runtime::Tasks;

use super::{
    stage::{Stage, pod, verify},
    until,
};

#[tokio::test(flavor = "multi_thread")]
async fn a_node_has_the_certificates_of_its_pods_and_no_more_of_an_authority() {
    let stage = Stage::open().await;
    let controllers = [stage.controller().await, stage.controller().await];
    let agent = stage.agent(&stage.agent_token("n1").await, &[&controllers[0], &controllers[1]]).await;
    let authority = agent.issuer.authority().await.unwrap();
    assert_eq!(&*authority.trust_domain, "cluster.local");
    assert!(authority.issuer.name.starts_with("weft issuer "), "{authority:?}");

    let account = ServiceAccount::new("shop", "web");
    let certificates = Certificates::new(Wanted {
        domains: TrustDomains::new("cluster.local", []).unwrap(),
        ttl: Duration::from_hours(24),
        accounts: [account.clone()].into(),
    });
    let tasks = Tasks::new();
    let issuer = Arc::clone(&agent.issuer);
    tasks.spawn("certificates", certificates.clone().run(issuer, Clock::system(), tasks.stop_signal()));
    let svid = tokio::time::timeout(Duration::from_secs(30), certificates.of(&account)).await.unwrap();
    verify(&stage.trust().await, &svid).unwrap();
    let status = certificates.status();
    assert_eq!((status.failure.clone(), status.roots), (None, 1));
    tasks.drain(Duration::from_secs(5)).await;
    let signed: u64 =
        controllers.iter().map(|one| one.metric("weft_controller_certificates_total", "")).sum();
    assert_eq!(signed, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_lives_no_longer_than_the_mesh_says_whatever_is_asked_for() {
    let stage = Stage::open().await;
    let controller = stage.controller().await;
    let agent = stage.agent(&stage.agent_token("n1").await, &[&controller]).await;
    let account = ServiceAccount::new("shop", "web");
    let order = weft_identity::Order { account, ttl: Duration::from_hours(24 * 300) };
    let svid = agent.issuer.issue(order).await.unwrap();
    assert!(svid.not_after() <= SystemTime::now() + Duration::from_hours(24));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_that_comes_and_goes_takes_its_certificates_along() {
    let stage = Stage::open().await;
    let controller = stage.controller().await;
    let agent = stage.agent(&stage.agent_token("n1").await, &[&controller]).await;
    assert_eq!(agent.refused("batch").await, "NoPodThere");
    // The agent hears of a pod first: its question waits until the controller has, too.
    let job = pod("shop", "batch-1", "batch", "n1");
    let (asked, ()) = tokio::join!(agent.ask("batch"), async {
        tokio::time::sleep(Duration::from_millis(500)).await;
        stage.server.apply(&job).await;
    });
    verify(&stage.trust().await, &asked.unwrap()).unwrap();
    let mut done = job.clone();
    done["status"]["phase"] = "Succeeded".into();
    stage.server.apply(&done).await;
    until("a pod that has run to its end is nobody's", async || agent.ask("batch").await.is_err()).await;
    assert_eq!(agent.refused("batch").await, "NoPodThere");

    // Withdrawn from the mesh, it needs none either.
    let mut outside = pod("shop", "web-1", "web", "n1");
    outside["metadata"]["labels"] = serde_json::json!({"weft.dev/mesh": "disabled"});
    stage.server.apply(&outside).await;
    until("a pod outside of the mesh has none", async || agent.ask("web").await.is_err()).await;
    assert_eq!(agent.refused("web").await, "NoPodThere");
}
