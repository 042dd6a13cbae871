//! What agents report, and what becomes of it in the statuses of objects.

use std::{net::SocketAddr, sync::Arc, time::Instant};

use http::Method;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::sync::watch;
use weft_identity::controller::{ControllerError, Controllers, Roots, host};
use weft_model::{Generations, PROGRAMMED, ReportAnswer, Told};
use weft_tests::World;

use super::{
    agent::{own_address, publish},
    process::Controller,
    stage::{Stage, pod},
    until,
};

/// The part of a node's agent that reports.
struct Reporter {
    controllers: Controllers,
    /// What each controller knows.
    told: Vec<(SocketAddr, Told)>,
    _folder: TempDir,
    _addresses: watch::Sender<Arc<[SocketAddr]>>,
    _roots: watch::Sender<Result<Arc<Roots>, Arc<str>>>,
}

impl Reporter {
    /// With this token.
    async fn new(stage: &Stage, token: &str, controllers: &[&Controller]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        std::fs::write(&path, token).unwrap();
        let addresses: Arc<[SocketAddr]> = controllers.iter().map(|controller| controller.address).collect();
        let told = addresses.iter().map(|address| (*address, Told::default())).collect();
        let (addresses, found) = watch::channel(addresses);
        let (roots, trusted) = watch::channel(Ok(Arc::new(stage.bundle().await)));
        let controllers = Controllers::new(host("weft-system"), path, found, trusted);
        Self { controllers, told, _folder: folder, _addresses: addresses, _roots: roots }
    }

    /// Tells everybody that these generations are in force, until each has understood.
    async fn report(&mut self, generations: &[(&str, i64)]) -> Result<(), ControllerError> {
        let generations: Generations = generations.iter().map(|(name, at)| ((*name).into(), *at)).collect();
        let generations = Arc::new(generations);
        for (address, told) in &mut self.told {
            while let Some(report) = told.due(&generations, None, Instant::now()) {
                let body = serde_json::to_vec(&report).unwrap();
                let answer = self.controllers.ask_at(*address, Method::POST, PROGRAMMED, body.into()).await?;
                let answer: ReportAnswer = serde_json::from_slice(&answer).unwrap();
                told.answered(report, &generations, answer, Instant::now());
            }
        }
        Ok(())
    }

    /// This one is gone.
    fn forget(&mut self, controller: &Controller) {
        self.told.retain(|(address, _)| *address != controller.address);
    }
}

fn policy(request: &str) -> Value {
    json!({"apiVersion": "weft.dev/v1alpha1", "kind": "TrafficPolicy", "metadata": {"name": "web", "namespace": "shop"},
        "spec": {"targetRefs": [{"kind": "Service", "name": "web"}], "timeouts": {"request": request}}})
}

/// The pod of the agent of `node`, labelled as such.
fn agent(node: &str) -> Value {
    let mut agent = pod("weft-system", &format!("weft-{node}"), "weft-agent", node);
    agent["metadata"]["labels"] =
        json!({"app.kubernetes.io/name": "weft", "app.kubernetes.io/component": "agent"});
    agent
}

/// With our CRDs, pods of agents that are labelled as such, a Service and a policy for it.
async fn stage() -> Stage {
    let stage = Stage::open().await;
    for crd in weft_kubernetes::crds() {
        stage.server.apply(&crd).await;
    }
    for node in ["n1", "n2"] {
        stage.server.apply(&agent(node)).await;
    }
    let service = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web", "namespace": "shop"},
        "spec": {"ports": [{"name": "http", "port": 80}]}});
    stage.server.apply(&service).await;
    until("the kind is served", async || stage.server.try_apply(&policy("1s")).await).await;
    stage
}

/// The condition Programmed of the policy: its reason, and its message.
async fn programmed(stage: &Stage) -> (String, String) {
    let policies = stage.server.list("weft.dev/v1alpha1", "TrafficPolicy").await;
    let conditions = policies[0].pointer("/status/ancestors/0/conditions").and_then(Value::as_array).cloned();
    let mut conditions = conditions.unwrap_or_default().into_iter();
    let condition = conditions.find(|condition| condition["type"] == "Programmed").unwrap_or_default();
    let text = |field: &str| condition[field].as_str().unwrap_or_default().to_owned();
    if condition["observedGeneration"] == policies[0]["metadata"]["generation"] {
        (text("reason"), text("message"))
    } else {
        Default::default()
    }
}

