//! Requests take routes.

use std::io::{ErrorKind, Read as _, Write as _};

use weft_tests::{manifests, soon};

use crate::shop::{FRONT, PLAIN, Shop, vip};

#[test]
fn a_request_takes_the_rule_that_matches_and_the_server_sees_the_clients_address() {
    let Some(shop) = Shop::open() else { return };
    for (target, server) in
        [("/", "v1"), ("/v1/a?b=c", "v1"), ("/v2", "v2"), ("/v2/deep", "v2"), ("/v2x", "v1")]
    {
        let answer = shop.web.get(FRONT, target, &[("X-One", "1"), ("x-two", "2")]).unwrap();
        assert_eq!(answer.status, 200, "{answer:?}");
        let seen = answer.seen();
        assert_eq!((&*seen.server, &*seen.target, &*seen.method), (server, target, "GET"));
        assert_eq!(seen.peer.ip(), shop.web.ip(), "the server sees the client pod");
        assert_eq!((&*seen.headers["x-one"], &*seen.headers["x-two"]), ("1", "2"));
        assert_eq!(seen.headers["host"], "test");
        assert!(!seen.headers["x-request-id"].is_empty());
    }
}

#[test]
fn what_no_rule_matches_is_answered_with_404_and_its_reason() {
    let route = "{parentRefs: [{group: \"\", kind: Service, name: front}], rules: [{matches: [{path: {type: Exact, \
                 value: /only}}], backendRefs: [{name: v1, port: 80}]}]}";
    let Some(shop) = Shop::open_with("{}", route) else { return };
    assert_eq!(shop.web.get(FRONT, "/only", &[]).unwrap().status, 200);
    let answer = shop.web.get(FRONT, "/other", &[]).unwrap();
    assert_eq!(answer.status, 404);
    assert!(!answer.header("x-weft-reason").is_empty(), "{answer:?}");
}

#[test]
fn only_the_service_with_a_route_leaves_the_kernel_path() {
    let Some(shop) = Shop::open() else { return };
    for _ in 0..3 {
        // A request-id is what the proxy adds.
        let plain = shop.web.get(PLAIN, "/v2", &[]).unwrap().seen();
        assert_eq!(plain.server, "v1");
        assert!(!plain.headers.contains_key("x-request-id"), "{plain:?}");
        let direct = shop.web.get(shop.v2.addr(8080), "/", &[]).unwrap().seen();
        assert!(!direct.headers.contains_key("x-request-id"), "{direct:?}");
    }
}

#[test]
fn without_a_proxy_the_kernel_balances_and_status_says_so() {
    let Some(mut shop) = Shop::open() else { return };
    shop.agent.cleanup();
    shop.agent = shop.node.spawn_agent(&["--proxy", "off"]);
    shop.node.wait();
    soon(|| shop.web.get(FRONT, "/v2", &[]).is_ok_and(|answer| answer.seen().server == "v1"));
    let off = shop.node.degradations();
    assert!(off.iter().any(|line| line.starts_with("http path: ")), "{off:?}");
}

#[test]
fn weights_split_requests_within_two_points() {
    let route = "{parentRefs: [{group: \"\", kind: Service, name: front}], rules: [{backendRefs: [\
                 {name: v1, port: 80, weight: 70}, {name: v2, port: 80, weight: 30}]}]}";
    let Some(shop) = Shop::open_with("{}", route) else { return };
    let mut client = shop.web.http(FRONT).unwrap();
    let mut first = 0;
    for _ in 0..REQUESTS {
        let answer = client.ask(("GET", "/"), &[], &[]).unwrap();
        first += u32::from(answer.seen().server == "v1");
    }
    let share = f64::from(first) / f64::from(REQUESTS);
    assert!((0.68..=0.72).contains(&share), "{share}");
}

#[test]
fn a_changed_route_holds_for_the_next_request_of_a_connection() {
    let Some(shop) = Shop::open() else { return };
    let mut client = shop.web.http(FRONT).unwrap();
    assert_eq!(client.ask(("GET", "/"), &[], &[]).unwrap().seen().server, "v1");
    let route = "{parentRefs: [{group: \"\", kind: Service, name: front}], rules: [{backendRefs: [\
                 {name: v2, port: 80}]}]}";
    shop.world.apply("route.yaml", &manifests::http_route("shop/front", route));
    soon(|| client.ask(("GET", "/"), &[], &[]).unwrap().seen().server == "v2");
}

