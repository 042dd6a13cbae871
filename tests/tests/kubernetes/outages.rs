//! What may be away or end without anybody's connection noticing. These do something to the machine's own cluster.

use std::thread;
use std::time::Duration;

use weft_tests::eventually;

use crate::agents::{self, Agent, PATIENCE, SYSTEM};
use crate::cluster;
use crate::load::{Load, Tally};
use crate::stage::{Echo, Stage, deployment};
use crate::wire::NodeWire;

#[test]
fn an_api_server_that_restarts_fails_no_request() {
    let [one, other] = cluster::two_nodes();
    let stage = routed("api-server", &one, &other);
    let wire = NodeWire::of(&one);
    let load = Load::start(&stage, "api", &one);
    let joined = joined(&stage, &load);
    cluster::of_this_machine(&["stop", "kube-apiserver"]);
    // Longer than anybody waits for it by himself.
    thread::sleep(Duration::from_secs(10));
    cluster::of_this_machine(&["restart", "kube-apiserver"]);
    eventually(PATIENCE, || cluster::kubectl(&["get", "nodes"]).is_ok());
    load.some_more(100);
    load.assert_whole_since(&joined);
    // And it is heard again: what is new holds.
    stage.apply(&TAGGED.replace("TAG", "again"));
    agents::enforced("httproutes", &stage.namespace, "api", |_| true);
    eventually(PATIENCE, || stage.answer("web", &["http://api/"]).says("x-tag") == Some("again"));
    load.assert_whole_since(&joined);
    wire.assert_sealed(&stage);
}

#[test]
fn a_containerd_that_restarts_fails_no_request() {
    let [one, other] = cluster::two_nodes();
    let stage = routed("containerd", &one, &other);
    let wire = NodeWire::of(&one);
    let load = Load::start(&stage, "api", &one);
    let joined = joined(&stage, &load);
    let before = Agent::on(&one).uid;
    for node in [&one, &other] {
        cluster::of_this_machine(&["restart", &format!("{node}.containerd")]);
    }
    eventually(PATIENCE, || stage.ask("web", &["http://api/"]).is_ok());
    load.some_more(100);
    load.assert_whole_since(&joined);
    wire.assert_sealed(&stage);
    assert_eq!(Agent::on(&one).uid, before, "pods outlive their runtime");
}

#[test]
fn an_agent_that_is_killed_comes_back_and_no_request_fails() {
    let [one, other] = cluster::two_nodes();
    let stage = routed("killed", &one, &other);
    let wire = NodeWire::of(&one);
    let load = Load::start(&stage, "api", &one);
    let joined = joined(&stage, &load);
    cluster::as_with_cgroup_v2();
    for node in [&one, &other] {
        let agent = Agent::on(node);
        let restarts = restarts(&agent);
        kill_agent(&agent);
        eventually(PATIENCE, || restarts_of(&agent.pod) > restarts);
        eventually(PATIENCE, || Agent::all().iter().any(|agent| agent.node == *node));
        load.some_more(50);
    }
    load.assert_whole_since(&joined);
    wire.assert_sealed(&stage);
}

#[test]
fn agents_whose_maps_have_another_layout_are_rolled_out_and_no_request_fails() {
    let [one, other] = cluster::two_nodes();
    let stage = routed("layout", &one, &other);
    let wire = NodeWire::of(&one);
    let load = Load::start(&stage, "api", &one);
    let joined = joined(&stage, &load);
    cluster::as_with_cgroup_v2();
    let before = [&one, &other].map(|node| Agent::on(node).status().schema);
    for (node, layout) in [&one, &other].into_iter().zip(before) {
        // As if the agents that run were of a build one of whose maps is of another size.
        let script = format!(
            "cd /sys/fs/bpf/weft/{node}/v{layout}/maps && rm weft_svc && bpftool map create $PWD/weft_svc \
             type hash key 24 value 99 entries 10 name weft_svc"
        );
        cluster::of_this_machine(&["exec", node, "sh", "-c", &script]);
    }
    cluster::ok(&["rollout", "restart", "daemonset/weft", "--namespace", SYSTEM]);
    cluster::ok(&["rollout", "status", "daemonset/weft", "--namespace", SYSTEM, "--timeout=180s"]);
    load.some_more(100);
    for (node, layout) in [&one, &other].into_iter().zip(before) {
        assert_eq!(Agent::on(node).status().schema, layout + 1, "{node}");
        let pinned = || cluster::of_this_machine(&["exec", node, "ls", &format!("/sys/fs/bpf/weft/{node}")]);
        eventually(PATIENCE, || pinned().trim() == format!("v{}", layout + 1));
    }
    load.some_more(50);
    load.assert_whole_since(&joined);
    wire.assert_sealed(&stage);
}

#[test]
fn controllers_that_are_killed_come_back_and_no_request_fails() {
    let [one, other] = cluster::two_nodes();
    let stage = routed("controllers", &one, &other);
    let wire = NodeWire::of(&one);
    let load = Load::start(&stage, "api", &one);
    let joined = joined(&stage, &load);
    let before = restarts_of_controllers();
    // All of them, with whoever leads.
    kill(&one, "$(pids '^/weft controller')");
    eventually(PATIENCE, || restarts_of_controllers() >= before + 2);
    load.some_more(100);
    load.assert_whole_since(&joined);
    // And somebody leads again: what is new is told of.
    stage.apply(&TAGGED.replace("TAG", "again"));
    eventually(2 * PATIENCE, || {
        let path =
            "--output=jsonpath={.metadata.generation} {.status.parents[*].conditions[*].observedGeneration}";
        let said = stage.kubectl(&["get", "httproute", "api", path]).unwrap_or_default();
        let mut generations = said.split_whitespace();
        let newest = generations.next().unwrap_or_default().to_owned();
        generations.clone().count() > 0 && generations.all(|generation| generation == newest)
    });
    load.assert_whole_since(&joined);
    wire.assert_sealed(&stage);
}