async fn says(stage: &Stage, reason: &str, message: &str) {
    let expected = (reason.to_owned(), message.to_owned());
    until(message, async || programmed(stage).await == expected).await;
}

const POLICY: &str = "TrafficPolicy shop/web";

#[tokio::test(flavor = "multi_thread")]
async fn an_object_is_programmed_when_every_node_has_said_so_with_its_own_token() {
    let stage = stage().await;
    let (first, second) = (stage.controller().await, stage.controller().await);
    says(&stage, "Reconciling", "0/2 nodes").await;
    let mut n1 = Reporter::new(&stage, &stage.agent_token("n1").await, &[&first, &second]).await;
    let mut n2 = Reporter::new(&stage, &stage.agent_token("n2").await, &[&first, &second]).await;
    n1.report(&[(POLICY, 1)]).await.unwrap();
    says(&stage, "Reconciling", "1/2 nodes").await;
    // Twice the same node is one node.
    let mut again = Reporter::new(&stage, &stage.agent_token("n1").await, &[&first, &second]).await;
    again.report(&[(POLICY, 1)]).await.unwrap();
    n2.report(&[]).await.unwrap();
    assert_eq!(programmed(&stage).await.1, "1/2 nodes");
    n2.report(&[(POLICY, 1)]).await.unwrap();
    says(&stage, "Programmed", "2/2 nodes").await;

    // Whoever has no agent's token is not heard.
    let mut nobody = Reporter::new(&stage, &stage.token(Some("weft-ca"), None).await, &[&first]).await;
    let refused = nobody.report(&[(POLICY, 1)]).await;
    assert!(
        matches!(refused, Err(ControllerError::Said { ref reason, .. }) if reason == "TokenUnbound"),
        "{refused:?}"
    );

    // The next leader knows at once what nodes have: all replicas were told.
    let leads = |controller: &Controller| controller.log().contains("leads=true");
    assert!(leads(&first) != leads(&second), "one of them leads");
    let (leader, other) = if leads(&first) { (first, second) } else { (second, first) };
    for reporter in [&mut n1, &mut n2] {
        reporter.forget(&leader);
    }
    drop(leader);
    stage.server.apply(&policy("2s")).await;
    n1.report(&[(POLICY, 2)]).await.unwrap();
    says(&stage, "Reconciling", "1/2 nodes").await;
    n2.report(&[(POLICY, 2)]).await.unwrap();
    says(&stage, "Programmed", "2/2 nodes").await;
    assert!(leads(&other));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_policy_is_programmed_when_the_kernel_of_its_node_has_it() {
    let Some(world) = World::new() else { return };
    let stage = stage().await;
    for node in ["n1", "n2"] {
        stage.server.delete(&agent(node)).await;
    }
    let node = world.node("a");
    let name = node.name().to_owned();
    stage.server.apply(&json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}})).await;
    stage.server.apply(&agent(&name)).await;
    let controller = stage.controller_at(own_address()).await;
    publish(&stage, &[&controller]).await;
    says(&stage, "Reconciling", "0/1 nodes").await;

    let token = stage.folder.path().join("token");
    std::fs::write(&token, stage.agent_token(&name).await).unwrap();
    let (kubeconfig, token) = (stage.server.kubeconfig("admin"), token.display().to_string());
    let running =
        node.spawn_agent(&["--kubeconfig", &kubeconfig.display().to_string(), "--ca-token", &token]);
    says(&stage, "Programmed", "1/1 nodes").await;
    let began = Instant::now();
    stage.server.apply(&policy("2s")).await;
    says(&stage, "Programmed", "1/1 nodes").await;
    eprintln!("a change was told to be in force after {:?}", began.elapsed());
    drop(running);
}
