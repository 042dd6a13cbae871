//! What policies do to connections, and what a client sees of it.

use std::io::{Read as _, Write as _};
use std::time::Duration;

use weft_tests::{Pod, SocketRequest, eventually, manifests, soon};

use super::stage::{
    NOBODY, Stage, assert_eacces, assert_reset_at_once, assert_untouched, from, from_block, listen, pod,
    policy,
};

#[test]
fn everyone_gets_in_until_a_policy_selects_the_pod_and_again_when_it_goes() {
    let Some(stage) = Stage::open() else { return };
    let Stage { front, cron, api, node, .. } = &stage;
    let _server = api.serve_name(8080, "api");
    let outsider = node.pod("x/outsider").outsider().start();
    let _agent = node.agent();
    for client in [front, cron, &outsider] {
        assert_eq!(client.ask(api.addr(8080)).unwrap(), "api");
        assert_eq!(client.ask(api.addr6(8080)).unwrap(), "api");
    }

    stage.protect("ALLOW", &from("web/front"));
    assert_eq!(front.ask(api.addr(8080)).unwrap(), "api");
    assert_eq!(front.ask(api.addr6(8080)).unwrap(), "api");
    assert_eacces(cron.tcp_connect(api.addr(8080)));
    assert_eacces(cron.tcp_connect(api.addr6(8080)));
    assert_reset_at_once(&outsider, api.addr(8080));
    assert_reset_at_once(&outsider, api.addr6(8080));

    stage.unprotect();
    for client in [front, cron, &outsider] {
        assert_eq!(client.ask(api.addr(8080)).unwrap(), "api");
    }
}

#[test]
fn a_denied_client_of_this_node_gets_eacces_and_any_other_a_reset_at_once() {
    let Some(stage) = Stage::open() else { return };
    let Stage { front, api, node, world, .. } = &stage;
    let listener = listen(api, 8080);
    let udp = api.udp(([0, 0, 0, 0], 8080).into()).unwrap();
    let other_node = world.node("b");
    let remote = pod(&other_node, "web/remote");
    let plain = node.pod("web/plain").enrolled(false).label("weft.dev/mesh", "disabled").start();
    let outsider = node.pod("x/outsider").outsider().start();
    world.apply("policy.yaml", &policy("shop/api", "ALLOW", NOBODY));
    let _agents = [node.agent(), other_node.agent()];

    let mut resets = 0;
    for to in [api.addr(8080), api.addr6(8080)] {
        assert_eacces(front.tcp_connect(to));
        assert_eacces(front.open(&SocketRequest::tcp(to).non_blocking()));
        assert_eacces(front.udp_connect(to));
        for client in [&remote, &plain, &outsider] {
            resets += assert_reset_at_once(client, to);
        }
    }
    let mapped = (api.ip().to_ipv6_mapped(), 8080).into();
    assert_eacces(front.tcp_connect(mapped));
    let sender = front.udp(([0, 0, 0, 0], 0).into()).unwrap();
    assert_eacces(sender.send_to(b"?", api.addr(8080)));

    assert_untouched(&listener);
    udp.set_nonblocking(true).unwrap();
    assert!(udp.recv_from(&mut [0; 8]).is_err(), "no datagram reaches the app");
    assert_eq!(node.stat("denied_lookup"), resets as u64, "three clients, two families");
    assert_eq!(node.stat("denied_connect"), 8);
    assert_eq!(node.stat("denied_backstop"), 0);
}

#[test]
fn a_denied_client_of_a_service_gets_eacces_and_the_flow_says_why() {
    let Some(stage) = Stage::open() else { return };
    let Stage { front, cron, api, node, .. } = &stage;
    let _server = api.serve_name(8080, "api");
    node.apply("service.yaml", &service());
    node.apply("policy.yaml", &policy("shop/api", "DENY", &from("web/cron")));
    let _agent = node.agent();
    let service = "10.96.0.1:80".parse().unwrap();
    assert_eq!(front.ask(service).unwrap(), "api");
    assert_eacces(cron.tcp_connect(service));

    let mut flows = Vec::new();
    soon(|| {
        flows = node.refusals();
        !flows.is_empty()
    });
    assert_eq!(flows.len(), 1, "{flows:?}");
    let flow = &flows[0];
    assert_eq!(flow["reason"], "PolicyDenied");
    assert_eq!(flow["rule"], "shop/api rules[0]");
    assert_eq!(flow["source"]["pod"], "cron");
    assert_eq!(flow["destination"]["pod"], "api");
    assert_eq!(flow["destination"]["service"], "api");
}

#[test]
fn policies_hold_for_ports_services_namespaces_and_the_whole_mesh() {
    let Some(stage) = Stage::open() else { return };
    let Stage { front, cron, api, node, .. } = &stage;
    let db = pod(node, "shop/db");
    let ports = [8079, 8080, 8081, 8090, 8091];
    let _servers: Vec<_> = ports.iter().map(|port| api.serve_name(*port, "api")).collect();
    let _db = db.serve_name(8080, "db");
    node.apply("service.yaml", &service());
    let _agent = node.agent();
    let denied = |client: &Pod, to| client.ask(to).is_err();

    stage.protect("DENY", "[{networkAttributes: {ports: [8079], portRanges: [{start: 8081, end: 8090}]}}]");
    let closed: Vec<_> = ports.into_iter().filter(|port| denied(front, api.addr(*port))).collect();
    assert_eq!(closed, [8079, 8081, 8090], "single ports and ranges, both ends included");

    stage.protect("DENY", &from_block(&format!("{}/32", front.ip())));
    assert!(denied(front, api.addr(8080)));
    assert!(!denied(front, api.addr6(8080)), "another family, another block");
    assert!(!denied(cron, api.addr(8080)));
    stage.unprotect();

    let target = |policy: &str, target: &str| {
        let spec = format!("{{targetRefs: [{target}], action: DENY, rules: {}}}", from("web/*"));
        node.apply_and_wait("target.yaml", &manifests::authorization_policy(policy, &spec));
    };
    target("shop/behind", "{group: \"\", kind: Service, name: api}");
    assert!(denied(front, api.addr(8080)), "the pods behind a Service, however they are addressed");
    assert!(!denied(front, api.addr(8081)), "on its target ports");
    assert!(!denied(front, db.addr(8080)));

    target("shop/all", "{group: \"\", kind: Pod, selector: {}}");
    assert!(denied(front, api.addr(8081)) && denied(front, db.addr(8080)), "every pod of the namespace");
    assert!(!denied(api, db.addr(8080)), "from `web` only");

    target("weft-system/mesh", "{group: \"\", kind: Pod, selector: {}}");
    assert!(denied(cron, api.addr(8080)) && denied(cron, db.addr(8080)), "every pod of the mesh");
    assert!(!denied(api, db.addr(8080)));
}

