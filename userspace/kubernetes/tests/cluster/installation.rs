//! What an agent that is asked to end hears of its DaemonSet, by the rights that it is installed with.

use std::{sync::Arc, time::Duration};

use serde::Deserialize as _;
use serde_json::{Value, json};
use tokio::time::{Instant, timeout};
use weft_kubernetes::{Connection, Fate, Installation};
use weft_model::ObjectName;

use super::{
    api_server::{ApiServer, PATIENCE},
    objects::namespace,
    until,
};

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_is_replaced_unless_its_daemonset_goes_or_wants_the_node_no_longer() {
    let (server, installation) = installed().await;
    assert_eq!(installation.fate().await, Fate::Stays);
    server.apply(&daemonset(&json!({"disk": "ssd"}))).await;
    assert!(why(&installation).await.contains("wants this node no longer"));
    server.apply(&node(&json!({"disk": "ssd"}))).await;
    assert_eq!(installation.fate().await, Fate::Stays);
    server.delete(&node(&json!({}))).await;
    assert!(why(&installation).await.contains("no Node n1"));
    server.apply(&node(&json!({"disk": "ssd"}))).await;
    server.delete(&daemonset(&json!({}))).await;
    assert!(why(&installation).await.contains("weft is gone"));
    server.apply(&daemonset(&json!({}))).await;
    assert_eq!(installation.fate().await, Fate::Stays, "it is back: an update");
    // Nobody empties it here: it stays, as one that is being deleted does for a time.
    server.delete(&namespace("weft-system", &json!({}))).await;
    assert!(why(&installation).await.contains("namespace"));
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_takes_the_agents_rights_first_is_understood_all_the_same() {
    let (server, installation) = installed().await;
    let _following = Following::start(&installation);
    until("the watches have begun", async || installation.follows()).await;
    for binding in bindings() {
        server.delete(&binding).await;
    }
    // The API server's own copy of the rights lags behind.
    until("the rights are gone", async || matches!(installation.fate().await, Fate::Unknown { .. })).await;
    server.delete(&daemonset(&json!({}))).await;
    until("its end is told", async || matches!(installation.fate().await, Fate::Removed { .. })).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_api_server_that_is_away_is_no_removal_and_costs_little_time() {
    let (mut server, installation) = installed().await;
    server.kill();
    let began = Instant::now();
    assert!(matches!(installation.fate().await, Fate::Unknown { .. }));
    assert!(began.elapsed() < Duration::from_secs(8), "{:?}", began.elapsed());
}

async fn installed() -> (ApiServer, Arc<Installation>) {
    let server = ApiServer::start(&[]).await;
    server.apply(&namespace("weft-system", &json!({}))).await;
    for object in access() {
        server.apply(&object).await;
    }
    server.apply(&node(&json!({}))).await;
    server.apply(&daemonset(&json!({}))).await;
    let connection = Connection::Kubeconfig(server.kubeconfig("agent"));
    let installation = Installation::open(&connection, &ObjectName::new("weft-system", "weft"), "n1").await;
    let installation = Arc::new(installation.unwrap());
    until("the rights are known", async || installation.fate().await == Fate::Stays).await;
    (server, installation)
}

async fn why(installation: &Installation) -> String {
    match timeout(PATIENCE, installation.fate()).await.unwrap() {
        Fate::Removed { why } => why,
        other => panic!("{other:?}"),
    }
}

/// The watches of an agent, until it is dropped.
struct Following(tokio::task::JoinHandle<()>);

impl Following {
    fn start(installation: &Arc<Installation>) -> Self {
        #[expect(clippy::disallowed_methods, reason = "the test owns this task and ends it")]
        Self(tokio::spawn(installation.follow()))
    }
}

impl Drop for Following {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// What `weft install` prints of rights, for the user that the tests have.
fn access() -> Vec<Value> {
    let text = include_str!("../../../../deploy/install/access.yaml");
    let documents = serde_yaml::Deserializer::from_str(text);
    let mut objects: Vec<_> = documents.map(|document| Value::deserialize(document).unwrap()).collect();
    for object in &mut objects {
        if object.get("subjects").is_some() {
            object["subjects"] =
                json!([{"kind": "User", "name": "agent", "apiGroup": "rbac.authorization.k8s.io"}]);
        }
    }
    objects
}

fn bindings() -> impl Iterator<Item = Value> {
    access().into_iter().filter(|object| object.get("subjects").is_some())
}

fn node(labels: &Value) -> Value {
    json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n1", "labels": labels}})
}

fn daemonset(selector: &Value) -> Value {
    json!({
        "apiVersion": "apps/v1", "kind": "DaemonSet",
        "metadata": {"name": "weft", "namespace": "weft-system"},
        "spec": {
            "selector": {"matchLabels": {"app": "weft"}},
            "template": {
                "metadata": {"labels": {"app": "weft"}},
                "spec": {
                    "nodeSelector": selector,
                    "tolerations": [{"operator": "Exists"}],
                    "containers": [{"name": "agent", "image": "weft"}],
                },
            },
        },
    })
}
