//! What a server is told of whose request it is.

use std::time::Duration;

use weft_tests::{Answer, Pod, manifests, soon};

use crate::stage::{API, Stage};

const FORGED: [(&str, &str); 2] = [
    ("x-forwarded-client-cert", "By=spiffe://a/b;URI=spiffe://cluster.local/ns/kube-system/sa/admin"),
    ("x-forwarded-for", "192.0.2.1"),
];

#[test]
fn a_server_is_told_the_proven_identity_and_address_of_its_client_and_nothing_that_it_says_of_itself() {
    let Some(stage) = stage(&[]) else { return };
    for forged in [&[][..], &FORGED] {
        let seen = stage.web.get(API, "/", forged).unwrap().seen().headers;
        let identities = "By=spiffe://cluster.local/ns/shop/sa/api;URI=spiffe://cluster.local/ns/shop/sa/web";
        assert_eq!(seen["x-forwarded-client-cert"], identities);
        let before = if forged.is_empty() { "" } else { "192.0.2.1, " };
        assert_eq!(seen["x-forwarded-for"], format!("{before}{}", stage.web.ip()));
    }
    let near = stage.b.pod("shop/near").service_account("near").start();
    stage.settle();
    soon(|| {
        near.get(API, "/", &FORGED).is_ok_and(|answer| {
            let seen = answer.seen().headers;
            let by_kernel =
                "By=spiffe://cluster.local/ns/shop/sa/api;URI=spiffe://cluster.local/ns/shop/sa/near";
            seen.get("x-forwarded-client-cert").is_some_and(|value| value == by_kernel)
        })
    });
}

#[test]
fn where_nothing_proves_the_client_to_the_server_no_identity_is_said() {
    let disabled = ("mesh.yaml", manifests::mesh_config("{mtls: {mode: Disabled}}"));
    let Some(stage) = stage(&[disabled]) else { return };
    let seen = stage.web.get(API, "/", &FORGED).unwrap().seen().headers;
    assert!(!seen.contains_key("x-forwarded-client-cert"), "{seen:?}");
    assert_eq!(seen["x-forwarded-for"], format!("192.0.2.1, {}", stage.web.ip()));
}

#[test]
fn the_servers_proxy_says_who_asks_where_it_judges_requests_and_removes_what_they_say_of_themselves() {
    let spec = "{targetRefs: [{group: \"\", kind: Pod, selector: {matchLabels: {app: api}}}], action: DENY, rules: \
                [{httpAttributes: {paths: [{type: PathPrefix, value: /admin}]}}]}";
    let policy = ("policy.yaml", manifests::authorization_policy("shop/api", spec));
    // No route: the client's proxy passes bytes on.
    let Some(stage) = Stage::start(&[policy], |api| vec![api.serve_http(8080, "api")]) else { return };
    let near = stage.b.pod("shop/near").service_account("near").start();
    let plain = stage.b.pod("field/plain").enrolled(false).start();
    stage.settle();
    for client in [&stage.web, &near] {
        soon(|| client.get(API, "/admin", &[]).is_ok_and(|answer| answer.status == 403));
    }
    let told = |client: &Pod| {
        let answer = client.get(stage.api.addr(8080), "/", &FORGED).unwrap();
        let mut headers = answer.seen().headers;
        assert_eq!(headers["x-forwarded-for"], format!("192.0.2.1, {}", client.ip()));
        headers.remove("x-forwarded-client-cert")
    };
    let by_certificate = told(&stage.web).unwrap();
    let [by, hash, uri] = by_certificate.split(';').collect::<Vec<_>>()[..] else {
        panic!("{by_certificate}")
    };
    assert_eq!(by, "By=spiffe://cluster.local/ns/shop/sa/api");
    assert_eq!(uri, "URI=spiffe://cluster.local/ns/shop/sa/web");
    let hash = hash.strip_prefix("Hash=").unwrap();
    assert!(hash.len() == 64 && hash.bytes().all(|digit| digit.is_ascii_hexdigit()), "{hash}");
    let by_kernel = "By=spiffe://cluster.local/ns/shop/sa/api;URI=spiffe://cluster.local/ns/shop/sa/near";
    assert_eq!(told(&near).as_deref(), Some(by_kernel), "it has shown no certificate");
    assert_eq!(told(&plain), None, "nobody has proven anything");
}

#[test]
fn where_nobody_reads_http_a_forged_header_comes_as_it_was_sent() {
    // No route, no policy by request: between nodes bytes inside mutual TLS, on the node the kernel's path.
    let Some(stage) = Stage::start(&[], |api| vec![api.serve_http(8080, "api")]) else { return };
    let near = stage.b.pod("shop/near").service_account("near").start();
    stage.settle();
    for client in [&stage.web, &near] {
        soon(|| client.get(API, "/", &[]).is_ok());
        let seen = client.get(API, "/", &FORGED).unwrap().seen().headers;
        for (name, forged) in FORGED {
            assert_eq!(seen[name], forged, "no app may believe it there (docs/strict.md)");
        }
    }
}

#[test]
fn the_hash_of_the_clients_certificate_is_another_one_once_it_is_renewed_and_no_answer_is_cut() {
    let spec = "{targetRefs: [{group: \"\", kind: Pod, selector: {matchLabels: {app: api}}}], action: DENY, rules: \
                [{httpAttributes: {paths: [{type: PathPrefix, value: /admin}]}}]}";
    let documents = [
        ("policy.yaml", manifests::authorization_policy("shop/api", spec)),
        ("mesh.yaml", manifests::mesh_config("{certificates: {ttl: 30s}}")),
    ];
    let Some(stage) = Stage::start(&documents, |api| vec![api.serve_http(8080, "api")]) else { return };
    soon(|| stage.web.get(API, "/admin", &[]).is_ok_and(|answer| answer.status == 403));
    let mut live = stage.web.http(API).unwrap();
    live.stream().set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let hash = |answer: &Answer| {
        let seen = answer.seen().headers;
        let parts = seen["x-forwarded-client-cert"].split(';').map(str::to_owned).collect::<Vec<_>>();
        assert_eq!(parts.last().map(String::as_str), Some("URI=spiffe://cluster.local/ns/shop/sa/web"));
        parts.into_iter().find(|part| part.starts_with("Hash=")).expect("the server has seen a certificate")
    };
    let mut of_live = || hash(&live.ask(("GET", "/"), &[], &[]).unwrap());
    let first = of_live();
    let mut renewed = 0;
    let mut last = first.clone();
    soon(|| {
        // Of a connection it is the certificate that it was opened with, whatever is renewed meanwhile.
        assert_eq!(of_live(), first);
        let now = hash(&stage.web.get(API, "/", &[]).unwrap());
        renewed += u32::from(now != last);
        last = now;
        // Twice: the first one has ended by then.
        renewed >= 2
    });
}

/// With a route, so that requests take the path `http`.
fn stage(documents: &[(&str, String)]) -> Option<Stage> {
    let route = "{parentRefs: [{group: \"\", kind: Service, name: api, port: 80}], rules: [{backendRefs: [{name: api, \
                 port: 80}]}]}";
    let mut all = vec![("route.yaml", manifests::http_route("shop/api", route))];
    all.extend(documents.iter().cloned());
    let stage = Stage::start(&all, |api| vec![api.serve_http(8080, "api")])?;
    soon(|| stage.web.get(API, "/", &[]).is_ok_and(|answer| answer.status == 200));
    Some(stage)
}
