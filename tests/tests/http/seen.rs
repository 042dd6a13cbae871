//! What `weft observe`, `weft stat`, `weft top` and `weft status` show of requests.

use serde_json::Value;
use weft_tests::{soon, text};

use crate::shop::{FRONT, PLAIN, Shop};

#[test]
fn observe_shows_requests_beside_connections() {
    let Some(shop) = Shop::open() else { return };
    assert_eq!(shop.web.get(FRONT, "/v2/status/204?secret=1", &[]).unwrap().status, 200);
    assert_eq!(shop.web.get(PLAIN, "/", &[]).unwrap().status, 200);
    let mut flow = Value::Null;
    soon(|| {
        let seen = shop.node.flows(&[]).into_iter().find(|flow| flow["http"]["path"] == "/v2/status/204");
        flow = seen.unwrap_or_default();
        !flow.is_null()
    });
    assert_eq!(
        [&flow["verdict"], &flow["reason"], &flow["path"], &flow["protocol"]],
        [&Value::from("FORWARDED"), &Value::Null, &Value::from("http"), &Value::from("TCP")]
    );
    let http = &flow["http"];
    assert_eq!([&http["method"], &http["status"]], [&Value::from("GET"), &Value::from(200)]);
    assert!(http["latencyMs"].as_f64().is_some_and(|latency| latency > 0.0), "{http}");
    assert_eq!(http["route"], "HTTPRoute shop/front");
    let ends = |end: &str, key: &str| flow[end][key].as_str().unwrap_or_default().to_owned();
    assert_eq!([ends("source", "pod"), ends("destination", "pod")], ["web", "v2"]);
    assert_eq!([ends("destination", "service"), ends("destination", "namespace")], ["front", "shop"]);
    assert_eq!(flow["destination"]["port"], 8080);
    assert!(flow["bytesReceived"].as_u64().is_some_and(|bytes| bytes > 0), "{flow}");
    soon(|| shop.node.flows(&[]).iter().any(|flow| flow["destination"]["service"] == "plain"));
    let line = text(&shop.node.weft(&["observe", "--last", "1000"]));
    assert!(line.contains("GET /v2/status/204  200  "), "{line}");
}

#[test]
fn a_refused_request_is_denied_with_its_reason() {
    let route = "{parentRefs: [{group: \"\", kind: Service, name: front}], rules: [{matches: [{path: {type: Exact, \
                 value: /only}}], backendRefs: [{name: v1, port: 80}]}]}";
    let Some(shop) = Shop::open_with("{}", route) else { return };
    assert_eq!(shop.web.get(FRONT, "/other", &[]).unwrap().status, 404);
    let denied = || shop.node.flows(&["--verdict", "DENIED"]);
    soon(|| denied().iter().any(|flow| flow["http"]["path"] == "/other"));
    let flow = denied().into_iter().find(|flow| flow["http"]["path"] == "/other").unwrap();
    assert_eq!([&flow["reason"], &flow["http"]["status"]], [&Value::from("NoRule"), &Value::from(404)]);
    assert_eq!(flow["http"]["responseFlags"], "NR");
}

#[test]
fn stat_and_top_show_a_route_with_its_rate_and_percentiles() {
    let Some(shop) = Shop::open() else { return };
    let mut client = shop.web.http(FRONT).unwrap();
    for _ in 0..50 {
        assert_eq!(client.ask(("GET", "/v2"), &[], &[]).unwrap().status, 200);
    }
    for command in [&["stat"][..], &["top"], &["top", "--once"]] {
        let mut view = Value::Null;
        soon(|| {
            let list = shop.node.weft_json(command);
            let views = list.as_array().expect("a list").clone();
            view = views.into_iter().find(|view| view["service"] == "front").unwrap_or_default();
            view["requests"].as_u64().is_some_and(|requests| requests >= 50)
        });
        assert_eq!([&view["namespace"], &view["route"]], ["shop", "HTTPRoute shop/front"]);
        assert!(view["successes"].as_u64().is_some_and(|successes| successes >= 50), "{view}");
        let number = |key: &str| view[key].as_f64().unwrap_or_else(|| panic!("no {key} in {view}"));
        assert!(number("rps") > 0.0 && number("success") > 0.9, "{view}");
        assert!(0.0 < number("p50Ms") && number("p50Ms") <= number("p95Ms"), "{view}");
        assert!(number("p95Ms") <= number("p99Ms"), "{view}");
    }
    // Into a pipe it is written once.
    let top = text(&shop.node.weft(&["top"]));
    for column in ["SERVICE", "ROUTE", "RPS", "SUCCESS", "P50", "P95", "P99", "HTTPRoute front"] {
        assert!(top.contains(column), "no {column} in\n{top}");
    }
}

#[test]
fn what_a_pod_uses_of_the_proxy_is_in_metrics_and_so_is_the_proxys_own_state() {
    let Some(shop) = Shop::open() else { return };
    let mut client = shop.web.http(FRONT).unwrap();
    assert_eq!(client.ask(("POST", "/v2"), &[], &[7; 10_000]).unwrap().status, 200);
    let of_web = |name: &str| shop.node.metric(name, &["namespace=\"shop\"", "pod=\"web\""]);
    soon(|| of_web("weft_proxy_received_bytes_total") >= 10_000.0);
    assert!(of_web("weft_proxy_requests_total") >= 1.0 && of_web("weft_proxy_sent_bytes_total") > 0.0);
    assert!(of_web("weft_proxy_connections_open") >= 1.0 && of_web("weft_proxy_connections_total") >= 1.0);
    assert!(of_web("weft_proxy_cpu_seconds_total") > 0.0);
    drop(client);
    soon(|| of_web("weft_proxy_connections_open") < 1.0);
    let own = |name: &str, labels: &[&str]| shop.node.metric(name, labels);
    assert!(own("weft_proxy_state", &["state=\"active\""]) > 0.5);
    assert!(own("weft_proxy_state", &["state=\"failing\""]) < 0.5);
    assert!(own("weft_proxy_processes", &["state=\"active\""]) > 0.5);
    assert!(own("weft_proxy_restarts_total", &[]) < 0.5 && own("weft_proxy_generation", &[]) > 0.0);
    let lease = own("weft_proxy_lease_age_seconds", &[]);
    assert!((0.0..5.0).contains(&lease), "{lease}");
    assert!(own("weft_proxy_records_lost_total", &[]) < 0.5);
    assert_eq!(shop.node.weft_json(&["status"])["proxy"]["recordsLost"], 0);
}
