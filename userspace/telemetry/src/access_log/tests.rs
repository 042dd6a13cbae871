use std::{collections::BTreeMap, sync::Arc};

use weft_abi::Reason;
use weft_model::{Comparison, LogFilter, ObjectName, TextTest};

use super::*;
use crate::{metrics::Metrics, pods::Pods, records::tests::request, views::tests::shop};

/// The shop, where the requests of these pods are logged.
fn logging(pods: &[&str], log: &AccessLog) -> Snapshot {
    let logs = pods.iter().map(|pod| (ObjectName::new("shop", *pod), Arc::new(log.clone())));
    Snapshot { access_logs: Arc::new(logs.collect::<BTreeMap<_, _>>()), ..shop() }
}

/// The lines of these requests.
fn lines(snapshot: &Snapshot, requests: &[RequestRecord]) -> Vec<String> {
    let pods = Pods::of(snapshot, &Metrics::new("1.2.3").http);
    let (sink, mut lines) = queue();
    for record in requests {
        let destination = record.endpoint.and_then(|endpoint| pods.at(endpoint.ip()));
        let source = pods.named(&record.pod);
        sink.take(&Alike::of(record), source, destination, snapshot);
    }
    std::iter::from_fn(|| lines.queue.try_recv().ok()).collect()
}

fn refused() -> RequestRecord {
    RequestRecord {
        reason: Some(Reason::NO_RULE),
        status: 404,
        endpoint: None,
        rule: None,
        tries: 0,
        agent: "curl \"8\"".into(),
        ..request()
    }
}

#[test]
fn a_json_line_has_the_well_known_keys() {
    let lines = lines(&logging(&["web-1"], &AccessLog::default()), &[request()]);
    let value: serde_json::Value = serde_json::from_str(&lines[0]).unwrap();
    let expected = serde_json::json!({
        "time": "2023-11-14T22:13:20.123Z",
        "src.addr": "10.0.0.1:41234", "src.namespace": "shop", "src.pod": "web-1", "src.workload": "web",
        "src.identity": "spiffe://cluster.local/ns/shop/sa/web",
        "dst.addr": "10.0.0.2:8080", "dst.service": "shop/api:80", "dst.namespace": "shop", "dst.pod": "api-1",
        "dst.workload": "api", "dst.identity": "spiffe://cluster.local/ns/shop/sa/api",
        "protocol": "HTTP/1.1", "method": "GET", "host": "api.shop", "path": "/v1/items", "status": 200,
        "response_flags": "-", "route": "HTTPRoute shop/canary rules[1]", "request_bytes": 0,
        "response_bytes": 1024, "duration_ms": 12.4, "upstream_ms": 11.9, "tries": 1,
        "connection_security_policy": "none",
    });
    assert_eq!(value, expected);
    assert!(lines[0].ends_with("}\n"));
}

#[test]
fn a_text_line_quotes_what_would_be_misread() {
    let log = AccessLog { format: LogFormat::Text, filter: None };
    let lines = lines(&logging(&["web-1"], &log), &[refused()]);
    assert_eq!(
        lines[0],
        "time=2023-11-14T22:13:20.123Z src.addr=10.0.0.1:41234 src.namespace=shop src.pod=web-1 src.workload=web \
         src.identity=spiffe://cluster.local/ns/shop/sa/web dst.service=shop/api:80 protocol=HTTP/1.1 method=GET \
         host=api.shop path=/v1/items status=404 response_flags=NR reason=NoRule request_bytes=0 \
         response_bytes=1024 duration_ms=12.400 upstream_ms=11.900 tries=0 connection_security_policy=none \
         user_agent=\"curl \\\"8\\\"\"\n"
    );
}

#[test]
fn a_request_is_logged_once_where_either_end_wants_it() {
    let log = AccessLog::default();
    for (pods, count) in
        [(&[][..], 0), (&["web-1"], 1), (&["api-1"], 1), (&["web-1", "api-1"], 1), (&["db-1"], 0)]
    {
        assert_eq!(lines(&logging(pods, &log), &[request()]).len(), count, "{pods:?}");
    }
}

#[test]
fn a_filter_asks_for_what_the_record_has() {
    let kept = |filter: LogFilter| {
        let log = AccessLog { format: LogFormat::Json, filter: Some(Arc::new(filter)) };
        lines(&logging(&["web-1"], &log), &[request(), refused()]).len()
    };
    let text = |attribute, wanted: &str| LogFilter::Text(attribute, TextTest::Equal, wanted.into());
    assert_eq!(kept(LogFilter::Number(LogNumber::ResponseCode, Comparison::AtLeast, 400)), 1);
    assert_eq!(kept(LogFilter::Number(LogNumber::Duration, Comparison::More, 12_400)), 0);
    assert_eq!(kept(LogFilter::Number(LogNumber::ResponseSize, Comparison::Equal, 1_024)), 2);
    assert_eq!(kept(text(LogText::Reason, "NoRule")), 1);
    assert_eq!(kept(text(LogText::Flags, "-")), 1);
    assert_eq!(kept(text(LogText::SourceWorkload, "web")), 2);
    assert_eq!(kept(text(LogText::DestinationService, "api")), 2);
    assert_eq!(kept(LogFilter::Not(Box::new(text(LogText::DestinationNamespace, "shop")))), 0);
}

#[tokio::test]
async fn lines_are_written_in_order_and_what_nobody_takes_is_counted() {
    let snapshot = logging(&["web-1"], &AccessLog::default());
    let (sink, lines) = queue();
    let (first, other) = (request(), refused());
    sink.take(&Alike::of(&first), None, None, &snapshot);
    for _ in 0..WAITING {
        sink.take(&Alike::of(&other), None, None, &snapshot);
    }
    assert_eq!(sink.lost(), 1);
    drop(sink);
    let mut out = Vec::new();
    lines.write(&mut out).await.unwrap();
    let out = String::from_utf8(out).unwrap();
    assert_eq!(out.lines().count(), WAITING);
    assert!(out.lines().next().unwrap().contains("\"status\":200"));
}
