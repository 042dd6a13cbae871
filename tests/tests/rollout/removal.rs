//! The mesh goes from nodes whose pods speak with each other.

use std::io::{Read as _, Write as _};

use nix::sys::signal::Signal;
use weft_tests::{manifests, soon};

use crate::stage::{FAR, ROUTED, Stage};

#[test]
fn nodes_that_leave_the_mesh_together_fail_no_request_and_leave_nothing() {
    let Some(mut stage) = Stage::open_with(&["--withdraw", "--withdraw-over", "8s"]) else { return };
    let (a, b) = (stage.a.clone(), stage.b.clone());
    // Who is let in by his identity, and only by mutual TLS, is let in until the end.
    let strict = "{targetRefs: [{group: \"\", kind: Pod, selector: {}}], mtls: {mode: Strict}}";
    let only_web = "{targetRefs: [{group: \"\", kind: Pod, selector: {matchLabels: {app: far}}}], action: ALLOW, \
                    rules: [{sources: [{type: ServiceAccount, serviceAccount: {namespace: shop, name: web}}]}]}";
    for node in [&a, &b] {
        node.apply("strict.yaml", &manifests::authentication_policy("shop/strict", strict));
        node.apply("policy.yaml", &manifests::authorization_policy("shop/only-web", only_web));
    }
    stage.settle();
    soon(|| stage.web.get(ROUTED, "/", &[]).is_ok_and(|answer| answer.status == 200));
    stage.balance_without_mesh();
    stage.loaded(|of_a, of_b, load| {
        of_a.signal(Signal::SIGTERM);
        // Nodes hear of it one after the other.
        load.some_more();
        of_b.signal(Signal::SIGTERM);
        for agent in [of_a, of_b] {
            soon(|| agent.log().contains("nothing is redirected any more"));
        }
        load.some_more();
    });
    // The proxies have carried the load's lasting connection to its end.
    assert!(stage.of_a.withdrawn().success());
    assert!(stage.of_b.withdrawn().success());
    assert_eq!(stage.web.ask(FAR).unwrap(), "far");
    for node in [&a, &b] {
        assert_eq!(node.traces(), Vec::<String>::new());
        assert!(!node.cgroup().join("weft-proxy").exists());
        assert!(!node.run_dir().exists() && !node.state_dir().exists());
    }
}

#[test]
fn what_the_proxy_carries_when_the_mesh_goes_is_carried_to_its_end() {
    let Some(mut stage) = Stage::open_with(&["--withdraw", "--withdraw-over", "0s"]) else { return };
    let _echo = stage.far.serve_echo(8083);
    let mut carried = stage.web.tcp_connect(stage.far.addr(8083)).unwrap();
    let mut echoes = |bytes: &[u8; 4]| {
        carried.write_all(bytes).unwrap();
        let mut back = [0; 4];
        carried.read_exact(&mut back).unwrap();
        assert_eq!(&back, bytes);
    };
    echoes(b"here");
    stage.of_a.signal(Signal::SIGTERM);
    let log = |text: &str| stage.of_a.log().contains(text);
    soon(|| log("nothing is redirected any more"));
    for _ in 0..100 {
        echoes(b"more");
    }
    drop(carried);
    assert!(stage.of_a.withdrawn().success());
    assert_eq!(stage.a.traces(), Vec::<String>::new());
}
