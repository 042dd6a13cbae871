//! What does not fit.

use std::fmt::Write as _;
use std::process::Command;
use std::thread;
use std::time::Duration;

use serde_json::Value;
use weft_abi::Slot;
use weft_tests::{Node, Suspended, manifests, soon, text};

use crate::backends::{Backend, answers, names};
use crate::market::{self, API, Market, assert_not_balanced, assert_refused};
use crate::metrics::is_ready;

#[test]
fn services_that_do_not_fit_are_refused_whole_and_the_old_state_stays() {
    let Some(market) = open_with(&["--map-size", "weft_backend=8"]) else { return };
    market.world.apply("many.yaml", &service_with_backends(9));
    market.world.apply("policy.yaml", &market::policy("thief"));
    assert_failed(&market.node, "weft_backend");
    market.assert_enforced();

    // What fits after all is enforced, and nobody has to do anything more about it.
    market.world.apply("many.yaml", &service_with_backends(7));
    market.node.wait();
    assert_recovered(&market.node);
    assert_eq!(market.thief.ask(API).unwrap(), "api");
}

#[test]
fn an_update_that_fits_only_once_others_are_gone_comes_then() {
    let Some(market) = open_with(&["--map-size", "weft_backend=8"]) else { return };
    for network in ["10.77.1.", "10.77.2.", "10.77.3.", "10.77.4."] {
        // What is replaced is in the kernel for a moment beside what replaces it: twice that is too much.
        market.world.apply("many.yaml", &service_with_backends(3).replace("10.77.9.", network));
        market.node.wait();
    }
    assert_recovered(&market.node);
    market.assert_enforced();
    market.world.apply("many.yaml", &service_with_backends(5));
    assert_failed(&market.node, "weft_backend");
    market.assert_enforced();
}

#[test]
fn policies_that_do_not_fit_are_refused_whole_and_the_old_ones_stay() {
    let Some(market) = open_with(&["--map-size", "weft_policy=64"]) else { return };
    let mut rules = String::new();
    for port in 1000..1100 {
        let _ = write!(rules, "{{networkAttributes: {{ports: [{}]}}}}, ", port * 2);
    }
    let target = "targetRefs: [{group: \"\", kind: Pod, selector: {matchLabels: {app: api}}}]";
    let many = manifests::authorization_policy(
        "shop/many",
        &format!("{{{target}, action: DENY, rules: [{rules}]}}"),
    );
    market.world.apply("many.yaml", &many);
    market.world.apply(
        "second.yaml",
        &manifests::service(
            "shop/second",
            "{clusterIP: 10.96.0.2, selector: {app: api}, ports: [{port: 80, targetPort: 8080}]}",
        ),
    );
    assert_failed(&market.node, "weft_policy");
    market.assert_enforced();
    assert_not_balanced(&market.web, "10.96.0.2:80".parse().unwrap());
    market.world.remove("many.yaml");
    market.node.wait();
    assert_recovered(&market.node);
    assert_eq!(market.web.ask("10.96.0.2:80".parse().unwrap()).unwrap(), "api");
}

#[test]
fn pods_that_do_not_fit_are_refused_whole_and_the_old_ones_stay() {
    let Some(market) = open_with(&["--map-size", "weft_pod=3"]) else { return };
    let fourth = market.node.pod("shop/fourth").start();
    market.world.apply("policy.yaml", &market::policy("thief"));
    assert_failed(&market.node, "weft_pod");
    market.assert_enforced();
    fourth.delete();
    market.node.wait();
    assert_recovered(&market.node);
    assert_eq!(market.thief.ask(API).unwrap(), "api");
}

#[test]
fn an_update_that_a_map_takes_half_of_changes_nothing_and_is_completed_or_taken_back() {
    let Some(market) = open_with(&["--map-size", "weft_slot=64"]) else { return };
    let node = &market.node;
    let written = || ["weft_slot", "weft_backend"].map(|map| rows(node, map));
    let before = written();
    // Somebody else's rows leave room for one: of the next generation, the second slot does not fit.
    let strange = 64 - before[0] - 1;
    (0..strange).for_each(|row| strangers_slot(node, "update", row));
    let more: Vec<_> = (1..=2).map(|i| Backend::start(node, "api", &format!("api-{i}"))).collect();
    assert_failed(node, "weft_slot");
    assert_eq!(answers(&market.web, API, 10), names(["api"]), "nobody sees half of it");

    // Taken back: what was written of it goes.
    let ready = |ready| more.iter().for_each(|one| one.pod.update(|manifest| manifest.ready = ready));
    ready(false);
    node.wait();
    soon(|| written() == before);

    // Completed, as soon as there is room.
    ready(true);
    assert_failed(node, "weft_slot");
    (0..strange).for_each(|row| strangers_slot(node, "delete", row));
    soon(|| is_ready(node));
    assert_eq!(answers(&market.web, API, 100), names(["api", "api-1", "api-2"]));
    soon(|| written() == before.map(|rows| rows + 2));
}

