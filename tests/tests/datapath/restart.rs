//! Agents that end and begin under traffic.

use std::collections::BTreeSet;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;
use weft_abi::SCHEMA;
use weft_tests::{Node, Rush, Rushed, World, at_a_rate, manifests, soon, while_connecting};

use crate::lifecycle::{entries, pins};
use crate::market::{self, API, Market, assert_refused};

#[test]
fn restarts_under_load_fail_no_connection_and_show_every_dialled_address() {
    let Some(mut market) = Market::open() else { return };
    let mut stream = greeted(&market);
    let Market { agent, web, .. } = &mut market;
    let tally = while_connecting(web, API, || (0..5).for_each(|_| agent.restart()));
    assert_eq!((tally.failures, tally.misnamed), (Vec::new(), 0));
    assert!(tally.answered > 200, "{} connections are no load", tally.answered);
    assert_echoes(&mut stream);
    assert_eq!(stream.peer_addr().unwrap(), API);
    market.assert_enforced();
}

#[test]
fn programs_are_replaced_under_five_thousand_connections_a_second_and_none_of_them_fails() {
    let Some(mut market) = Market::open() else { return };
    let target = "{clusterIP: 10.96.0.7, selector: {app: api}, ports: [{port: 80, targetPort: 7777}]}";
    market.world.apply("rushed.yaml", &manifests::service("shop/rushed", target));
    market.node.wait();
    let listener = market.api.tcp_listen(market.api.addr(7777)).unwrap();
    let rush = Rush::start(&market.web, "10.96.0.7:80".parse().unwrap(), listener);
    let (done, replaced) = (AtomicBool::new(false), AtomicU32::new(0));
    thread::scope(|scope| {
        let agent = &mut market.agent;
        let replacing = scope.spawn(|| {
            // Each agent puts its own programs into the links of the one before.
            while !done.load(Ordering::Relaxed) || replaced.load(Ordering::Relaxed) < 3 {
                agent.restart();
                replaced.fetch_add(1, Ordering::Relaxed);
            }
        });
        let stop = Stop(&done);
        #[expect(clippy::cast_precision_loss, reason = "no test counts so far")]
        at_a_rate("connections", 5_000.0, || rush.so_far().made as f64);
        drop(stop);
        replacing.join().unwrap();
    });
    let Rushed { misnamed, failed, why, .. } = rush.so_far();
    assert_eq!((failed, &*why, misnamed), (0, "", 0));
}

/// Ends the other thread also when the test fails.
struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// For 8 s, or for the 60 s of the promise with `WEFT_SOAK` set.
#[test]
fn killing_the_agent_ten_times_a_second_fails_no_connection_and_leaks_nothing() {
    let Some(mut market) = Market::open() else { return };
    let time = if std::env::var_os("WEFT_SOAK").is_some() { 60 } else { 8 };
    let mut streams: Vec<_> = (0..10).map(|_| greeted(&market)).collect();
    let before = market.node.traces();
    let Market { agent, web, .. } = &mut market;
    agent.kill();
    let tally = while_connecting(web, API, || {
        let end = Instant::now() + Duration::from_secs(time);
        while Instant::now() < end {
            agent.start();
            thread::sleep(Duration::from_millis(100));
            agent.kill();
            streams.iter_mut().for_each(assert_echoes);
        }
    });
    assert_eq!((tally.failures, tally.misnamed), (Vec::new(), 0));
    market.agent.restart();
    market.assert_enforced();
    // The very same links, and no program beside those that they hold.
    soon(|| market.node.traces() == before);
}

#[test]
fn what_was_deleted_while_the_agent_was_down_is_gone_when_it_is_back() {
    let Some(mut market) = Market::open() else { return };
    let second = market.node.pod("shop/second").start();
    market.world.apply(
        "second.yaml",
        &manifests::service("shop/second", "{clusterIP: 10.96.0.2, ports: [{port: 80}]}"),
    );
    market.node.wait();
    let cookie = second.netns().cookie().unwrap().to_string();
    let linked = |node: &Node| entries(&pins(node).join(format!("v{SCHEMA}/netns"))).contains(&cookie);
    assert!(linked(&market.node) && frontends(&market.node).contains("10.96.0.2:80"));

    market.agent.kill();
    let ip = second.ip().to_string();
    second.delete();
    market.world.remove("second.yaml");
    market.world.apply("policy.yaml", &market::policy("thief"));
    assert!(market.thief.tcp_connect(API).is_err(), "nobody has told the kernel yet");

    market.agent.restart();
    assert!(!linked(&market.node), "its namespace has no link any more");
    assert_eq!(frontends(&market.node), ["10.96.0.1:80".to_owned()].into());
    assert!(
        !table(&market.node, "pods").iter().any(|row| row["ip"] == ip),
        "its address has no row any more"
    );
    assert_eq!(market.thief.ask(API).unwrap(), "api");
    assert_refused(&market.web, API);
}

