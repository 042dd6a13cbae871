//! Maps of another layout under our names.

use std::fs;
use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::Command;

use weft_abi::SCHEMA;
use weft_tests::foreign::{Foreign, Sharing};
use weft_tests::{World, soon, text, while_connecting};

use crate::lifecycle::{entries, pins};
use crate::market::{self, API, Market, assert_not_balanced, assert_refused};

#[test]
fn another_layout_is_replaced_under_load_without_a_failed_connection() {
    let Some(mut market) = Market::open() else { return };
    let stream = market.web.tcp_connect(API).unwrap();
    let maps = version(SCHEMA, &market).join("maps");
    let Market { agent, web, node, .. } = &mut market;
    let tally = while_connecting(web, API, || {
        agent.stop();
        fs::remove_file(maps.join("weft_svc")).unwrap();
        make_map(&maps.join("weft_svc"));
        agent.start();
        node.wait();
    });
    assert_eq!(tally.failures, Vec::<String>::new());
    // Old sockets keep the address that they were translated to: the one that was open at the switch.
    assert!(tally.misnamed <= 1, "{tally:?}");
    assert!(tally.answered > 50, "{} connections are no load", tally.answered);
    market.assert_enforced();

    // What the old programs remember is needed for some seconds more.
    soon(|| entries(&pins(&market.node)) == [format!("v{}", SCHEMA + 1)].into());
    assert_eq!(market.node.weft_json(&["status"])["schema"], SCHEMA + 1);
    let links = |version: u32| entries(&self::version(version, &market).join("links")).len();
    let traces = market.node.traces();
    let linked = traces.iter().filter(|trace| trace.starts_with("link ")).count();
    assert_eq!(linked, links(SCHEMA + 1) + 3, "one link for each hook and pod: {traces:?}");
    assert!(!traces.iter().any(|trace| trace.starts_with("program ")), "{traces:?}");

    // What was open stays open, under the backend's address.
    assert_eq!(stream.peer_addr().unwrap(), market.api.addr(8080));

    market.agent.restart();
    assert_eq!(market.node.weft_json(&["status"])["schema"], SCHEMA + 1, "the next agent takes it over");
    market.assert_enforced();
}

#[test]
fn the_old_layout_stays_in_force_until_every_program_of_the_new_one_is_attached() {
    let Some(mut market) = Market::open() else { return };
    market.agent.stop();
    let maps = version(SCHEMA, &market).join("maps");
    fs::remove_file(maps.join("weft_svc")).unwrap();
    make_map(&maps.join("weft_svc"));
    // With the old layout's program, these are as many as a hook takes.
    let others: Vec<_> =
        (1..PROGRAMS).map(|_| Foreign::connect4(market.node.cgroup(), Sharing::Multi).unwrap()).collect();
    market.agent.start();
    market.node.wait();
    let told = |what: &str| market.node.degradations().iter().any(|line| line.contains(what));
    assert!(
        told("weft_connect4 cannot be attached") && told(&format!("layout v{SCHEMA}")),
        "{:?}",
        market.node.degradations()
    );
    // Connections go by the old layout's program, as they did.
    market.assert_enforced();
    let versions = || entries(&pins(&market.node));
    let both = [SCHEMA, SCHEMA + 1].map(|version| format!("v{version}"));
    assert_eq!(versions(), both.clone().into());

    // Everything else follows the configuration, and no program of the old layout stands in its way.
    market.world.apply("service.yaml", &market::service("10.96.0.2"));
    market.world.apply("policy.yaml", &market::policy("thief"));
    market.node.wait();
    let mapped = |last: u8| SocketAddr::from((Ipv4Addr::new(10, 96, 0, last).to_ipv6_mapped(), 80));
    assert_eq!(market.thief.ask(mapped(2)).unwrap(), "api");
    assert_refused(&market.web, mapped(2));
    assert_not_balanced(&market.thief, mapped(1));

    drop(others);
    soon(|| versions() == [both[1].clone()].into());
    assert!(!told("weft_connect4") && !told(&format!("layout v{SCHEMA}")));
    assert_eq!(market.thief.ask("10.96.0.2:80".parse().unwrap()).unwrap(), "api");
    assert_refused(&market.web, "10.96.0.2:80".parse().unwrap());
}

#[test]
fn the_old_layout_protects_a_pod_that_the_new_one_cannot() {
    let Some(mut market) = Market::open() else { return };
    market.agent.stop();
    let maps = version(SCHEMA, &market).join("maps");
    fs::remove_file(maps.join("weft_pod")).unwrap();
    make_map(&maps.join("weft_pod"));
    let others: Vec<_> = (1..PROGRAMS).map(|_| Foreign::passing_lookup(&market.api).unwrap()).collect();
    market.agent.start();
    let status = || text(&market.node.weft(&["status"]));
    soon(|| status().contains("pod shop/api cannot be protected"));
    let outsider = market.node.pod("shop/outsider").outsider().start();
    let reset = || outsider.tcp_connect(market.api.addr(8080)).map(drop).map_err(|error| error.kind());
    assert_eq!(reset(), Err(ErrorKind::ConnectionRefused), "by the old layout's program");

    drop(others);
    market.node.wait();
    let versions = || entries(&pins(&market.node));
    soon(|| versions() == [format!("v{}", SCHEMA + 1)].into());
    assert_eq!(reset(), Err(ErrorKind::ConnectionRefused));
    market.assert_enforced();
}

#[test]
fn a_strangers_map_under_our_name_is_left_unused() {
    let Some(world) = World::new() else { return };
    let node = world.node("a");
    let maps = pins(&node).join(format!("v{SCHEMA}/maps"));
    fs::create_dir_all(&maps).unwrap();
    make_map(&maps.join("weft_pod"));
    let _agent = node.agent();
    assert_eq!(node.weft_json(&["status"])["schema"], SCHEMA + 1);
    assert_eq!(entries(&pins(&node)), [format!("v{}", SCHEMA + 1)].into());
}

fn version(version: u32, market: &Market) -> std::path::PathBuf {
    pins(&market.node).join(format!("v{version}"))
}

/// As many programs as a hook takes: `BPF_CGROUP_MAX_PROGS` of a cgroup, and as many of a network namespace.
const PROGRAMS: usize = 64;

/// A map that is none of ours, whatever its name.
fn make_map(pin: &Path) {
    let mut bpftool = Command::new("bpftool");
    bpftool.args(["map", "create"]).arg(pin);
    bpftool.args(["type", "hash", "key", "24", "value", "99", "entries", "10", "name", "weft_svc"]);
    let output = bpftool.output().unwrap();
    assert!(output.status.success(), "{}", text(&output));
}
