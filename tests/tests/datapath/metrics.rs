//! What a scraper gets.

use std::io::{Read as _, Write as _};
use std::time::Duration;

use weft_tests::{Node, eventually, soon};

use crate::market::{API, Market, assert_refused};

#[test]
fn both_ends_of_a_flow_report_it_with_istios_names_and_labels() {
    let Some(market) = Market::open() else { return };
    let node = &market.node;
    let mut stream = market.web.tcp_connect(API).unwrap();
    stream.read_exact(&mut [0; 4]).unwrap();
    stream.write_all(&[7; 96]).unwrap();
    stream.read_exact(&mut [0; 96]).unwrap();
    drop(stream);
    assert_refused(&market.thief, API);
    let ends = [
        r#"source_workload="web""#,
        r#"source_workload_namespace="shop""#,
        r#"source_principal="spiffe://cluster.local/ns/shop/sa/web""#,
        r#"destination_workload="api""#,
        r#"destination_workload_namespace="shop""#,
        r#"destination_principal="spiffe://cluster.local/ns/shop/sa/api""#,
        r#"destination_app="api""#,
        r#"destination_canonical_service="api""#,
        r#"destination_service="api.shop.svc.cluster.local""#,
        r#"destination_service_name="api""#,
        r#"destination_service_namespace="shop""#,
        r#"request_protocol="tcp""#,
        r#"response_flags="-""#,
        r#"connection_security_policy="none""#,
    ];
    for reporter in [r#"reporter="source""#, r#"reporter="destination""#] {
        let labels = [&ends[..], &[reporter]].concat();
        let value = |name: &str| node.metric(name, &labels);
        soon(|| is(value("istio_tcp_connections_closed_total"), 1));
        assert!(is(value("istio_tcp_connections_opened_total"), 1));
        assert!(is(value("istio_tcp_sent_bytes_total"), 96), "{}", value("istio_tcp_sent_bytes_total"));
        assert!(
            is(value("istio_tcp_received_bytes_total"), 100),
            "{}",
            value("istio_tcp_received_bytes_total")
        );
    }
    soon(|| is(node.metric("weft_drops_total", &[r#"reason="NotAllowed""#]), 1));
    // Nothing is counted twice, and a refused connection is none.
    assert!(is(node.metric("istio_tcp_connections_opened_total", &[]), 2));
}

#[test]
fn each_node_reports_its_own_end() {
    let Some(market) = Market::open() else { return };
    let far = market.world.node("b");
    let _agent = far.agent();
    let remote = far.pod("shop/remote").start();
    let _server = remote.serve_name(80, "remote");
    market.node.wait();
    far.wait();
    assert_eq!(market.web.ask(remote.addr(80)).unwrap(), "remote");
    for (node, here, elsewhere) in [(&market.node, "source", "destination"), (&far, "destination", "source")]
    {
        let opened = |reporter: &str| {
            node.metric(
                "istio_tcp_connections_opened_total",
                &[&format!("reporter=\"{reporter}\""), r#"destination_workload="remote""#],
            )
        };
        soon(|| is(opened(here), 1));
        assert!(is(opened(elsewhere), 0), "{}", node.name());
    }
}

#[test]
fn bytes_of_a_live_connection_move_within_ten_seconds() {
    let Some(market) = Market::open() else { return };
    let mut stream = market.web.tcp_connect(API).unwrap();
    stream.read_exact(&mut [0; 4]).unwrap();
    stream.write_all(&vec![7; 50_000]).unwrap();
    stream.read_exact(&mut vec![0; 50_000]).unwrap();
    let bytes = |name: &str| market.node.metric(name, &[r#"reporter="source""#]);
    eventually(Duration::from_secs(10), || {
        is(bytes("istio_tcp_sent_bytes_total"), 50_000) && is(bytes("istio_tcp_received_bytes_total"), 50_004)
    });
    assert!(is(bytes("istio_tcp_connections_closed_total"), 0));
    drop(stream);
    soon(|| is(bytes("istio_tcp_connections_closed_total"), 1));
    assert!(is(bytes("istio_tcp_sent_bytes_total"), 50_000), "what was counted is not counted again");
}

#[test]
fn the_agent_tells_of_itself_and_of_its_health() {
    let Some(market) = Market::open() else { return };
    let node = &market.node;
    assert_refused(&market.thief, API);
    for (path, body) in [("/healthz", "ok\n"), ("/readyz", "ready\n")] {
        let answer = node.http(path).unwrap();
        assert!(answer.starts_with("HTTP/1.0 200") && answer.ends_with(body), "{answer}");
    }
    let page = node.http("/metrics").unwrap();
    assert!(page.contains("application/openmetrics-text") && page.ends_with("# EOF\n"), "{page}");
    assert!(is(node.metric("weft_map_entries", &[r#"map="weft_pod""#]), 3));
    assert!(node.metric("weft_map_capacity", &[r#"map="weft_svc""#]) > 1000.0);
    assert!(is(node.metric("weft_pods", &[r#"state="enforced""#]), 3));
    assert!(node.metric("weft_apply_seconds_count", &[]) >= 1.0);
    assert!(is(node.metric("weft_kernel_events_total", &[r#"event="denied_connect""#]), 1));
    assert!(is(node.metric("weft_kernel_events_total", &[r#"event="events_lost""#]), 0));
    let versions = ["weft_snapshot_version", "weft_enforced_version"].map(|name| node.metric(name, &[]));
    assert!(versions[0] >= 1.0 && is(versions[0] - versions[1], 0), "{versions:?}");
    assert!(page.contains("weft_build_info{version="), "{page}");
}

/// Counts are whole numbers.
fn is(value: f64, count: u32) -> bool {
    (value - f64::from(count)).abs() < 0.5
}

/// Whether the agent says that it enforces what it read.
pub(crate) fn is_ready(node: &Node) -> bool {
    node.http("/readyz").is_ok_and(|answer| answer.starts_with("HTTP/1.0 200"))
}