#[test]
fn a_proxy_that_is_killed_refuses_nobody_and_loses_only_what_it_carried() {
    let [one, other] = cluster::two_nodes();
    let stage = routed("proxy", &one, &other);
    let load = Load::start(&stage, "api", &one);
    joined(&stage, &load);
    for node in [&one, &other] {
        let restarts = || Agent::on(node).status().proxy.map_or(0, |proxy| proxy.restarts);
        let (before, failed) = (restarts(), load.tallies());
        kill(node, &format!("$(cat /sys/fs/cgroup/unified/weft-cluster/{node}/weft-proxy/cgroup.procs)"));
        eventually(PATIENCE, || restarts() > before);
        load.some_more(100);
        for (now, before) in load.tallies().iter().zip(&failed) {
            // One request at a time, and one that was tried again on the connection that it found broken.
            assert!(now.failed - before.failed <= 2, "{}", now.line);
            let is_refused =
                ["refused", "permission denied", "403", "503"].iter().any(|word| now.line.contains(word));
            assert!(!is_refused, "{}", now.line);
        }
    }
}

#[test]
fn a_pod_that_waits_for_its_agent_says_so_in_an_event_and_others_start() {
    let [one, _] = cluster::two_nodes();
    let (inside, outside) = (Stage::open("waits"), Stage::outside("starts"));
    let on = |name| Echo { node: Some(&one), ..Echo::new(name) };
    let hangs = Hanging::agent_of(&one);
    inside.apply(&deployment(&on("api")));
    outside.start(&[on("api")]);
    let events = || inside.kubectl(&["get", "events", "--output=jsonpath={.items[*].message}"]);
    let waits = "waits for the mesh: it must not start outside of it";
    eventually(PATIENCE, || events().is_ok_and(|all| all.contains(waits)));
    let ready = "--output=jsonpath={.items[*].status.conditions[?(@.type==\"Ready\")].status}";
    assert_eq!(inside.ok(&["get", "pods", ready]), "False");
    drop(hangs);
    inside.rolled_out("api");
    agents::enrolled(&inside.namespace, 1);
}

/// An agent that does nothing any more, until this is dropped.
struct Hanging {
    node: String,
}

impl Hanging {
    #[track_caller]
    fn agent_of(node: &str) -> Self {
        signal(node, "STOP", &agent_of(node));
        Self { node: node.to_owned() }
    }
}

impl Drop for Hanging {
    fn drop(&mut self) {
        signal(&self.node, "CONT", &agent_of(&self.node));
    }
}

/// What the load has to tell once its pod has joined the mesh, which is other tests' concern.
fn joined(stage: &Stage, load: &Load<'_>) -> Vec<Tally> {
    agents::enrolled(&stage.namespace, 4);
    load.some_more(50);
    load.tallies()
}

/// An app in two pods of two nodes, with a route, and a client. What the load asks is on its own node and on the other.
fn routed(name: &str, one: &str, other: &str) -> Stage {
    let stage = Stage::open(name);
    stage.start(&[
        Echo { node: Some(one), ..Echo::new("api") },
        Echo { app: "api", node: Some(other), ..Echo::new("api-far") },
        Echo { node: Some(other), ..Echo::new("web") },
    ]);
    stage.service("api", "app: api", "");
    stage.apply(&TAGGED.replace("TAG", "first"));
    agents::enforced("httproutes", &stage.namespace, "api", |_| true);
    stage
}

/// At once, as when memory runs out. The process is the node's, and so it is seen on the machine.
fn kill_agent(agent: &Agent) {
    kill(&agent.node, &agent_of(&agent.node));
}

/// The agent of the node, as [`signal`] finds it.
fn agent_of(node: &str) -> String {
    format!("$(pids '^/weft agent --node={node}')")
}

/// Ends these processes at once.
fn kill(node: &str, pids: &str) {
    signal(node, "KILL", pids);
}

/// Sends these processes a signal; `pids PATTERN` are those of containers whose command is like that.
fn signal(node: &str, signal: &str, pids: &str) {
    let script = format!(
        "pids() {{ for pid in $(cat /proc/[0-9]*/stat 2>/dev/null | awk '$2 == \"(weft)\" {{print $1}}'); do \
         tr '\\0' ' ' < /proc/$pid/cmdline | grep -q -- \"$1\" && echo $pid; done; }}; kill -{signal} {pids}"
    );
    cluster::of_this_machine(&["exec", node, "sh", "-c", &script]);
}

fn restarts_of_controllers() -> u64 {
    let path = "--output=jsonpath={.items[*].status.containerStatuses[*].restartCount}";
    let selector = "--selector=app.kubernetes.io/component=controller";
    let said = cluster::kubectl(&["get", "pods", "--namespace", SYSTEM, selector, path]).unwrap_or_default();
    said.split_whitespace().filter_map(|number| number.parse::<u64>().ok()).sum()
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