#[test]
fn an_audited_policy_decides_nothing_and_is_counted_and_shown() {
    let Some(stage) = Stage::open() else { return };
    let Stage { front, cron, api, node, .. } = &stage;
    let _server = api.serve_name(8080, "api");
    let spec = policy("shop/api", "DENY", &from("web/cron")).replace("action:", "mode: Audit, action:");
    node.apply("policy.yaml", &spec);
    let _agent = node.agent();
    for _ in 0..3 {
        assert_eq!(cron.ask(api.addr(8080)).unwrap(), "api");
    }
    assert_eq!(front.ask(api.addr(8080)).unwrap(), "api");

    // A late segment of an ended connection is looked up as a SYN is: there may be more.
    assert!(node.stat("audited") >= 3);
    soon(|| node.flows(&["--verdict", "AUDIT"]).len() >= 3);
    for flow in node.flows(&["--verdict", "AUDIT"]) {
        assert_eq!(flow["reason"], "PolicyDenied", "{flow}");
        assert_eq!(flow["rule"], "shop/api rules[0]", "{flow}");
        assert_eq!(flow["source"]["pod"], "cron", "{flow}");
    }
    assert!(node.flows(&["--verdict", "DENIED"]).is_empty());
    soon(|| {
        let counted = u32::try_from(node.stat("audited")).unwrap();
        near(node.metric("weft_audited_total", &[]), f64::from(counted))
    });
    assert!(near(node.metric("weft_drops_total", &[]), 0.0));
}

#[test]
fn rules_about_requests_fail_closed() {
    let Some(stage) = Stage::open() else { return };
    let Stage { front, cron, api, node, .. } = &stage;
    let _server = api.serve_name(8080, "api");
    let requests = ", httpAttributes: {methods: [GET]}}]";
    let rule =
        |account: &str| from(account).strip_suffix("}]").map(|rule| format!("{rule}{requests}")).unwrap();
    node.apply("policy.yaml", &policy("shop/api", "ALLOW", &rule("web/front")));
    let _agent = node.agent();
    // What is no request, the node's proxy refuses.
    let hears = |pod: &Pod| {
        let mut stream = pod.tcp_connect(api.addr(8080))?;
        stream.set_read_timeout(Some(Duration::from_secs(20)))?;
        stream.write_all(b"\0")?;
        stream.read_exact(&mut [0])
    };
    assert!(hears(front).is_err());
    stage.protect("DENY", &rule("web/front"));
    soon(|| hears(cron).is_ok());
    assert!(hears(front).is_err());
}

#[test]
fn a_policy_of_ten_thousand_rules_takes_hold_at_once_and_whole() {
    let Some(stage) = Stage::open() else { return };
    let Stage { front, cron, api, node, .. } = &stage;
    let _server = api.serve_name(8080, "api");
    let _agent = node.agent();
    let block = |i: u32| format!("{{type: CIDR, cidr: 10.{}.{}.0/24}}", 100 + i / 250, i % 250);
    let many = |last: &str, salt: u32| {
        let blocks = (0..9_999).map(|i| format!("{{sources: [{}]}}", block(i + salt)));
        let rules: Vec<_> = blocks.chain([format!("{{sources: [{last}]}}")]).collect();
        policy("shop/api", "DENY", &format!("[{}]", rules.join(", ")))
    };
    let account =
        |name: &str| format!("{{type: ServiceAccount, serviceAccount: {{namespace: web, name: {name}}}}}");
    node.apply_and_wait("policy.yaml", &many(&account("front"), 0));
    assert_eacces(front.tcp_connect(api.addr(8080)));
    assert_eq!(cron.ask(api.addr(8080)).unwrap(), "api");

    // One policy is replaced by the other: at no moment are both in force, or neither.
    node.apply("policy.yaml", &many(&account("cron"), 1));
    // Under emulation, twenty thousand rows take their time.
    eventually(Duration::from_mins(1), || {
        // In this order: it may change between the two questions, and then both are let in, or none is.
        let first = front.tcp_connect(api.addr(8080)).is_ok();
        let second = cron.tcp_connect(api.addr(8080)).is_err();
        let again = front.tcp_connect(api.addr(8080)).is_ok();
        assert!(first != again || first == second, "half of a policy is in force");
        second
    });
    assert_eq!(front.ask(api.addr(8080)).unwrap(), "api");
}

fn service() -> String {
    manifests::service(
        "shop/api",
        "{clusterIP: 10.96.0.1, selector: {app: api}, ports: [{port: 80, targetPort: 8080}]}",
    )
}

fn near(value: f64, wanted: f64) -> bool {
    (value - wanted).abs() < 0.5
}
