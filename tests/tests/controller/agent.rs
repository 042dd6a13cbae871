//! The real agent of a node, with the rights that it is given: how it finds controllers, and what people see of it.

use std::{
    fs,
    net::{IpAddr, UdpSocket},
    time::Duration,
};

use serde_json::{Value, json};
use weft_tests::{Node, World, soon, text};

use super::{
    process::Controller,
    stage::{Stage, pod},
    tokens::token,
    until,
};

/// An address of this machine that an API server takes for an endpoint's.
pub(crate) fn own_address() -> IpAddr {
    let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
    socket.connect("198.51.100.1:9").expect("the machine has a route to somewhere");
    socket.local_addr().unwrap().ip()
}

/// What the cluster's controllers would do for the Service of ours.
pub(crate) async fn publish(stage: &Stage, controllers: &[&Controller]) {
    for (number, controller) in controllers.iter().enumerate() {
        let slice = json!({
            "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
            "metadata": {"name": format!("weft-controller-{number}"), "namespace": "weft-system",
                "labels": {"kubernetes.io/service-name": "weft-controller"}},
            "ports": [{"name": "https", "port": controller.address.port(), "protocol": "TCP"}],
            "endpoints": [{"addresses": [controller.address.ip()], "conditions": {"ready": true}}]
        });
        stage.server.apply(&slice).await;
    }
}

/// `weft get certificates`, of an agent that may not answer yet.
fn certificates(node: &Node) -> Value {
    let output = node.weft(&["get", "certificates", "-o", "json"]);
    serde_json::from_slice(&output.stdout).unwrap_or_default()
}

fn valid(view: &Value, account: &str) -> bool {
    let all = view["certificates"].as_array().into_iter().flatten();
    all.into_iter().any(|one| {
        one["serviceAccount"] == account && one["expiresInSeconds"].as_u64().is_some_and(|left| left > 0)
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_finds_controllers_by_itself_and_says_when_they_are_gone() {
    let Some(world) = World::new() else { return };
    let stage = Stage::open().await;
    let node = world.node("a");
    let on_node = |namespace: &str, name: &str, account: &str| pod(namespace, name, account, node.name());
    stage.server.apply(&json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": node.name()}})).await;
    stage.server.apply(&on_node("weft-system", "weft-a", "weft-agent")).await;
    stage.server.apply(&on_node("shop", "web-2", "web")).await;
    let uid = stage.uid("Pod", "weft-a").await;
    let bound = Some(("Pod", "weft-a", uid.as_str()));
    let proof = stage.folder.path().join("token");
    fs::write(&proof, stage.token(Some("weft-ca"), bound).await).unwrap();
    let own = token(&stage.server, "weft-agent", None, bound).await;
    let kubeconfig = stage.server.kubeconfig_with("weft-agent", &own).display().to_string();

    // It begins before there is any controller.
    let proof = proof.display().to_string();
    let agent = node.spawn_agent(&["--kubeconfig", &kubeconfig, "--ca-token", &proof]);
    soon(|| {
        let view = certificates(&node);
        let why = view["failure"]["error"].as_str().unwrap_or_default();
        why.contains("ConfigMap weft-system/weft-trust-bundle")
    });
    let controller = stage.controller_at(own_address()).await;
    publish(&stage, &[&controller]).await;
    soon(|| valid(&certificates(&node), "web"));
    let view = certificates(&node);
    assert_eq!(view["failure"], Value::Null, "{view}");
    assert!(view["issuer"]["name"].as_str().unwrap().starts_with("weft issuer "), "{view}");
    assert!(!valid(&view, "api"), "it runs elsewhere");
    let kept = node.state_dir().join("last-good").join(node.name()).join("roots.pem");
    assert!(fs::read_to_string(&kept).unwrap().contains("BEGIN CERTIFICATE"), "{}", kept.display());

    // Gone, they are missed, and nothing else changes.
    drop(controller);
    until("status says so, and since when", async || {
        let view = certificates(&node);
        let failure = &view["failure"];
        failure["error"].as_str().is_some_and(|error| error.contains("no connection to the controller at"))
            && failure["since"].is_string()
    })
    .await;
    assert!(valid(&certificates(&node), "web"), "what was issued serves on");
    let status = node.weft(&["status"]);
    assert!(text(&status).contains("controller"), "{}", text(&status));
    drop(agent);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_controllers_an_agent_stays_closed_and_says_what_is_missing() {
    let Some(world) = World::new() else { return };
    let stage = Stage::open().await;
    let node = world.node("a");
    stage.server.apply(&pod("shop", "web-2", "web", node.name())).await;
    let kubeconfig = stage.server.kubeconfig("admin").display().to_string();
    let _agent = node.spawn_agent(&["--kubeconfig", &kubeconfig]);
    node.wait();
    tokio::time::sleep(Duration::from_secs(1)).await;
    let view = certificates(&node);
    let error = view["failure"]["error"].as_str().unwrap_or_default();
    assert!(error.contains("weft-trust-bundle is not there") && error.contains("does one run?"), "{view}");
    assert!(!valid(&view, "web"), "{view}");
}
