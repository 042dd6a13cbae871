//! What an API server lets in of the installation, and in the mesh, by Pod Security's levels.

use kube::{
    Api,
    api::{DynamicObject, PostParams},
    core::{ApiResource, GroupVersionKind},
};
use serde_json::{Value, json};

use super::stage::Stage;

/// What is said against a pod like this in `namespace`; nothing where it may be made.
async fn refused(stage: &Stage, namespace: &str, labels: &Value, spec: &Value) -> Option<String> {
    let kind = ApiResource::from_gvk(&GroupVersionKind::gvk("", "v1", "Pod"));
    let pods: Api<DynamicObject> = Api::namespaced_with(stage.server.client().await, namespace, &kind);
    let metadata = json!({"name": "it", "namespace": namespace, "labels": labels});
    let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec});
    let dry = PostParams { dry_run: true, ..PostParams::default() };
    let pod = serde_json::from_value(pod).unwrap();
    pods.create(&dry, &pod).await.err().map(|error| error.to_string())
}

/// The pods that this object of the installation makes.
async fn template(stage: &Stage, kind: &str, name: &str) -> Value {
    let all = stage.server.list("apps/v1", kind).await;
    let found = all.into_iter().find(|object| object["metadata"]["name"] == name).unwrap();
    found["spec"]["template"].clone()
}

async fn level(stage: &Stage, level: &str) -> String {
    let labels = json!({"pod-security.kubernetes.io/enforce": level, "weft.dev/mesh": "enabled"});
    let namespace =
        json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": level, "labels": labels}});
    stage.server.apply(&namespace).await;
    level.to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn only_agents_need_more_than_the_strictest_level_and_they_have_it() {
    let stage = Stage::open().await;
    let [restricted, baseline] = [level(&stage, "restricted").await, level(&stage, "baseline").await];
    let controller = template(&stage, "Deployment", "weft-controller").await;
    let labels = &controller["metadata"]["labels"];
    for namespace in ["weft-system", &restricted] {
        assert_eq!(refused(&stage, namespace, labels, &controller["spec"]).await, None, "{namespace}");
    }
    let agent = template(&stage, "DaemonSet", "weft").await;
    let labels = &agent["metadata"]["labels"];
    assert_eq!(refused(&stage, "weft-system", labels, &agent["spec"]).await, None);
    let why =
        refused(&stage, &baseline, labels, &agent["spec"]).await.expect("it is more than anybody may have");
    for part in ["hostNetwork", "hostPID", "hostPath", "capabilities"] {
        assert!(why.contains(part), "{part}: {why}");
    }
    assert!(!why.contains("privileged container") && !why.contains("seccomp"), "{why}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_controller_makes_what_is_its_own_and_no_token_of_another_account() {
    let stage = Stage::open().await;
    let own = super::tokens::token(&stage.server, "weft-controller", None, None).await;
    let object = |kind: &str, name: &str, annotations: Value, secret_type: Option<&str>| {
        let metadata = json!({"name": name, "namespace": "weft-system", "annotations": annotations});
        let mut object = json!({"apiVersion": "v1", "kind": kind, "metadata": metadata});
        if let Some(secret_type) = secret_type {
            object["type"] = secret_type.into();
        }
        object
    };
    let token = |name: &str| {
        let of = json!({"kubernetes.io/service-account.name": "weft-agent"});
        object("Secret", name, of, Some("kubernetes.io/service-account-token"))
    };
    // A policy that was made just now is not in force at once.
    super::until("others are refused", async || {
        let other = object("Secret", "other", json!({}), None);
        let said = stage.server.create_as(&own, &other).await;
        if said.is_ok() {
            stage.server.delete(&other).await;
        }
        said.is_err_and(|why| why.contains("makes the Secret weft-ca and the ConfigMap weft-trust-bundle"))
    })
    .await;
    for (refused, why) in [
        (object("ConfigMap", "other", json!({}), None), "and no others"),
        (token("weft-issuer"), "and no others"),
        (token("weft-ca"), "makes no tokens"),
    ] {
        let said = stage.server.create_as(&own, &refused).await.unwrap_err();
        assert!(said.contains(why), "{said}");
    }
    // Its own it makes: it comes up.
    stage.controller().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pods_of_the_mesh_are_what_they_were_and_nothing_is_added_to_them() {
    let stage = Stage::open().await;
    let restricted = level(&stage, "restricted").await;
    let context = json!({"runAsNonRoot": true, "runAsUser": 1000, "allowPrivilegeEscalation": false,
        "capabilities": {"drop": ["ALL"]}, "seccompProfile": {"type": "RuntimeDefault"}});
    let spec = json!({"containers": [{"name": "app", "image": "app", "securityContext": context}]});
    assert_eq!(refused(&stage, &restricted, &json!({"weft.dev/mesh": "enabled"}), &spec).await, None);
    // The mesh changes no pod: it has no webhook.
    for kind in ["MutatingWebhookConfiguration", "ValidatingWebhookConfiguration"] {
        assert_eq!(stage.server.list("admissionregistration.k8s.io/v1", kind).await, [Value::Null; 0]);
    }
}