#[test]
fn what_cannot_be_read_removes_nothing() {
    let Some(mut market) = Market::open() else { return };
    for broken in ["{ this is no: [ yaml\n", "kind: AuthorizationPolicy\n", "\u{0}"] {
        market.world.apply("policy.yaml", broken);
        market.world.apply("service.yaml", &market::service("no address"));
        market.node.wait();
        market.assert_enforced();
        let status = market.node.weft_json(&["status"]);
        let files: BTreeSet<_> =
            list(&status, "problems").iter().map(|problem| problem["file"].to_string()).collect();
        assert_eq!(files.len(), 2, "both files are reported: {status}");
        // Not in the agent's memory alone.
        market.agent.kill();
        market.agent.restart();
        market.assert_enforced();
    }
    market.world.apply("service.yaml", &market::service("10.96.0.1"));
    market.world.apply("policy.yaml", &market::policy("thief"));
    market.node.wait();
    assert_eq!(market.thief.ask(API).unwrap(), "api");
    assert_eq!(list(&market.node.weft_json(&["status"]), "problems"), &Vec::<Value>::new());
}

#[test]
fn what_was_broken_while_the_agent_was_down_removes_nothing_and_what_was_deleted_is_gone() {
    let Some(mut market) = Market::open() else { return };
    market.agent.stop();
    market.world.apply("policy.yaml", "apiVersion: weft.dev/v1alpha1\nkind: AuthorizationPolicy\nmetadata: {namespace: shop, name: api-clients}\nspec: {action: PERHAPS}\n");
    market.agent.restart();
    market.assert_enforced();

    market.agent.stop();
    market.world.remove("policy.yaml");
    market.agent.restart();
    assert_eq!(market.thief.ask(API).unwrap(), "api", "a policy that is deleted protects nothing");
}

#[test]
fn a_new_agent_waits_for_nothing_to_be_right_before_it_enforces_the_rest() {
    let Some(world) = World::new() else { return };
    let node = world.node("a");
    world.apply("broken.yaml", "kind: [");
    world.apply("namespace.yaml", &manifests::namespace("shop", true));
    world.apply("service.yaml", &market::service("10.96.0.1"));
    let web = node.pod("shop/web").start();
    let api = node.pod("shop/api").label("app", "api").start();
    let _server = api.serve_name(8080, "api");
    let _agent = node.agent();
    assert_eq!(web.ask(API).unwrap(), "api");
}

/// A connection of `web` to the Service that has read the greeting.
fn greeted(market: &Market) -> TcpStream {
    let mut stream = market.web.tcp_connect(API).unwrap();
    stream.read_exact(&mut [0; 4]).unwrap();
    stream
}

fn assert_echoes(stream: &mut TcpStream) {
    let mut echo = [0; 4];
    stream.write_all(b"ping").unwrap();
    stream.read_exact(&mut echo).unwrap();
    assert_eq!(&echo, b"ping");
}

/// The addresses that the kernel balances.
fn frontends(node: &Node) -> BTreeSet<String> {
    table(node, "services").iter().map(|row| row["frontend"].as_str().unwrap().to_owned()).collect()
}

/// The rows of `weft bpf <name>`.
pub(crate) fn table(node: &Node, name: &str) -> Vec<Value> {
    node.weft_json(&["bpf", name]).as_array().unwrap().clone()
}

/// A list in an answer.
pub(crate) fn list<'a>(answer: &'a Value, name: &str) -> &'a Vec<Value> {
    answer[name].as_array().unwrap_or_else(|| panic!("no {name} in {answer}"))
}
