//! Network namespaces come and go under the agent.

use std::fs;
use std::io::{ErrorKind, Read as _, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::Value;
use weft_abi::SCHEMA;
use weft_tests::foreign::Foreign;
use weft_tests::{Agent, Node, Pod, World, eventually, manifests, soon, throughout};

use crate::lifecycle::{entries, pins};
use crate::market::{self, API, Market, assert_not_balanced, assert_refused};
use crate::metrics::is_ready;
use crate::restart::{list, table};

#[test]
fn a_namespace_whose_path_goes_away_is_let_go_of_within_a_second_and_dies() {
    let Some(market) = Market::open() else { return };
    let (agent, node) = (&market.agent, &market.node);
    let namespace = market.thief.netns().id().inode();
    let cookie = market.thief.netns().cookie().unwrap().to_string();
    let devices = ports(&market.world);
    assert!(held(agent, namespace) > 0 && linked(node, &cookie));
    market.thief.vanish();
    eventually(Duration::from_secs(1), || held(agent, namespace) == 0 && !linked(node, &cookie));
    // The other end of its veth goes when nothing at all holds it: no socket, no descriptor, no link. The
    // kernel takes its time for that.
    soon(|| ports(&market.world) == devices - 1);
    eventually(Duration::from_secs(1), || state(node, "shop/thief") == "Waiting");
    let detail = pod(node, "shop/thief")["detail"].to_string();
    assert!(detail.contains("not there yet"), "{detail}");
}

#[test]
fn a_namespace_that_is_not_there_yet_is_waited_for_and_a_new_one_is_enrolled_anew() {
    let Some(world) = World::new() else { return };
    let node = world.node("a");
    world.apply("namespace.yaml", &manifests::namespace("shop", true));
    world.apply("service.yaml", &market::service("10.96.0.1"));
    world.apply("policy.yaml", &market::policy("web"));
    let web = node.pod("shop/web").service_account("web").start();
    let thief = node.pod("shop/thief").start();
    let start = || node.pod("shop/api").label("app", "api").start();
    start().vanish();
    let _agent = node.agent();
    assert_eq!(state(&node, "shop/api"), "Waiting");
    for _ in 0..2 {
        let api = start();
        let _server = api.serve_name(8080, "api");
        eventually(Duration::from_secs(1), || linked(&node, &api.netns().cookie().unwrap().to_string()));
        eventually(Duration::from_secs(1), || state(&node, "shop/api") == "Enforced");
        assert_eq!(web.ask(API).unwrap(), "api");
        assert_refused(&thief, API);
        api.vanish();
        eventually(Duration::from_secs(1), || state(&node, "shop/api") == "Waiting");
    }
}

#[test]
fn a_namespace_that_is_there_and_cannot_be_opened_keeps_what_is_enforced_in_it() {
    let Some(mut market) = Market::open() else { return };
    let outsider = market.node.pod("shop/outsider").outsider().start();
    let link = market.world.dir().join("netns-of-api");
    let lead = |to: &Path| {
        let draft = link.with_extension("draft");
        std::os::unix::fs::symlink(to, &draft).unwrap();
        fs::rename(draft, &link).unwrap();
    };
    let enforced = |market: &Market| {
        market.assert_enforced();
        let reset = outsider.tcp_connect(market.api.addr(8080)).map(drop).map_err(|error| error.kind());
        assert_eq!(reset, Err(ErrorKind::ConnectionRefused), "by the program in the namespace");
    };
    lead(&market.api.netns_path());
    market.api.update(|manifest| manifest.netns.clone_from(&link));
    market.node.wait();
    assert_eq!(state(&market.node, "shop/api"), "Enforced");

    // A link that leads to itself can be opened by nobody.
    lead(&link);
    eventually(Duration::from_secs(1), || state(&market.node, "shop/api") == "Waiting");
    let detail = pod(&market.node, "shop/api")["detail"].to_string();
    assert!(detail.contains("symbolic links"), "{detail}");
    enforced(&market);
    market.agent.kill();
    market.agent.restart();
    assert_eq!(state(&market.node, "shop/api"), "Waiting");
    enforced(&market);

    lead(&market.api.netns_path());
    eventually(Duration::from_secs(1), || state(&market.node, "shop/api") == "Enforced");
    enforced(&market);
}

#[test]
fn a_pod_that_cannot_be_protected_keeps_the_agent_from_being_ready() {
    let Some(mut market) = Market::open() else { return };
    market.agent.cleanup();
    // As many programs as a namespace takes.
    let others: Vec<_> = (0..64).map(|_| Foreign::passing_lookup(&market.api).unwrap()).collect();
    market.agent.start();
    let refused = || market.node.http("/readyz").is_ok_and(|answer| answer.contains("shop/api"));
    soon(refused);
    let answer = market.node.http("/readyz").unwrap();
    assert!(answer.starts_with("HTTP/1.0 503") && answer.contains("cannot be protected"), "{answer}");
    assert!(market.node.http("/healthz").unwrap().starts_with("HTTP/1.0 200"));
    assert!(!market.node.weft(&["status", "--wait", "1s"]).status.success());

    drop(others);
    soon(|| is_ready(&market.node));
    market.assert_enforced();
}

#[test]
fn who_reaches_a_server_from_a_pod_that_cannot_be_protected_is_reported_by_the_server() {
    let Some(mut market) = Market::open() else { return };
    market.agent.cleanup();
    let _others: Vec<_> = (0..64).map(|_| Foreign::passing_lookup(&market.web).unwrap()).collect();
    market.world.apply("policy.yaml", "");
    market.agent.start();
    let refused = || market.node.http("/readyz").is_ok_and(|answer| answer.contains("shop/web"));
    soon(refused);
    let stream = market.web.tcp_connect(market.api.addr(8080)).unwrap();
    let port = stream.local_addr().unwrap().port();
    let kinds = |kind: &str| {
        let flows = market.node.flows(&["--pod", "shop/api"]);
        flows.iter().filter(|flow| flow["kind"] == kind && flow["source"]["port"] == port).count()
    };
    soon(|| kinds("opened") == 1);
    drop(stream);
    soon(|| kinds("closed") == 1);
}

#[test]
fn of_two_pods_that_name_one_namespace_the_older_has_it_and_the_other_is_a_problem() {
    let Some(mut market) = Market::open() else { return };
    let outsider = market.node.pod("shop/outsider").outsider().start();
    let netns = market.api.netns_path();
    let path = netns.display();
    // Before `api` by name, and made later; it lies about an address of the namespace too.
    let twin = format!(
        "{{apiVersion: v1, kind: Pod, metadata: {{namespace: shop, name: a-twin, \
         creationTimestamp: \"2026-01-02T00:00:00Z\", annotations: {{weft.dev/netns: \"{path}\"}}}}, \
         spec: {{nodeName: {}}}, status: {{podIPs: [{{ip: 10.77.50.9}}]}}}}",
        market.node.name()
    );
    let add = ["ip", "address", "add", "10.77.50.9/16", "dev", "eth0"];
    assert!(market.api.exec(&add).status.success());
    market.api.update(|manifest| manifest.created = Some("2026-01-01T00:00:00Z".into()));
    market.world.apply("twin.yaml", &twin);
    market.node.wait();
    let enforced = |market: &Market| {
        market.assert_enforced();
        for to in [market.api.addr(8080), "10.77.50.9:8080".parse().unwrap()] {
            let reset = outsider.tcp_connect(to).map(drop).map_err(|error| error.kind());
            assert_eq!(reset, Err(ErrorKind::ConnectionRefused), "{to}");
        }
        assert_eq!(state(&market.node, "shop/api"), "Enforced");
        assert_eq!(state(&market.node, "shop/a-twin"), "Waiting");
        let status = market.node.weft_json(&["status"]);
        let [problem] = list(&status, "problems").as_slice() else { panic!("{status}") };
        assert_eq!((&problem["severity"], &problem["object"]), (&"Error".into(), &"Pod shop/a-twin".into()));
        assert_eq!(problem["field"], "metadata.annotations[weft.dev/netns]");
        let said = problem["message"].as_str().unwrap();
        assert!(said.contains("Pod shop/api") && said.contains(&path.to_string()), "{said}");
        assert!(problem["remedy"].as_str().unwrap().contains("of its own"), "{problem}");
    };
    enforced(&market);
    market.agent.restart();
    enforced(&market);

    // Nobody changes places while both stay, whatever else is applied.
    market.world.apply("other.yaml", &manifests::namespace("other", true));
    market.node.wait();
    enforced(&market);
    market.world.remove("twin.yaml");
    market.node.wait();
    assert_eq!(list(&market.node.weft_json(&["status"]), "problems"), &Vec::<Value>::new());
    market.assert_enforced();
}

/// 50 pods, or the 500 of the promise with `WEFT_SOAK` set.
#[test]
fn pods_that_come_and_go_leave_nothing_behind_across_restarts() {
    let Some(mut market) = Market::open() else { return };
    let base = measure(&market);
    let rounds = if std::env::var_os("WEFT_SOAK").is_some() { 100 } else { 10 };
    for round in 0..rounds {
        let name = |i: u32| format!("shop/short-{round}-{i}");
        let pods: Vec<Pod> = (0..5).map(|i| market.node.pod(&name(i)).start()).collect();
        if round % 3 == 0 {
            market.agent.kill();
            market.agent.start();
        }
        if round % 2 == 0 {
            market.node.wait();
        }
        pods.into_iter().for_each(Pod::delete);
    }
    market.node.wait();
    soon(|| measure(&market) == base);
    market.assert_enforced();
}

#[test]
fn the_next_pod_of_an_address_inherits_nothing() {
    let Some(market) = Market::open() else { return };
    let ip = market.web.ip().to_string();
    let ip6 = market.web.ip6().to_string();
    assert_eq!(market.web.ask(API).unwrap(), "api");
    market.web.delete();
    market.node.wait();
    assert!(!table(&market.node, "pods").iter().any(|row| row["ip"] == ip), "the old identity is gone first");

    let heir = market.node.pod("shop/heir").enrolled(false).ip(&ip).ip6(&ip6).outsider().start();
    // They know the address by its last owner's MAC.
    assert!(market.api.exec(&["ip", "neigh", "flush", "dev", "eth0"]).status.success());
    let refused = |to| heir.tcp_connect(to).map(drop).map_err(|error| error.raw_os_error());
    let to = market.api.addr(8080);
    assert_eq!(refused(to), Err(Some(libc::ECONNREFUSED)), "it is nobody");
    assert_eq!(refused(market.api.addr6(8080)), Err(Some(libc::ECONNREFUSED)));
    assert_not_balanced(&heir, API);
}

#[test]
fn enrolling_and_withdrawing_a_running_pod_cuts_no_connection() {
    let Some(market) = Market::open() else { return };
    let Market { web, api, node, .. } = &market;
    let mut stream = web.tcp_connect(API).unwrap();
    stream.read_exact(&mut [0; 4]).unwrap();
    let mut echo = || {
        stream.write_all(b"ping").unwrap();
        stream.read_exact(&mut [0; 4]).is_ok()
    };
    for _ in 0..2 {
        for client in [web, api] {
            client.update(|manifest| manifest.enrol_as("disabled"));
            node.wait();
            throughout(Duration::from_millis(100), &mut echo);
            let cookie = client.netns().cookie().unwrap().to_string();
            assert!(!linked(node, &cookie));
            client.update(|manifest| manifest.enrol_as("enabled"));
            node.wait();
            throughout(Duration::from_millis(100), &mut echo);
            assert!(linked(node, &cookie));
        }
    }
    market.assert_enforced();
}

#[test]
fn a_withdrawn_pod_is_neither_balanced_nor_protected() {
    let Some(market) = Market::open() else { return };
    let Market { web, thief, api, node, .. } = &market;
    web.update(|manifest| manifest.enrol_as("disabled"));
    node.wait();
    assert_not_balanced(web, API);
    let refused = web.tcp_connect(api.addr(8080)).map(drop).map_err(|error| error.raw_os_error());
    assert_eq!(refused, Err(Some(libc::ECONNREFUSED)), "not attested");
    api.update(|manifest| manifest.enrol_as("disabled"));
    node.wait();
    assert_eq!(thief.ask(API).unwrap(), "api", "not protected");
    assert_eq!(web.ask(api.addr(8080)).unwrap(), "api");
}

/// What must not grow: namespaces, veths, pins, links, and the agent's descriptors.
fn measure(market: &Market) -> (usize, usize, Vec<String>, usize) {
    let namespaces = entries(Path::new("/run/netns"));
    let namespaces = namespaces.iter().filter(|name| name.starts_with(&format!("{}-", market.world.name())));
    (namespaces.count(), ports(&market.world), market.node.traces(), descriptors(&market.agent).len())
}

/// How many ends of veths the world's bridge has.
fn ports(world: &World) -> usize {
    let fabric = format!("{}-fabric", world.name());
    let output =
        Command::new("ip").args(["-n", &fabric, "-o", "link", "show", "type", "veth"]).output().unwrap();
    String::from_utf8_lossy(&output.stdout).lines().count()
}

/// How many descriptors of the agent are a namespace.
fn held(agent: &Agent, namespace: u64) -> usize {
    let files = descriptors(agent).into_iter().filter_map(|link| fs::metadata(link).ok());
    files.filter(|file| file.ino() == namespace).count()
}

fn descriptors(agent: &Agent) -> Vec<PathBuf> {
    let links = fs::read_dir(format!("/proc/{}/fd", agent.pid().unwrap())).unwrap().flatten();
    links.map(|link| link.path()).collect()
}

fn linked(node: &Node, cookie: &str) -> bool {
    entries(&pins(node).join(format!("v{SCHEMA}/netns"))).contains(cookie)
}

fn state(node: &Node, name: &str) -> String {
    pod(node, name)["state"].as_str().unwrap().to_owned()
}

fn pod(node: &Node, name: &str) -> Value {
    let status = node.weft_json(&["status"]);
    let found = list(&status, "pods").iter().find(|pod| pod["name"] == name);
    found.unwrap_or_else(|| panic!("no {name} in {status}")).clone()
}
