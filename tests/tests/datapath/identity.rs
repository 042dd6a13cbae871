//! Who a client is: proven by the kernel of this node, or known by its address only.

use weft_tests::{Node, soon};

use super::stage::{Stage, assert_eacces, assert_reset_at_once, from, pod, policy};

#[test]
fn an_identity_of_another_node_is_enough_to_deny_but_not_to_allow() {
    let Some(stage) = Stage::open() else { return };
    let Stage { front, api, node, world, .. } = &stage;
    let _server = api.serve_name(8080, "api");
    let other_node = world.node("b");
    // The same ServiceAccount as `web/front`.
    let far = other_node.pod("web/far").service_account("front").start();
    let plain = node.pod("web/plain").service_account("front").label("weft.dev/mesh", "disabled").start();
    world.apply("policy.yaml", &policy("shop/api", "ALLOW", &from("web/front")));
    let _agents = [node.agent(), other_node.agent()];

    assert_eq!(front.ask(api.addr(8080)).unwrap(), "api");
    let unproven = assert_reset_at_once(&far, api.addr(8080)) + assert_reset_at_once(&plain, api.addr6(8080));
    assert_eq!(reasons(node, unproven), vec!["IdentityUnproven"; unproven]);

    world.apply("policy.yaml", &policy("shop/api", "DENY", &from("web/front")));
    node.wait();
    assert_eacces(front.tcp_connect(api.addr(8080)));
    let denied =
        1 + assert_reset_at_once(&far, api.addr(8080)) + assert_reset_at_once(&plain, api.addr(8080));
    assert_eq!(reasons(node, unproven + denied)[unproven..], vec!["PolicyDenied"; denied]);
}

#[test]
fn a_star_stands_for_every_account_of_a_namespace_and_of_no_other() {
    let Some(stage) = Stage::open() else { return };
    let Stage { front, cron, api, node, .. } = &stage;
    let _server = api.serve_name(8080, "api");
    let db = pod(node, "shop/db");
    node.apply("policy.yaml", &policy("shop/api", "ALLOW", &from("web/*")));
    let _agent = node.agent();
    assert_eq!(front.ask(api.addr(8080)).unwrap(), "api");
    assert_eq!(cron.ask(api.addr(8080)).unwrap(), "api");
    assert_eacces(db.tcp_connect(api.addr(8080)));
    assert_eq!(reasons(node, 1), ["NotAllowed"]);
}

#[test]
fn a_pod_is_who_it_is_now_and_may_always_talk_to_itself() {
    let Some(stage) = Stage::open() else { return };
    let Stage { front, api, node, .. } = &stage;
    let _server = api.serve_name(8080, "api");
    node.apply("policy.yaml", &policy("shop/api", "ALLOW", &from("web/front")));
    let _agent = node.agent();
    for to in [api.addr(8080), api.addr6(8080), "127.0.0.1:8080".parse().unwrap()] {
        assert_eq!(api.ask(to).unwrap(), "api");
    }
    assert_eq!(front.ask(api.addr(8080)).unwrap(), "api");
    front.update(|manifest| manifest.service_account = "other".into());
    node.wait();
    assert_eacces(front.tcp_connect(api.addr(8080)));
}

/// Reasons of all refusals so far, once there are `count`.
#[track_caller]
fn reasons(node: &Node, count: usize) -> Vec<String> {
    let mut reasons = Vec::new();
    soon(|| {
        let flows = node.refusals();
        reasons = flows.iter().map(|flow| flow["reason"].as_str().unwrap_or_default().to_owned()).collect();
        reasons.len() == count
    });
    reasons
}
