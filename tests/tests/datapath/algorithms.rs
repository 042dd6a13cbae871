//! How connections are spread over endpoints.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{ErrorKind, Read as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

use weft_tests::{Node, Pod, World, manifests, soon};

use crate::backends::{Backend, answers, at, counts};

#[test]
fn connections_are_spread_evenly_at_random() {
    let Some(world) = World::new() else { return };
    let node = world.node("a");
    let web = node.pod("shop/web").start();
    let pods: Vec<_> =
        (1..=5).map(|i| node.pod(&format!("shop/api-{i}")).label("app", "api").start()).collect();
    let listeners: Vec<_> = pods.iter().map(listen).collect();
    node.apply("api.yaml", &service("api", ""));
    let _agent = node.agent();
    let counts = spread(&web, API, 10_000, &listeners);
    let p = p_of_equal_shares(&counts);
    assert!(p > 0.001, "{counts:?} have p = {p}");
}

#[test]
fn round_robin_takes_each_endpoint_in_turn() {
    let Some(world) = World::new() else { return };
    let node = world.node("a");
    let web = node.pod("shop/web").start();
    let other = node.pod("shop/other").start();
    let api = Backend::several(&node, "api", 4);
    node.apply("api.yaml", &service("api", ""));
    node.apply("turns.yaml", &traffic_policy("{type: RoundRobin}"));
    let _agent = node.agent();
    let round: Vec<_> = (0..4).map(|_| web.ask(API).unwrap()).collect();
    assert_eq!(BTreeSet::from_iter(round.clone()).len(), api.len(), "{round:?}");
    for turn in 0..20 {
        // The turn is the Service's on this node, whoever comes.
        let client = if turn % 3 == 0 { &other } else { &web };
        assert_eq!(client.ask(API).unwrap(), round[turn % 4]);
    }
}

#[test]
fn least_request_prefers_the_endpoint_with_fewer_open_connections() {
    let Some(world) = World::new() else { return };
    let node = world.node("a");
    let web = node.pod("shop/web").start();
    let _api = Backend::several(&node, "api", 2);
    node.apply("api.yaml", &service("api", ""));
    node.apply("least.yaml", &traffic_policy("{type: LeastRequest}"));
    let _agent = node.agent();
    let mut held: BTreeMap<String, Vec<TcpStream>> = BTreeMap::new();
    for _ in 0..40 {
        let (name, stream) = greeted(&web, API);
        held.entry(name).or_default().push(stream);
    }
    let open: Vec<_> = held.values().map(Vec::len).collect();
    assert!(open.len() == 2 && open[0].abs_diff(open[1]) <= 6, "40 held connections: {open:?}");

    // One endpoint has none left, the other some 20. A draw of two finds the idle one by 3 of 4.
    held.remove("api-1");
    soon(|| open_connections(&node) == open[1] as u64);
    let counts = counts(&web, API, 200);
    assert!(counts["api-1"] > 120, "{counts:?}");

    drop(held);
    soon(|| open_connections(&node) == 0);
    // What never came about is not counted as open: a third endpoint refuses.
    let _refusing = node.pod("shop/api-3").label("app", "api").start();
    node.wait();
    let refused = (0..60).filter(|_| web.tcp_connect(API).is_err()).count();
    assert!(refused > 0);
    soon(|| open_connections(&node) == 0);
}

