//! The trust domain: that of the installation, whatever is written later.

use std::fs;

use serde_json::{Value, json};
use weft_tests::{World, soon, text};

use super::{
    agent::{own_address, publish},
    mesh::agent_of,
    stage::{Stage, pod},
    until,
};

#[tokio::test(flavor = "multi_thread")]
async fn a_mesh_keeps_the_trust_domain_that_it_was_installed_with() {
    let Some(world) = World::new() else { return };
    let stage = Stage::of("mesh.example").await;
    let node = world.node("a");
    let controller = stage.controller_at(own_address()).await;
    publish(&stage, &[&controller]).await;
    let [proof, own] = agent_of(&stage, &node).await;
    let path = stage.folder.path().join("token");
    fs::write(&path, &proof).unwrap();
    stage.server.apply(&pod("shop", "web-2", "web", node.name())).await;
    let kubeconfig = stage.server.kubeconfig_with("agent", &own).display().to_string();
    let told = ["--kubeconfig", &kubeconfig, "--ca-token", path.to_str().unwrap()];
    let mut agent = node.spawn_agent(&[&told[..], &["--trust-domain", "mesh.example"]].concat());
    let certificates = || -> Value {
        let output = node.weft(&["get", "certificates", "-o", "json"]);
        serde_json::from_slice(&output.stdout).unwrap_or_default()
    };
    let of_web = |view: &Value| {
        let all = view["certificates"].as_array().cloned().unwrap_or_default();
        let web = all.into_iter().find(|one| one["serviceAccount"] == "web");
        web.filter(|web| web["expiresInSeconds"].as_u64().is_some_and(|left| left > 0))
    };
    soon(|| of_web(&certificates()).is_some());
    let before = of_web(&certificates()).unwrap();
    assert_eq!(before["identity"], "spiffe://mesh.example/ns/shop/sa/web");

    // Without a name it is the same one, and the other settings hold.
    let mesh = |spec: Value| {
        json!({"apiVersion": "weft.dev/v1alpha1", "kind": "MeshConfig", "metadata": {"name": "default"},
            "spec": spec})
    };
    stage.server.apply(&mesh(json!({"certificates": {"ttl": "2h"}}))).await;
    let status = async || stage.server.list("weft.dev/v1alpha1", "MeshConfig").await[0]["status"].clone();
    until("the settings tell of it", async || status().await["trustDomain"] == "mesh.example").await;
    stage.server.delete(&mesh(json!({}))).await;

    // Another one is told that it is none of this mesh's, and changes no certificate.
    stage.server.apply(&mesh(json!({"trustDomain": "other.example"}))).await;
    let said = async || {
        let conditions = status().await["conditions"].as_array().cloned().unwrap_or_default();
        let programmed = conditions.into_iter().find(|condition| condition["type"] == "Programmed");
        programmed.map(|condition| condition["message"].to_string()).unwrap_or_default()
    };
    until("the settings say so", async || {
        said().await.contains("spec.trustDomain: the mesh was installed with trust domain mesh.example")
    })
    .await;
    assert_eq!(status().await["trustDomain"], "mesh.example");
    soon(|| text(&node.weft(&["status"])).contains("other.example"));
    let view = certificates();
    assert_eq!((&view["trustDomain"], &view["failure"]), (&json!("mesh.example"), &Value::Null), "{view}");
    let stays = of_web(&view).expect("it is still there");
    assert_eq!(stays["identity"], before["identity"]);

    // Nor does an installation that has forgotten it: the first agent of such a rollout is never ready.
    assert!(agent.stop().success());
    let cgroup = node.cgroup().display().to_string();
    let refused = node.refused_agent(&[], &["--cgroup", &cgroup, "--trust-domain", "cluster.local"]);
    assert!(!refused.status.success());
    assert!(text(&refused).contains("install with --trust-domain mesh.example"), "{}", text(&refused));
}
