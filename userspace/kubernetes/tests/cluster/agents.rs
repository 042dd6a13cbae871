//! Whoever asks agents finds them by their pods, and is told what is missing.

use serde_json::{Value, json};
use weft_kubernetes::{AskError, Cluster, Connection};

use super::api_server::ApiServer;

fn pod(name: &str, node: &str, component: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {
            "namespace": "weft-system", "name": name,
            "labels": {"app.kubernetes.io/name": "weft", "app.kubernetes.io/component": component},
        },
        "spec": {"nodeName": node, "containers": [
            {"name": "agent", "image": "weft:v1", "args": ["agent", "--run-dir=/run/other"]},
        ]},
        "status": {"phase": "Running", "containerStatuses": [{
            "name": "agent", "image": "weft:v1", "imageID": "", "ready": true, "restartCount": 1,
            "state": {"running": {"startedAt": "2026-11-27T12:00:00Z"}},
        }]},
    })
}

fn role(rules: &Value) -> [Value; 2] {
    let metadata = json!({"namespace": "weft-system", "name": "asks"});
    let api_version = "rbac.authorization.k8s.io/v1";
    [
        json!({"apiVersion": api_version, "kind": "Role", "metadata": metadata, "rules": rules}),
        json!({
            "apiVersion": api_version, "kind": "RoleBinding", "metadata": metadata,
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "asks"},
            "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "agent"}],
        }),
    ]
}

async fn cluster(server: &ApiServer, user: &str) -> Cluster {
    Cluster::connect(&Connection::Kubeconfig(server.kubeconfig(user))).await.unwrap()
}

/// What `granted` comes to, once the API server knows of it.
async fn once_granted<T>(ask: impl AsyncFn() -> Result<T, AskError>) -> T {
    let mut answer = None;
    super::until("the rights are granted", async || {
        answer = ask().await.ok();
        answer.is_some()
    })
    .await;
    answer.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn agents_are_found_by_their_label_and_what_is_missing_is_named() {
    let server = ApiServer::start(&[]).await;
    server
        .apply(&json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "weft-system"}}))
        .await;
    let admin = cluster(&server, "admin").await;
    assert_eq!(admin.agents().await, Ok(Vec::new()));
    for pod in [pod("weft-b", "n2", "agent"), pod("weft-a", "n1", "agent"), pod("other", "n1", "controller")]
    {
        server.apply(&pod).await;
    }
    let agents = admin.agents().await.unwrap();
    let told: Vec<_> =
        agents.iter().map(|agent| (&*agent.node, &*agent.name.name, agent.ready, agent.restarts)).collect();
    assert_eq!(told, [("n1", "weft-a", true, 1), ("n2", "weft-b", true, 1)]);
    assert_eq!((&*agents[0].image, &*agents[0].run_dir), ("weft:v1", "/run/other"));

    // There is no kubelet: the API server says so.
    let error = admin.run_in(&agents[0], &["tunnel"]).await.unwrap_err().to_string();
    assert!(error.starts_with("cannot create pods/exec of Pod weft-system/weft-a: "), "{error}");

    let somebody = cluster(&server, "agent").await;
    let error = somebody.agents().await.unwrap_err();
    assert!(matches!(error, AskError::Forbidden { verb: "list", .. }), "{error}");
    let named = "may not list Pods app.kubernetes.io/name=weft,app.kubernetes.io/component=agent of namespace weft-system";
    assert!(error.to_string().starts_with(named), "{error}");
    for object in role(&json!([{"apiGroups": [""], "resources": ["pods"], "verbs": ["list"]}])) {
        server.apply(&object).await;
    }
    let agents = once_granted(async || somebody.agents().await).await;
    let error = somebody.run_in(&agents[1], &["tunnel"]).await.unwrap_err();
    assert!(matches!(error, AskError::Forbidden { verb: "create", .. }), "{error}");
    assert!(error.to_string().contains("pods/exec of Pod weft-system/weft-b"), "{error}");
    let error = somebody.log(&agents[1], 10).await.unwrap_err();
    assert!(error.to_string().starts_with("may not get pods/log of Pod weft-system/weft-b"), "{error}");
}