#[test]
fn a_consistent_hash_keeps_each_client_at_its_endpoint() {
    let Some(world) = World::new() else { return };
    let node = world.node("a");
    let clients: Vec<_> = (1..=10).map(|i| node.pod(&format!("shop/web-{i}")).start()).collect();
    let mut api = Backend::several(&node, "api", 5);
    node.apply("api.yaml", &service("api", ""));
    node.apply("hash.yaml", &traffic_policy("{type: ConsistentHash, consistentHash: {type: SourceIP}}"));
    let mut agent = node.agent();
    let home = |client: &Pod| {
        let mut homes = answers(client, API, 8).into_iter();
        let (home, other) = (homes.next().unwrap(), homes.next());
        assert_eq!(other, None, "a client of {home} was elsewhere too");
        home
    };
    let before: Vec<_> = clients.iter().map(home).collect();
    assert!(BTreeSet::from_iter(&before).len() > 1, "{before:?}");

    agent.kill();
    assert_eq!(clients.iter().map(home).collect::<Vec<_>>(), before);
    agent.restart();
    assert_eq!(clients.iter().map(home).collect::<Vec<_>>(), before);

    let gone = api.iter().position(|backend| backend.name == before[0]).unwrap();
    api.remove(gone).pod.forget();
    node.wait();
    let after: Vec<_> = clients.iter().map(home).collect();
    assert!(!after.contains(&before[0]));
    let stayed = before.iter().zip(&after).filter(|(old, _)| **old != before[0]);
    let moved = stayed.clone().filter(|(old, new)| old != new).count();
    assert!(moved <= 1, "{moved} of {} clients moved though their endpoint stayed", stayed.count());
}

#[test]
fn client_ip_affinity_lasts_until_the_client_was_silent_for_its_timeout() {
    let Some(world) = World::new() else { return };
    let node = world.node("a");
    let clients: Vec<_> = (1..=7).map(|i| node.pod(&format!("shop/web-{i}")).start()).collect();
    let _api = Backend::several(&node, "api", 5);
    node.apply("api.yaml", &service("api", AFFINITY));
    let _agent = node.agent();
    let homes = || clients.iter().map(|client| client.ask(API).unwrap()).collect::<Vec<_>>();
    let first = homes();
    assert_eq!(answers(&clients[0], API, 100).len(), 1);
    assert!(BTreeSet::from_iter(&first).len() > 1, "seven clients at one of five endpoints: {first:?}");
    // Silence is what is tested: asking meanwhile would prolong it.
    thread::sleep(SHORTER);
    assert_eq!(homes(), first);
    thread::sleep(SHORTER);
    assert_eq!(homes(), first, "the time counts from the last connection");
    thread::sleep(TIMEOUT + Duration::from_millis(200));
    let second = homes();
    assert_ne!(second, first, "none of seven clients was given another endpoint");
    assert_eq!(homes(), second);
}

#[test]
fn affinity_does_not_hold_a_client_at_an_endpoint_that_left() {
    let Some(world) = World::new() else { return };
    let node = world.node("a");
    let web = node.pod("shop/web").start();
    let api = Backend::several(&node, "api", 2);
    node.apply("api.yaml", &service("api", AFFINITY));
    let _agent = node.agent();
    for round in 0..3 {
        let home = web.ask(API).unwrap();
        let (used, other) = if home == api[0].name { (&api[0], &api[1]) } else { (&api[1], &api[0]) };
        used.pod.update(|pod| pod.terminating = true);
        node.wait();
        assert_eq!(answers(&web, API, 10), BTreeSet::from([other.name.clone()]), "round {round}");
        used.pod.update(|pod| pod.terminating = false);
        node.wait();
        // It is as good as new, and the client has a home.
        assert_eq!(answers(&web, API, 10), BTreeSet::from([other.name.clone()]), "round {round}");
    }
    // Two that terminate serve while there is no other; who comes back is used at once.
    for backend in &api {
        backend.pod.update(|pod| pod.terminating = true);
    }
    node.wait();
    let home = web.ask(API).unwrap();
    let back = api.iter().find(|backend| backend.name != home).unwrap();
    back.pod.update(|pod| pod.terminating = false);
    node.wait();
    assert_eq!(answers(&web, API, 10), BTreeSet::from([back.name.clone()]));
}

