//! What has to work before anything else is looked at: pods join as they run, a route splits, a policy refuses and says
//! why, and new agents take over under load.

use weft_tests::eventually;

use crate::agents::{self, Agent, PATIENCE, SYSTEM};
use crate::cluster;
use crate::load::Load;
use crate::stage::{Echo, ONLY_WEB, ROUTED, Stage};
use crate::wire::NodeWire;

#[test]
fn every_node_has_an_agent_that_enforces_what_the_api_server_says() {
    let agents = Agent::all();
    assert_eq!(agents.len(), cluster::nodes().len(), "one on each node");
    for agent in agents {
        let status = agent.status();
        assert_eq!(status.node, agent.node);
        assert!(status.source.as_ref().is_some_and(|source| source.synced), "{:?}", status.source);
        assert_eq!(status.enforced_version, status.snapshot_version, "{:?}", status.failure);
        assert!(
            status.programs.iter().any(|program| program.name == "weft_connect4"),
            "{:?}",
            status.programs
        );
    }
}

#[test]
fn a_label_brings_pods_into_the_mesh_as_they_run_and_out_of_it_again() {
    let [one, other] = cluster::two_nodes();
    let stage = Stage::outside("join");
    stage.start(&[
        Echo { node: Some(&one), ..Echo::new("api") },
        Echo { node: Some(&other), ..Echo::new("web") },
    ]);
    stage.service("api", "app: api", "");
    let load = Load::start(&stage, "api", &other);
    let before = pods_as_they_are(&stage);
    stage.enrol();
    agents::enrolled(&stage.namespace, 3);
    load.some_more(50);
    stage.ok(&["label", "namespace", &stage.namespace, "weft.dev/mesh-"]);
    agents::enrolled(&stage.namespace, 0);
    load.some_more(50);
    load.assert_whole();
    assert_eq!(pods_as_they_are(&stage), before, "nothing was started anew");
}

#[test]
fn a_route_splits_requests_from_the_moment_that_it_is_enforced() {
    let stage = Stage::two_versions("split");
    stage.apply(SPLIT);
    agents::enforced("httproutes", &stage.namespace, "api", |_| true);
    // Nothing is tried again: the first one counts.
    let answers = stage.answers("web", 200, &["http://api/"]);
    let to = |name: &str| answers.iter().filter(|answer| answer.is_of(name)).count();
    assert_eq!(to("api-v1") + to("api-v2"), 200);
    // Of 200 with p = 0.9, fewer than 162 or more than 196 come once in ten thousand runs.
    assert!((162..=196).contains(&to("api-v1")), "{} of 200", to("api-v1"));
    for answer in stage.answers("web", 20, &["http://api/", "-H", "x-canary:yes"]) {
        assert!(answer.is_of("api-v2"), "{}", answer.text);
        assert_eq!(answer.says("x-tested"), Some("yes"));
    }
}

#[test]
fn a_policy_refuses_whom_it_does_not_name_and_the_flows_say_why() {
    let [one, _] = cluster::two_nodes();
    let stage = Stage::open("deny");
    let on = |name| Echo { node: Some(&one), ..Echo::new(name) };
    stage.start(&[on("api"), on("web"), on("guest")]);
    stage.service("api", "app: api", "");
    agents::enrolled(&stage.namespace, 3);
    stage.apply(ONLY_WEB);
    agents::enforced("policies", &stage.namespace, "only-web", |_| true);
    for port in ["http://api/", "grpc://api:7070", "tcp://api:9090"] {
        assert!(stage.answer("web", &[port]).is_of("api"));
        let refused = stage.ask("guest", &[port]).map(|answer| answer.text);
        let refused = refused.expect_err("nobody but web may");
        assert!(refused.contains("permission denied") || refused.contains("connection refused"), "{refused}");
    }
    let guest = format!("{}/guest", stage.namespace);
    eventually(PATIENCE, || {
        let flows = Agent::on(&one).weft(&["observe", "--verdict", "DENIED", "--last", "1000"]);
        let flows = flows.unwrap_or_default();
        flows.lines().any(|line| line.contains(&guest) && line.contains("NotAllowed"))
    });
    stage.ok(&["delete", "authorizationpolicy", "only-web"]);
    eventually(PATIENCE, || stage.ask("guest", &["http://api/"]).is_ok());
}

#[test]
fn agents_are_replaced_under_load_and_no_request_fails() {
    let [one, other] = cluster::two_nodes();
    let stage = Stage::open("rollout");
    stage.start(&[
        Echo { node: Some(&one), ..Echo::new("api") },
        Echo { app: "api", node: Some(&other), ..Echo::new("api-far") },
    ]);
    stage.service("api", "app: api", "");
    stage.apply(ROUTED);
    let wire = NodeWire::of(&one);
    let load = Load::start(&stage, "api", &one);
    agents::enrolled(&stage.namespace, 3);
    agents::enforced("httproutes", &stage.namespace, "api", |_| true);
    load.some_more(50);
    // What it takes to join is another test's.
    let joined = load.tallies();
    cluster::as_with_cgroup_v2();
    let before: Vec<String> = Agent::all().into_iter().map(|agent| agent.uid).collect();
    cluster::ok(&["rollout", "restart", "daemonset/weft", "--namespace", SYSTEM]);
    cluster::ok(&["rollout", "status", "daemonset/weft", "--namespace", SYSTEM, "--timeout=180s"]);
    load.some_more(50);
    let after = Agent::all();
    assert!(after.iter().all(|agent| !before.contains(&agent.uid)), "all are new");
    assert_eq!(after.len(), before.len());
    load.assert_whole_since(&joined);
    wire.assert_sealed(&stage);
}

/// UID and restarts of each pod.
fn pods_as_they_are(stage: &Stage) -> String {
    let each = "{range .items[*]}{.metadata.uid} {.status.containerStatuses[*].restartCount}\n{end}";
    stage.ok(&["get", "pods", &format!("--output=jsonpath={each}")])
}

const SPLIT: &str = "
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: api}
spec:
  parentRefs: [{group: '', kind: Service, name: api, port: 80}]
  rules:
  - matches: [{headers: [{name: x-canary, value: 'yes'}]}]
    filters: [{type: ResponseHeaderModifier, responseHeaderModifier: {set: [{name: x-tested, value: 'yes'}]}}]
    backendRefs: [{name: api-v2, port: 80}]
  - backendRefs:
    - {name: api-v1, port: 80, weight: 90}
    - {name: api-v2, port: 80, weight: 10}
";