#[test]
fn an_agent_that_cannot_begin_what_it_reads_is_alive_and_not_ready() {
    let Some(market) = Market::open_with(|node| {
        let agent = node.spawn_agent(&["--map-size", "weft_pod_ip=1"]);
        soon(|| node.http("/healthz").is_ok());
        agent
    }) else {
        return;
    };
    assert_failed(&market.node, "weft_pod_ip");
    let answer = market.node.http("/readyz").unwrap();
    assert!(answer.starts_with("HTTP/1.0 503") && answer.contains("weft_pod_ip"), "{answer}");
    assert!(market.node.http("/healthz").unwrap().starts_with("HTTP/1.0 200"));
}

#[test]
fn a_full_ring_loses_events_and_never_a_verdict() {
    let Some(market) = open_with(&["--map-size", "weft_events=65536"]) else { return };
    let pid = market.agent.pid().expect("it runs");
    let suspended = Suspended::new(pid.try_into().expect("as the kernel has it"));
    for _ in 0..500 {
        assert_eq!(market.web.ask(API).unwrap(), "api");
        assert_refused(&market.thief, API);
    }
    drop(suspended);
    let lost = market.node.stat("events_lost");
    assert!(lost > 500, "{lost} events lost: 1500 do not fit into 64 KiB");
    let metric = market.node.metric("weft_kernel_events_total", &[r#"event="events_lost""#]);
    assert!(metric > 500.0, "{metric}");
    let flows = || market.node.flows(&["--pod", "shop/web"]);
    let connect = || {
        let stream = market.web.tcp_connect(API).unwrap();
        stream.local_addr().unwrap().port()
    };
    let is_seen = |port: u16| flows().iter().filter(|flow| flow["source"]["port"] == port).count() >= 2;
    // Once the agent has read what the ring has kept, everything is seen again.
    soon(|| {
        let port = connect();
        thread::sleep(Duration::from_millis(200));
        is_seen(port)
    });
    let (lost, port) = (market.node.stat("events_lost"), connect());
    soon(|| is_seen(port));
    assert_eq!(market.node.stat("events_lost"), lost);
}

fn open_with(arguments: &[&str]) -> Option<Market> {
    Market::open_with(|node| {
        let agent = node.spawn_agent(arguments);
        node.wait();
        agent
    })
}

/// The Service `shop/many` with so many endpoints.
fn service_with_backends(count: usize) -> String {
    let endpoints: Vec<_> = (1..=count).map(|i| format!("{{addresses: [10.77.9.{i}]}}")).collect();
    manifests::documents(&[
        manifests::service("shop/many", "{clusterIP: 10.96.0.9, ports: [{port: 80}]}"),
        manifests::endpoint_slice(
            "shop/many",
            "x",
            "IPv4",
            "[{port: 80}]",
            &format!("[{}]", endpoints.join(", ")),
        ),
    ])
}

/// Does `verb` to a row of `weft_slot` that is no frontend's.
#[track_caller]
fn strangers_slot(node: &Node, verb: &str, row: usize) {
    let mut key = [0xff; 16];
    key[8..].copy_from_slice(&row.to_le_bytes());
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>();
    let mut bpftool = Command::new("bpftool");
    bpftool.args(["map", verb, "pinned"]).arg(node.map_pin("weft_slot")).args(["key", "hex"]).args(hex(&key));
    if verb == "update" {
        bpftool.args(["value", "hex"]).args(hex(&[0; size_of::<Slot>()]));
    }
    let output = bpftool.output().unwrap();
    assert!(output.status.success(), "{}", text(&output));
}

/// How many rows a map has beside those of [`strangers_slot`].
fn rows(node: &Node, map: &str) -> usize {
    let dump = Command::new("bpftool").args(["-j", "map", "dump", "pinned"]).arg(node.map_pin(map)).output();
    let dump: Vec<Value> = serde_json::from_slice(&dump.unwrap().stdout).unwrap();
    let strange = |row: &&Value| row["key"].as_array().unwrap()[..8].iter().all(|byte| byte == "0xff");
    dump.len() - dump.iter().filter(strange).count()
}

/// Asserts that the update is refused because of `map`, and that everybody who asks is told.
#[track_caller]
fn assert_failed(node: &Node, map: &str) {
    let waited = node.weft(&["status", "--wait", "500ms"]);
    assert_eq!(waited.status.code(), Some(1), "{}", text(&waited));
    let status = node.weft(&["status", "-o", "json"]);
    assert_eq!(status.status.code(), Some(1), "an agent that failed is not healthy");
    let status: Value = serde_json::from_slice(&status.stdout).unwrap();
    let said = status["failure"].to_string();
    assert!(said.contains(&format!("map {map} is full")), "{status}");
    assert!(said.contains(&format!("--map-size {map}=")), "it says what to do: {said}");
    assert!(node.metric("weft_snapshot_version", &[]) > node.metric("weft_enforced_version", &[]));
    assert!(!is_ready(node));
}

#[track_caller]
fn assert_recovered(node: &Node) {
    let status = node.weft_json(&["status"]);
    assert!(status["failure"].is_null(), "{status}");
    assert_eq!(status["snapshotVersion"], status["enforcedVersion"]);
    assert!(is_ready(node));
}
