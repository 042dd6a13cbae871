//! A pod's addresses beside those of its object.

use std::{
    io::ErrorKind,
    net::{Ipv6Addr, SocketAddr, SocketAddrV6},
};

use serde_json::Value;
use weft_tests::{Pod, soon};

use super::stage::{Stage, assert_reset_at_once, from};

#[test]
fn a_second_address_is_no_way_round_a_pods_policies() {
    let Some(stage) = Stage::open() else { return };
    let Stage { api, node, .. } = &stage;
    let _server = api.serve_name(8080, "api");
    let outsider = node.pod("x/outsider").outsider().start();
    add(api, "10.77.50.9/16");
    let _agent = node.agent();
    stage.protect("ALLOW", &from("web/front"));
    let second: SocketAddr = "10.77.50.9:8080".parse().unwrap();
    assert_reset_at_once(&outsider, second);

    // One that comes while the agent runs is seen at its next look.
    add(api, "10.77.50.10/16");
    let third: SocketAddr = "10.77.50.10:8080".parse().unwrap();
    // (A connection that is let in may be ended by the policy's second look, which is another error.)
    let refused = || outsider.ask(third).is_err_and(|error| error.kind() == ErrorKind::ConnectionRefused);
    soon(refused);
    assert_reset_at_once(&outsider, third);

    stage.unprotect();
    assert_eq!(outsider.ask(second).unwrap(), "api");
}

#[test]
fn the_address_that_every_link_gives_a_pod_is_closed_and_says_why() {
    let Some(stage) = Stage::open() else { return };
    let Stage { api, node, .. } = &stage;
    let _listener = api.tcp_listen((Ipv6Addr::UNSPECIFIED, 8080).into()).unwrap();
    let outsider = node.pod("x/outsider").outsider().start();
    let (own, scope) = (link_local(api), interface(&outsider));
    let to = SocketAddrV6::new(own, 8080, 0, scope).into();
    // (Until the link's own check for another such address is over, nobody answers at it.)
    soon(|| outsider.tcp_connect(to).is_ok());

    let _agent = node.agent();
    stage.protect("ALLOW", &from("web/front"));
    assert_reset_at_once(&outsider, to);
    let refused =
        |flow: &Value| flow["reason"] == "UnknownAddress" && flow["destination"]["ip"] == own.to_string();
    soon(|| node.refusals().iter().any(refused));
    // The pod itself may use it.
    let from_within = SocketAddrV6::new(own, 8080, 0, interface(api)).into();
    assert!(api.tcp_connect(from_within).is_ok());
}

pub(super) fn link_local(pod: &Pod) -> Ipv6Addr {
    let shown = pod.exec(&["ip", "-6", "-o", "address", "show", "dev", "eth0", "scope", "link"]).stdout;
    let shown = String::from_utf8(shown).unwrap();
    let address = shown.split_whitespace().find_map(|word| word.strip_suffix("/64"));
    address.expect("a link that is up has an address").parse().unwrap()
}

/// The number of the pod's `eth0`, which a link-local address needs.
pub(super) fn interface(pod: &Pod) -> u32 {
    let shown = String::from_utf8(pod.exec(&["ip", "-o", "link", "show", "dev", "eth0"]).stdout).unwrap();
    shown.split(':').next().unwrap().parse().unwrap()
}

fn add(pod: &Pod, address: &str) {
    let done = pod.exec(&["ip", "address", "add", address, "dev", "eth0"]);
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
}