#[test]
fn a_route_splits_connections_by_weight_and_refuses_the_share_of_a_missing_service() {
    let Some(world) = World::new() else { return };
    let node = world.node("a");
    let web = node.pod("shop/web").start();
    let old: Vec<_> =
        (1..=2).map(|i| node.pod(&format!("shop/old-{i}")).label("app", "old").start()).collect();
    let new = node.pod("shop/new").label("app", "new").start();
    let listeners = [listen(&old[0]), listen(&old[1]), listen(&new)];
    let objects = [
        service("api", ""),
        service("old", "").replace("10.96.0.1", "10.96.0.2"),
        service("new", "").replace("10.96.0.1", "10.96.0.3"),
    ];
    node.apply("services.yaml", &manifests::documents(&objects));
    node.apply(
        "route.yaml",
        &route("[{name: old, port: 80, weight: 90}, {name: new, port: 80, weight: 10}]"),
    );
    let _agent = node.agent();
    let counts = spread(&web, API, 3000, &listeners);
    let share = f64::from(u32::try_from(counts[2]).unwrap()) / 30.0;
    assert!((8.0..=12.0).contains(&share), "{share} % of 3000 connections, asked for 10");
    assert!(counts[0].abs_diff(counts[1]) < 300, "within a Service all are equal: {counts:?}");

    node.apply_and_wait("route.yaml", &route("[{name: gone, port: 80}, {name: new, port: 80, weight: 0}]"));
    for _ in 0..20 {
        assert_eq!(web.tcp_connect(API).unwrap_err().kind(), ErrorKind::ConnectionRefused);
    }
    node.apply_and_wait(
        "route.yaml",
        &route("[{name: gone, port: 80, weight: 1}, {name: new, port: 80, weight: 1}]"),
    );
    let refused = (0..1000).filter(|_| match web.tcp_connect(API) {
        Ok(_) => false,
        Err(error) => error.kind() == ErrorKind::ConnectionRefused,
    });
    let refused = refused.count();
    assert!((400..=600).contains(&refused), "{refused} of 1000 connections were refused, asked for half");
    assert_eq!(drain(&listeners)[2], 1000 - refused);
    // The Services themselves are as they were.
    assert_eq!(spread(&web, at("10.96.0.3:80"), 20, &listeners), [0, 0, 20]);
}

#[test]
fn a_round_robin_of_weights_gives_each_its_share() {
    let Some(world) = World::new() else { return };
    let node = world.node("a");
    let web = node.pod("shop/web").start();
    let _old = Backend::start(&node, "old", "old");
    let _new = Backend::start(&node, "new", "new");
    let objects = [
        service("api", ""),
        service("old", "").replace("10.96.0.1", "10.96.0.2"),
        service("new", "").replace("10.96.0.1", "10.96.0.3"),
        traffic_policy("{type: RoundRobin}"),
        route("[{name: old, port: 80, weight: 3}, {name: new, port: 80, weight: 1}]"),
    ];
    node.apply("services.yaml", &manifests::documents(&objects));
    let _agent = node.agent();
    let counts = counts(&web, API, 400);
    assert_eq!(counts.values().sum::<usize>(), counts["new"] + counts["old"]);
    assert!(counts["new"].abs_diff(100) <= 8, "{counts:?}");
}

#[test]
fn least_request_holds_open_connections_to_the_weights() {
    let Some(world) = World::new() else { return };
    let node = world.node("a");
    let web = node.pod("shop/web").start();
    let _old = Backend::start(&node, "old", "old");
    let _new = Backend::start(&node, "new", "new");
    let objects = [
        service("api", ""),
        service("old", "").replace("10.96.0.1", "10.96.0.2"),
        service("new", "").replace("10.96.0.1", "10.96.0.3"),
        traffic_policy("{type: LeastRequest}"),
        route("[{name: old, port: 80, weight: 3}, {name: new, port: 80, weight: 1}]"),
    ];
    node.apply("services.yaml", &manifests::documents(&objects));
    let _agent = node.agent();
    let held: Vec<_> = (0..120).map(|_| greeted(&web, API)).collect();
    let new = held.iter().filter(|(name, _)| name == "new").count();
    // A quarter is 30. Without the weights two draws of one and three quarters end at 52.
    assert!((20..=40).contains(&new), "{new} of 120 held connections, asked for a quarter");
}