#[test]
fn a_policy_that_forbids_the_connection_is_answered_with_403() {
    let Some(shop) = Shop::open() else { return };
    let spec = "{targetRefs: [{group: \"\", kind: Pod, selector: {matchLabels: {app: v1}}}], action: ALLOW, rules: \
                [{sources: [{type: ServiceAccount, serviceAccount: {namespace: shop, name: nobody}}]}]}";
    shop.world.apply("policy.yaml", &manifests::authorization_policy("shop/v1", spec));
    shop.node.wait();
    // Pooled connections are cut by the tighter policy within a second.
    soon(|| shop.web.get(FRONT, "/", &[]).unwrap().status == 403);
    let answer = shop.web.get(FRONT, "/", &[]).unwrap();
    assert_eq!((answer.status, answer.header("x-weft-reason")), (403, "NotAllowed"));
    assert_eq!(shop.web.get(FRONT, "/v2", &[]).unwrap().seen().server, "v2", "the other backend is open");
}

#[test]
fn the_answer_to_a_denied_request_has_the_kernels_reason_and_no_other_endpoint_is_asked() {
    let Some(shop) = Shop::open() else { return };
    let deny = |app| {
        format!(
            "{{targetRefs: [{{group: \"\", kind: Pod, selector: {{matchLabels: {{app: {app}}}}}}}], action: DENY, \
             rules: [{{sources: [{{type: ServiceAccount, serviceAccount: {{namespace: shop, name: web}}}}]}}]}}"
        )
    };
    shop.world.apply("deny.yaml", &manifests::authorization_policy("shop/deny", &deny("v1")));
    shop.node.wait();
    soon(|| shop.web.get(FRONT, "/", &[]).unwrap().status == 403);
    let refused = shop.node.stat("denied_connect");
    let answer = shop.web.get(FRONT, "/", &[]).unwrap();
    assert_eq!((answer.status, answer.header("x-weft-reason")), (403, "PolicyDenied"));
    assert_eq!(shop.node.stat("denied_connect"), refused + 1, "one try, which the kernel refused");
    let said = |flow: &serde_json::Value| {
        flow["verdict"] == "DENIED"
            && flow["reason"] == "PolicyDenied"
            && flow["rule"] == "shop/deny rules[0]"
    };
    soon(|| shop.node.flows(&[]).iter().any(said));
}

#[test]
fn a_relayed_connection_that_a_policy_denies_is_tried_nowhere_else() {
    let Some(shop) = Shop::open() else { return };
    let _pair: Vec<_> = ["one", "two"]
        .map(|name| shop.node.pod(&format!("shop/{name}")).label("app", "pair").start())
        .into_iter()
        .map(|pod| (pod.serve_name(8080, "pair"), pod))
        .collect();
    let service = "{clusterIP: 10.96.0.8, selector: {app: pair}, ports: [{port: 80, targetPort: 8080}]}";
    let target = "{targetRefs: [{group: \"\", kind: Service, name: pair}], circuitBreaker: {}}";
    let deny = "{targetRefs: [{group: \"\", kind: Pod, selector: {matchLabels: {app: pair}}}], action: DENY, rules: \
                [{sources: [{type: ServiceAccount, serviceAccount: {namespace: shop, name: web}}]}]}";
    let objects = [
        manifests::service("shop/pair", service),
        manifests::traffic_policy("shop/pair", target),
        manifests::authorization_policy("shop/pair", deny),
    ];
    shop.world.apply("pair.yaml", &manifests::documents(&objects));
    shop.node.wait();
    // Once the proxy has it, the connection is accepted, and ends when it turns out not to speak HTTP.
    let refused = || {
        let before = shop.node.stat("denied_connect");
        let ended = shop.web.tcp_connect(vip(8)).and_then(|mut stream| {
            stream.write_all(b"\0\0\0\0")?;
            let read = stream.read(&mut [0; 1]);
            // A blocked recv of a socket that may be accelerated is woken with EAGAIN first.
            let woken = read.as_ref().is_err_and(|error| error.kind() == ErrorKind::WouldBlock);
            if woken { stream.read(&mut [0; 1]) } else { read }
        });
        (ended.map_err(|error| error.kind()), shop.node.stat("denied_connect") - before)
    };
    let by_the_proxy = Err(ErrorKind::ConnectionReset);
    soon(|| refused().0 == by_the_proxy);
    assert_eq!(refused(), (by_the_proxy, 1));
}

#[test]
fn a_service_without_endpoints_is_answered_with_503() {
    let Some(shop) = Shop::open() else { return };
    let empty = "{clusterIP: 10.96.0.2, selector: {app: nobody}, ports: [{port: 80}]}";
    shop.world.apply("v1.yaml", &manifests::service("shop/v1", empty));
    shop.node.wait();
    soon(|| shop.web.get(FRONT, "/", &[]).unwrap().status == 503);
    assert_eq!(shop.web.get(FRONT, "/", &[]).unwrap().header("x-weft-reason"), "NoEndpoints");
    assert_eq!(shop.web.get(vip(3), "/", &[]).unwrap().seen().server, "v2");
}

const REQUESTS: u32 = 10_000;
