//! Controllers that may not read all that they should.

use serde::Deserialize as _;
use serde_json::{Value, json};

use super::{
    process::Controller,
    stage::{Stage, verify},
    until,
};

/// What the `ClusterRole` `weft-controller` grants, less these resources.
async fn grant_without(stage: &Stage, resources: &[&str]) {
    let text = include_str!("../../../deploy/install/controller.yaml");
    let all = serde_yaml::Deserializer::from_str(text).map(|document| Value::deserialize(document).unwrap());
    let is_it =
        |object: &Value| object["kind"] == "ClusterRole" && object["metadata"]["name"] == "weft-controller";
    let mut role = all.into_iter().find(is_it).unwrap();
    for rule in role["rules"].as_array_mut().unwrap() {
        let named = rule["resources"].as_array_mut().unwrap();
        named.retain(|resource| !resources.iter().any(|without| resource == without));
    }
    role["rules"].as_array_mut().unwrap().retain(|rule| rule["resources"] != json!([]));
    stage.server.apply(&role).await;
}

fn unread(controller: &Controller, kind: &str) -> u64 {
    controller.metric("weft_controller_unread_kinds", &format!("\"{kind}\""))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_right_that_lacks_keeps_no_certificate_from_a_pod_and_is_told_until_it_is_granted() {
    let stage = Stage::open().await;
    grant_without(&stage, &["services", "endpointslices"]).await;
    let controller = stage.controller().await;
    let agent = stage.agent(&stage.agent_token("n1").await, &[&controller]).await;
    verify(&stage.trust().await, &agent.ask("web").await.unwrap()).unwrap();
    until("the metrics name both", async || {
        unread(&controller, "Service") + unread(&controller, "EndpointSlice") == 2
    })
    .await;
    let ready = controller.get("/readyz");
    assert!(ready.contains("without EndpointSlice: ") && ready.contains("grant the"), "{ready}");
    assert!(controller.log().contains("does not tell of a kind"), "{}", controller.log());
    grant_without(&stage, &[]).await;
    until("they are read", async || controller.metric("weft_controller_unread_kinds", "") == 0).await;
    assert!(controller.get("/readyz").ends_with("ready\n"), "{}", controller.get("/readyz"));
}

#[tokio::test(flavor = "multi_thread")]
async fn who_may_not_read_pods_is_not_ready_and_says_so() {
    let stage = Stage::open().await;
    grant_without(&stage, &["pods"]).await;
    let mut controller = stage.start();
    until("it lacks nothing else", async || {
        let ready = controller.get("/readyz");
        ready.starts_with("HTTP/1.1 503") && ready.trim_end().ends_with(": Pod")
    })
    .await;
    assert!(!controller.is_ready());
    grant_without(&stage, &[]).await;
    until("it is ready", async || controller.is_ready()).await;
}
