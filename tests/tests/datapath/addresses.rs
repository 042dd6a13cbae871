//! A pod's addresses beside those of its object.

use std::{io::ErrorKind, net::SocketAddr};

use weft_tests::soon;

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

fn add(pod: &weft_tests::Pod, address: &str) {
    let done = pod.exec(&["ip", "address", "add", address, "dev", "eth0"]);
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
}
