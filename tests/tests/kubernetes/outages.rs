//! What may be away or end without anybody's connection noticing. These do something to the machine's own cluster.

use std::thread;
use std::time::Duration;

use weft_tests::eventually;

use crate::agents::{self, Agent, PATIENCE, SYSTEM};
use crate::cluster;
use crate::load::Load;
use crate::stage::{Echo, Stage};

#[test]
fn an_api_server_that_restarts_fails_no_request() {
    let [one, other] = cluster::two_nodes();
    let stage = routed("api-server", &one, &other);
    let load = Load::start(&stage, "api", &one);
    agents::enrolled(&stage.namespace, 3);
    cluster::of_this_machine(&["stop", "kube-apiserver"]);
    // Longer than anybody waits for it by himself.
    thread::sleep(Duration::from_secs(10));
    cluster::of_this_machine(&["restart", "kube-apiserver"]);
    eventually(PATIENCE, || cluster::kubectl(&["get", "nodes"]).is_ok());
    load.some_more(100);
    load.assert_whole();
    // And it is heard again: what is new holds.
    stage.apply(&TAGGED.replace("TAG", "again"));
    agents::enforced("httproutes", &stage.namespace, "api", |_| true);
    eventually(PATIENCE, || stage.answer("web", &["http://api/"]).says("x-tag") == Some("again"));
    load.assert_whole();
}

#[test]
fn a_containerd_that_restarts_fails_no_request() {
    let [one, other] = cluster::two_nodes();
    let stage = routed("containerd", &one, &other);
    let load = Load::start(&stage, "api", &one);
    agents::enrolled(&stage.namespace, 3);
    let before = Agent::on(&one).uid;
    for node in [&one, &other] {
        cluster::of_this_machine(&["restart", &format!("{node}.containerd")]);
    }
    eventually(PATIENCE, || stage.ask("web", &["http://api/"]).is_ok());
    load.some_more(100);
    load.assert_whole();
    assert_eq!(Agent::on(&one).uid, before, "pods outlive their runtime");
}

#[test]
fn an_agent_that_is_killed_comes_back_and_no_request_fails() {
    let [one, other] = cluster::two_nodes();
    let stage = routed("killed", &one, &other);
    let load = Load::start(&stage, "api", &one);
    agents::enrolled(&stage.namespace, 3);
    cluster::as_with_cgroup_v2();
    for node in [&one, &other] {
        let agent = Agent::on(node);
        let restarts = restarts(&agent);
        kill_agent(&agent);
        eventually(PATIENCE, || restarts_of(&agent.pod) > restarts);
        eventually(PATIENCE, || Agent::all().iter().any(|agent| agent.node == *node));
        load.some_more(50);
    }
    load.assert_whole();
}

/// An app in two pods of two nodes, with a route, and a client.
fn routed(name: &str, one: &str, other: &str) -> Stage {
    let stage = Stage::open(name);
    stage.start(&[
        Echo { node: Some(one), ..Echo::new("api") },
        Echo { node: Some(other), ..Echo::new("web") },
    ]);
    stage.service("api", "app: api", "");
    stage.apply(&TAGGED.replace("TAG", "first"));
    agents::enforced("httproutes", &stage.namespace, "api", |_| true);
    stage
}

/// At once, as when memory runs out. The process is the node's, and so it is seen on the machine.
fn kill_agent(agent: &Agent) {
    let script = format!(
        "for pid in $(cat /proc/[0-9]*/stat 2>/dev/null | awk '$2 == \"(weft)\" {{print $1}}'); do \
         tr '\\0' ' ' < /proc/$pid/cmdline | grep -q -- '^/weft agent --node={}' && kill -9 $pid; done; true",
        agent.node
    );
    cluster::of_this_machine(&["exec", &agent.node, "sh", "-c", &script]);
}

fn restarts(agent: &Agent) -> u64 {
    restarts_of(&agent.pod)
}

fn restarts_of(pod: &str) -> u64 {
    let path = "--output=jsonpath={.status.containerStatuses[?(@.name==\"agent\")].restartCount}";
    let said = cluster::kubectl(&["get", "pod", pod, "--namespace", SYSTEM, path]);
    said.ok().and_then(|number| number.trim().parse().ok()).unwrap_or_default()
}

const TAGGED: &str = "
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: api}
spec:
  parentRefs: [{group: '', kind: Service, name: api, port: 80}]
  rules:
  - filters: [{type: ResponseHeaderModifier, responseHeaderModifier: {set: [{name: x-tag, value: TAG}]}}]
    backendRefs: [{name: api, port: 80}]
";
