//! The authority is rotated under running agents and proxies.

use std::time::Duration;

use weft_tests::{Node, eventually, text};

use crate::stage::{SOON, Stage, certificates, proxy_pid, serial, valid, wait_for_proxy};

#[test]
fn a_new_issuer_and_a_new_root_reach_agents_and_proxies_and_nobody_is_ever_without_a_certificate() {
    let Some(stage) = Stage::open("30s") else { return };
    let Stage { near, other, authority, agents, .. } = &stage;
    wait_for_proxy(near, 2);
    wait_for_proxy(other, 1);
    let processes = |node| (proxy_pid(node), agents.each_ref().map(weft_tests::Agent::pid));
    let before = [near, other].map(processes);

    let issuer = issuer_of(near);
    assert!(authority.rotate(&["issuer"]).status.success());
    eventually(SOON, || [near, other].iter().all(|node| issuer_of(node) != issuer));
    renewed(&stage);

    assert!(authority.rotate(&["root"]).status.success());
    // Refused for as long as a certificate of the old root may live.
    let early = authority.rotate(&["root", "--finish", "--overlap", "30s"]);
    assert_eq!(early.status.code(), Some(1), "{}", text(&early));
    eventually(SOON, || [near, other].iter().all(|node| certificates(node)["roots"] == 2));
    wait_for_proxy(near, 2);
    wait_for_proxy(other, 1);
    eventually(Duration::from_secs(90), || {
        assert_eq!([valid(near), valid(other)], [vec!["api", "web"], vec!["far"]]);
        authority.rotate(&["root", "--finish", "--overlap", "30s"]).status.success()
    });
    eventually(SOON, || [near, other].iter().all(|node| certificates(node)["roots"] == 1));
    renewed(&stage);
    assert_eq!([near, other].map(processes), before, "nothing was restarted");
}

/// Waits until `web` and `far` have other certificates, and their proxies have them; nobody is without one meanwhile.
#[track_caller]
fn renewed(stage: &Stage) {
    let Stage { near, other, .. } = stage;
    for (node, account, count) in [(near, "web", 2), (other, "far", 1)] {
        let first = serial(node, account);
        eventually(SOON, || {
            assert_eq!(valid(node).len(), count);
            serial(node, account) != first
        });
        wait_for_proxy(node, count as u64);
    }
}

fn issuer_of(node: &Node) -> String {
    certificates(node)["issuer"]["serial"].as_str().unwrap_or_default().to_owned()
}