fn service(name: &str, more: &str) -> String {
    let ports = "[{port: 80, targetPort: 8080}]";
    manifests::service(
        &format!("shop/{name}"),
        &format!("{{clusterIP: 10.96.0.1, selector: {{app: {name}}}, ports: {ports}{more}}}"),
    )
}

fn traffic_policy(load_balancer: &str) -> String {
    let target = "{group: \"\", kind: Service, name: api}";
    manifests::traffic_policy(
        "shop/api",
        &format!("{{targetRefs: [{target}], loadBalancer: {load_balancer}}}"),
    )
}

fn route(backends: &str) -> String {
    let parent = "{group: \"\", kind: Service, name: api}";
    manifests::tcp_route(
        "shop/api",
        &format!("{{parentRefs: [{parent}], rules: [{{backendRefs: {backends}}}]}}"),
    )
}

fn listen(pod: &Pod) -> TcpListener {
    let listener = pod.tcp_listen(at("0.0.0.0:8080")).unwrap();
    listener.set_nonblocking(true).unwrap();
    listener
}

/// How many of `n` connections to `to` each listener got.
fn spread(client: &Pod, to: SocketAddr, n: usize, listeners: &[TcpListener]) -> Vec<usize> {
    let mut counts = vec![0; listeners.len()];
    let mut add = |drained: Vec<usize>| {
        counts.iter_mut().zip(drained).for_each(|(count, more)| *count += more);
        counts.iter().sum::<usize>()
    };
    for i in 0..n {
        let stream = client.tcp_connect(to).unwrap();
        // A reset: no port is kept busy after the connection.
        nix::sys::socket::setsockopt(&stream, nix::sys::socket::sockopt::Linger, &RESET).unwrap();
        if i % 500 == 0 {
            add(drain(listeners));
        }
    }
    soon(|| add(drain(listeners)) == n);
    counts
}

/// How many connections wait at each listener; they are closed.
fn drain(listeners: &[TcpListener]) -> Vec<usize> {
    listeners.iter().map(|listener| std::iter::from_fn(|| listener.accept().ok()).count()).collect()
}

/// A connection, and which backend greeted.
fn greeted(client: &Pod, to: SocketAddr) -> (String, TcpStream) {
    let mut stream = client.tcp_connect(to).unwrap();
    let mut name = [0; 16];
    let len = stream.read(&mut name).unwrap();
    (String::from_utf8_lossy(&name[..len]).trim_end().to_owned(), stream)
}

/// The open connections of all backends, as the kernel counts them.
fn open_connections(node: &Node) -> u64 {
    let backends = node.weft_json(&["bpf", "backends"]);
    // A number, or "-" for a backend that never had one.
    let open =
        |row: &serde_json::Value| row["open"].to_string().trim_matches('"').parse::<u64>().unwrap_or(0);
    backends.as_array().unwrap().iter().map(open).sum()
}

/// Pearson's chi-square test with four degrees of freedom, where the tail has a closed form.
fn p_of_equal_shares(counts: &[usize]) -> f64 {
    assert_eq!(counts.len(), 5);
    let counts: Vec<f64> = counts.iter().map(|count| f64::from(u32::try_from(*count).unwrap())).collect();
    let expected = counts.iter().sum::<f64>() / 5.0;
    let x: f64 = counts.iter().map(|count| (count - expected).powi(2) / expected).sum();
    (-x / 2.0).exp() * (1.0 + x / 2.0)
}

const API: SocketAddr =
    SocketAddr::V4(std::net::SocketAddrV4::new(std::net::Ipv4Addr::new(10, 96, 0, 1), 80));
const RESET: libc::linger = libc::linger { l_onoff: 1, l_linger: 0 };
const AFFINITY: &str = ", sessionAffinity: ClientIP, sessionAffinityConfig: {clientIP: {timeoutSeconds: 5}}";
const SHORTER: Duration = Duration::from_secs(4);
const TIMEOUT: Duration = Duration::from_secs(5);
