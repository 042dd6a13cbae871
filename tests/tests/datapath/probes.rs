//! Probes of the kubelet.

use std::fs;
use std::io::{Read as _, Write as _};
use std::time::Duration;

use weft_tests::{Agent, Node, Pod, SocketRequest, eventually, soon, throughout};

use super::stage::{NOBODY, Stage, assert_reset_at_once, assert_untouched, from, listen, policy};

#[test]
fn a_probe_passes_deny_all_and_no_other_process_of_the_host_does() {
    let Some(stage) = Stage::open() else { return };
    let Stage { api, node, .. } = &stage;
    let (kubelet, other) = (node.host_process("kubelet"), node.host_process("sshd"));
    let _server = api.serve_name(8080, "api");
    node.apply("policy.yaml", &policy("shop/api", "ALLOW", NOBODY));
    let _agent = agent(node, &kubelet);
    let mut resets = 0;
    for to in [api.addr(8080), api.addr6(8080)] {
        assert_eq!(kubelet.ask(to).unwrap(), "api");
        resets += assert_reset_at_once(&other, to);
    }
    assert_eq!(node.stat("probes"), 2);
    // A late segment of an ended probe is nobody's: there may be more.
    assert!(node.stat("denied_lookup") >= resets as u64);
}

#[test]
fn no_policy_change_cuts_a_probe() {
    let Some(stage) = Stage::open() else { return };
    let Stage { api, node, .. } = &stage;
    let (kubelet, other) = (node.host_process("kubelet"), node.host_process("sshd"));
    let _server = api.serve_echo(8080);
    let _agent = agent(node, &kubelet);
    let [mut probe, mut plain] = [&kubelet, &other].map(|client| client.tcp_connect(api.addr(8080)).unwrap());
    stage.protect("ALLOW", NOBODY);
    stage.protect("ALLOW", &from("web/front"));
    assert!(plain.read(&mut [0; 8]).is_err(), "the host's other connection is reset");
    throughout(Duration::from_millis(500), || {
        probe.write_all(b"?").and_then(|()| probe.read_exact(&mut [0])).is_ok()
    });
}

#[test]
fn what_a_probe_leaves_behind_lets_nobody_in() {
    let Some(stage) = Stage::open() else { return };
    let Stage { api, node, .. } = &stage;
    let (kubelet, other) = (node.host_process("kubelet"), node.host_process("sshd"));
    node.apply("policy.yaml", &policy("shop/api", "ALLOW", NOBODY));
    let _agent = agent(node, &kubelet);
    // The probe fails: nobody listens yet.
    let request = SocketRequest::tcp(api.addr(8080)).from((kubelet.ip(), 41_000).into());
    assert!(kubelet.open(&request).is_err());
    assert_eq!(node.stat("probes"), 1);
    let listener = listen(api, 8080);
    assert!(other.open(&request).is_err(), "the same port of the same host");
    assert_untouched(&listener);
}

#[test]
fn a_kubelet_that_is_started_anew_in_a_group_that_was_made_anew_passes_again() {
    let Some(stage) = Stage::open() else { return };
    let Stage { api, node, .. } = &stage;
    let kubelet = node.host_process("kubelet");
    let _server = api.serve_name(8080, "api");
    node.apply("policy.yaml", &policy("shop/api", "ALLOW", NOBODY));
    let _agent = agent(node, &kubelet);
    assert_eq!(kubelet.ask(api.addr(8080)).unwrap(), "api");
    let group = kubelet.cgroup().to_owned();
    drop(kubelet);
    // As a service manager does when it has stopped the service.
    soon(|| fs::remove_dir(&group).is_ok());
    let kubelet = node.host_process("kubelet");
    assert_eq!(kubelet.cgroup(), group);
    eventually(Duration::from_secs(5), || kubelet.ask(api.addr(8080)).is_ok_and(|who| who == "api"));
    assert_reset_at_once(&node.host_process("sshd"), api.addr(8080));
}

fn agent(node: &Node, kubelet: &Pod) -> Agent {
    let agent = node.spawn_agent(&["--probe-cgroup", &kubelet.cgroup().display().to_string()]);
    node.wait();
    agent
}
