//! An authority that somebody brings in a Secret.

use std::process::Command;

use serde_json::{Value, json};
use weft_identity::controller::Roots;

use super::{
    stage::{Stage, trust, verify},
    until,
};

/// A self-signed root, as openssl and kubectl make a Secret of it.
fn root(name: &str) -> (Value, String) {
    let folder = tempfile::tempdir().unwrap();
    let run = |arguments: &[&str]| {
        let output = Command::new("openssl").args(arguments).current_dir(folder.path()).output().unwrap();
        assert!(output.status.success(), "{}", weft_tests::text(&output));
    };
    run(&["genrsa", "-out", "key.pem", "2048"]);
    run(&[
        "req",
        "-x509",
        "-new",
        "-key",
        "key.pem",
        "-subj",
        &format!("/CN={name}"),
        "-days",
        "30",
        "-out",
        "crt.pem",
    ]);
    let read = |file: &str| std::fs::read_to_string(folder.path().join(file)).unwrap();
    let (certificate, key) = (read("crt.pem"), read("key.pem"));
    let secret = json!({"apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/tls",
        "metadata": {"name": "weft-issuer", "namespace": "weft-system"},
        "stringData": {"tls.crt": certificate, "tls.key": key, "ca.crt": certificate}});
    (secret, certificate)
}

async fn mesh_config(stage: &Stage, issuer: Value) {
    let definition = super::stage::definition("MeshConfig", "meshconfigs");
    stage.server.apply(&definition).await;
    let mesh = json!({"apiVersion": "weft.dev/v1alpha1", "kind": "MeshConfig", "metadata": {"name": "default"},
        "spec": {"certificates": {"issuer": issuer}}});
    until("the kind is served", async || stage.server.try_apply(&mesh).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_authority_that_is_brought_signs_and_is_never_written() {
    let stage = Stage::open().await;
    mesh_config(&stage, json!({"type": "SecretRef", "secretRef": {"name": "weft-issuer"}})).await;
    let mut controller = stage.start();
    until("it says what is missing", async || {
        controller.log().contains("Secret weft-system/weft-issuer is not there, which MeshConfig names")
    })
    .await;
    assert!(!controller.is_ready());
    let (secret, _) = root("corp");
    stage.server.apply(&secret).await;
    until("it is ready", async || controller.is_ready()).await;
    let agent = stage.agent(&stage.agent_token("n1").await, &[&controller]).await;
    let svid = agent.ask("web").await.unwrap();
    verify(&stage.trust().await, &svid).unwrap();
    let secrets = stage.server.list("v1", "Secret").await;
    let names: Vec<_> = secrets.iter().map(|secret| &secret["metadata"]["name"]).collect();
    assert_eq!(names, ["weft-issuer"], "no authority of our own was made");

    // Its owner replaces it: what it signs and whom agents trust follow.
    let (other, certificate) = root("corp two");
    stage.server.apply(&other).await;
    until("the roots follow", async || stage.bundle().await == Roots::parse(&certificate).unwrap()).await;
    let (agent, trust) =
        (stage.agent(&stage.agent_token("n1").await, &[&controller]).await, stage.trust().await);
    until("the new one signs", async || {
        agent.ask("web").await.is_ok_and(|svid| verify(&trust, &svid).is_ok())
    })
    .await;
    assert!(verify(&trust, &svid).is_err(), "who replaces a root at once cuts off what it signed");
}

#[tokio::test(flavor = "multi_thread")]
async fn from_controllers_own_authority_to_one_that_is_brought_nothing_is_cut() {
    let stage = Stage::open().await;
    let controllers = [stage.controller().await, stage.controller().await];
    let token = stage.agent_token("n1").await;
    let agents =
        [stage.agent(&token, &[&controllers[0]]).await, stage.agent(&token, &[&controllers[1]]).await];
    let (of_before, old) = (stage.trust().await, agents[0].ask("web").await.unwrap());

    let (secret, certificate) = root("corp");
    stage.server.apply(&secret).await;
    mesh_config(&stage, json!({"type": "SecretRef", "secretRef": {"name": "weft-issuer"}})).await;
    until("both roots are trusted", async || stage.bundle().await.certificates().len() == 2).await;
    let both = stage.trust().await;
    verify(&both, &old).unwrap();
    // A node has not heard of the new root yet: what is signed now is good for it, too, whoever signs.
    for agent in &agents {
        verify(&of_before, &agent.ask("web").await.unwrap()).unwrap();
    }
    let brought = trust(&Roots::parse(&certificate).unwrap());
    // The roots were published a minute ago.
    let bundle = json!({"apiVersion": "v1", "kind": "ConfigMap", "data": {"since": "1000"},
        "metadata": {"name": "weft-trust-bundle", "namespace": "weft-system"}});
    stage.server.apply(&bundle).await;
    for controller in &controllers {
        // It knows by now whom to trust, as all do.
        let agent = stage.agent(&token, &[controller]).await;
        until("the new one signs", async || {
            let new = agent.ask("web").await.unwrap();
            verify(&both, &new).unwrap();
            verify(&brought, &new).is_ok()
        })
        .await;
    }

    // Whoever wants the old one out deletes it.
    let data = stage.secret().await;
    let own = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "weft-ca", "namespace": "weft-system"}});
    stage.server.delete(&own).await;
    until("the brought root alone is trusted", async || {
        stage.bundle().await == Roots::parse(&certificate).unwrap()
    })
    .await;

    // What nodes do not trust any more is not trusted anew, nor signs: one of a mesh that has long had another.
    let mut own = own;
    (own["type"], own["data"]) = ("Opaque".into(), json!(data));
    stage.server.apply(&own).await;
    let fresh = stage.controller().await;
    let svid = stage.agent(&token, &[&fresh]).await.ask("web").await.unwrap();
    verify(&brought, &svid).unwrap();
    assert_eq!(stage.bundle().await, Roots::parse(&certificate).unwrap());
}
