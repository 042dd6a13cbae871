use weft_abi::Reason;
use weft_model::ObjectName;

use super::*;
use crate::{
    api::{FlowFilter, FlowKind, Path, Verdict},
    records::{
        PodUsage, RequestRecord, Spoken,
        tests::{live, request},
    },
    views::tests::shop,
};

/// A request from `shop/web-1` to `shop/api-1`, as the ring has it.
pub(crate) fn sample_request() -> Request {
    let (alike, snapshot) = (Alike::of(&request()), Snapshot::default());
    let mut requests = flow::of_requests(&alike, alike.like().service.as_ref(), None, None, &snapshot);
    requests.next().expect("there is at least one")
}

struct World {
    observer: Observer,
    snapshot: Snapshot,
    flows: FlowLog,
    metrics: Metrics,
}

impl World {
    fn new() -> Self {
        let (flows, metrics) = (FlowLog::new(), Metrics::new("1.2.3"));
        Self { observer: Observer::new().0, snapshot: shop(), flows, metrics }
    }

    fn take(&self, batch: &RecordBatch) {
        self.observer.take(batch, &self.snapshot, &self.flows, &self.metrics);
    }

    fn requests(&self, requests: Vec<RequestRecord>) {
        self.take(&RecordBatch { requests, ..RecordBatch::default() });
    }

    fn last(&self) -> crate::api::Flow {
        let flows = self.flows.last(&FlowFilter::default(), 1);
        (**flows.first().expect("a flow was made")).clone()
    }

    fn has_line(&self, parts: &[&str]) -> bool {
        let text = self.metrics.encode(&crate::api::Status::default(), &self.snapshot);
        text.lines().any(|line| parts.iter().all(|part| line.contains(part)))
    }
}

#[test]
fn a_request_is_a_flow_with_both_ends_named() {
    let world = World::new();
    world.requests(vec![request()]);
    let flow = world.last();
    assert_eq!((flow.verdict, flow.kind, flow.path), (Verdict::Forwarded, FlowKind::Request, Path::Http));
    assert_eq!(flow.source.pod.as_deref(), Some("web-1"));
    assert_eq!(flow.source.identity.as_deref(), Some("spiffe://cluster.local/ns/shop/sa/web"));
    assert_eq!(flow.destination.pod.as_deref(), Some("api-1"));
    assert_eq!((flow.destination.service.as_deref(), flow.destination.port), (Some("api"), 8080));
    let http = serde_json::to_value(&flow).unwrap()["http"].clone();
    let expected = serde_json::json!({
        "method": "GET", "path": "/v1/items", "status": 200, "latencyMs": 12.4, "protocol": "HTTP/1.1",
        "authority": "api.shop", "grpcStatus": null, "route": "HTTPRoute shop/canary", "responseFlags": "-",
    });
    assert_eq!(http, expected);
}

#[test]
fn a_refused_request_is_denied_with_its_reason_at_the_services_address() {
    let world = World::new();
    let refused = RequestRecord {
        reason: Some(Reason::NO_RULE),
        status: 404,
        tries: 0,
        endpoint: None,
        rule: None,
        ..request()
    };
    world.requests(vec![refused]);
    let flow = world.last();
    assert_eq!((flow.verdict, flow.kind), (Verdict::Denied, FlowKind::Refused));
    assert_eq!(flow.reason.as_deref(), Some("NoRule"));
    assert_eq!((flow.destination.ip.to_string(), flow.destination.port), ("10.96.0.2".into(), 80));
    assert!(world.has_line(&["weft_proxy_rejected_total{", "pod=\"web-1\"", "reason=\"NoRule\"", "} 1"]));
    assert!(world.has_line(&[
        "istio_requests_total{",
        "response_code=\"404\"",
        "response_flags=\"NR\"",
        "} 1"
    ]));
}

#[test]
fn both_ends_on_this_node_report() {
    let world = World::new();
    world.requests(vec![request(), request()]);
    for reporter in ["source", "destination"] {
        let reporter = format!("reporter=\"{reporter}\"");
        let labels = ["source_workload=\"web\"", "destination_workload=\"api\"", "} 2"];
        assert!(world.has_line(&[&["istio_requests_total{", reporter.as_str()], &labels[..]].concat()));
    }
}

#[test]
fn requests_that_are_told_as_alike_are_seen_as_if_each_were_told_alone() {
    let refused = RequestRecord {
        reason: Some(Reason::NO_RULE),
        audit: Some(Reason::NOT_ALLOWED),
        status: 404,
        tries: 0,
        ..request()
    };
    let second = RequestRecord {
        ended: request().ended + 1_000,
        client: ([10, 0, 0, 1], 41_235).into(),
        path: "/v1/orders".into(),
        lasted: 3_000,
        received: 9,
        sent: 7,
        ..request()
    };
    let third = RequestRecord { ended: request().ended + 2_000, path: "/v1/lost".into(), ..refused };
    let fourth = RequestRecord { ended: request().ended + 3_000, lasted: 80_000, ..third.clone() };
    let records = vec![request(), second.clone(), third.clone(), fourth.clone()];
    let (alone, together) = (World::new(), World::new());
    alone.requests(records.clone());
    let mut groups = [Alike::of(&request()), Alike::of(&third)];
    assert!(groups[0].takes(&second) && groups[1].takes(&fourth));
    together.take(&RecordBatch { alike: groups.into(), ..RecordBatch::default() });
    let seen = |world: &World| {
        let text = world.metrics.encode(&crate::api::Status::default(), &world.snapshot);
        let mut lines: Vec<_> = text.lines().map(str::to_owned).collect();
        lines.retain(|line| line.contains("istio_") || line.contains("rejected") || line.contains("audit"));
        lines.sort();
        (lines, world.flows.last(&FlowFilter::default(), 10))
    };
    assert_eq!(seen(&alone), seen(&together));
    let flows = together.flows.last(&FlowFilter::default(), 10);
    let paths: Vec<_> = flows.iter().map(|flow| &*flow.http.as_ref().unwrap().path).collect();
    assert_eq!(paths, ["/v1/items", "/v1/orders", "/v1/lost", "/v1/lost"]);
    let second = &flows[1];
    assert_eq!((second.source.port, second.bytes_sent, second.bytes_received), (41_235, 9, 7));
    let views = together.observer.window().last(Window::LONGEST, Instant::now());
    assert_eq!(views.iter().map(|view| view.requests).sum::<u64>(), 4);
}

#[test]
fn a_pod_that_is_not_known_makes_a_flow_and_no_series_of_its_own() {
    let world = World::new();
    let stranger = ObjectName::new("shop", "gone-1");
    let reason = Some(Reason::CLIENT_GONE);
    world.take(&RecordBatch {
        requests: vec![RequestRecord { pod: stranger.clone(), reason, ..request() }],
        usage: vec![PodUsage {
            pod: stranger,
            connections: 1,
            connections_total: 1,
            requests: 1,
            requests_total: 1,
            received: 1,
            sent: 1,
            busy_ns: 1,
            mirrors_dropped: 0,
            handshakes: 0,
        }],
        ..RecordBatch::default()
    });
    assert_eq!(world.last().source.pod.as_deref(), Some("gone-1"));
    assert!(world.has_line(&["istio_requests_total{", "source_workload=\"unknown\""]));
    assert!(!world.has_line(&["gone-1"]));
}

#[test]
fn a_relayed_connection_is_a_flow_and_an_http_one_only_where_it_was_refused() {
    let world = World::new();
    let relayed = ConnectionRecord {
        connection: 0,
        ended: 1_000_000,
        pod: ObjectName::new("shop", "web-1"),
        client: ([10, 0, 0, 1], 41_234).into(),
        dialled: Some(([10, 96, 0, 2], 80).into()),
        service: request().service,
        rule: None,
        endpoint: Some(([10, 0, 0, 2], 8080).into()),
        security: Security::None,
        inbound: None,
        spoken: Spoken::Tcp,
        lasted: 2_000,
        received: 10,
        sent: 20,
        reason: None,
    };
    let http = ConnectionRecord { spoken: Spoken::Http1, endpoint: None, ..relayed.clone() };
    let refused = ConnectionRecord { reason: Some(Reason::POD_CONNECTIONS), ..http.clone() };
    world.take(&RecordBatch { connections: vec![relayed, http, refused], ..RecordBatch::default() });
    let flows = world.flows.last(&FlowFilter::default(), 9);
    let shown: Vec<_> = flows.iter().map(|f| (f.kind, f.reason.as_deref(), f.bytes_sent)).collect();
    assert_eq!(shown, [(FlowKind::Closed, None, 10), (FlowKind::Refused, Some("PodConnections"), 10)]);
    assert_eq!(flows[1].destination.ip.to_string(), "10.96.0.2", "what was dialled");
}

/// What a connection that was told as [`live`] says when it ends.
fn ended(received: u64, sent: u64) -> ConnectionRecord {
    let live = live();
    ConnectionRecord {
        connection: live.connection,
        ended: 9_000_000,
        pod: live.pod,
        client: live.client,
        dialled: live.dialled,
        service: None,
        rule: None,
        endpoint: Some(live.endpoint),
        security: live.security,
        inbound: None,
        spoken: Spoken::Tcp,
        lasted: 4_000_000,
        received,
        sent,
        reason: None,
    }
}

#[test]
fn bytes_of_a_live_connection_count_as_they_move_and_once() {
    let world = World::new();
    let goes_on = |received, sent| {
        let live = vec![LiveRecord { received, sent, ..live() }];
        world.take(&RecordBatch { generation: 3, live, ..RecordBatch::default() });
    };
    let counts = |name: &str, count: u64| {
        let count = format!("}} {count}");
        let labels = [
            "reporter=\"source\"",
            "destination_workload=\"api\"",
            "connection_security_policy=\"mutual_tls\"",
            &count,
        ];
        assert!(world.has_line(&[&[name], &labels[..]].concat()), "{name} is not {count}");
    };
    goes_on(10, 20);
    assert_eq!((world.last().kind, world.last().path), (FlowKind::Opened, Path::Tls));
    goes_on(15, 120);
    // Told late, or by who lost count: a counter never goes back.
    goes_on(12, 100);
    counts("istio_tcp_connections_opened_total{", 1);
    counts("istio_tcp_sent_bytes_total{", 15);
    counts("istio_tcp_received_bytes_total{", 120);
    counts("istio_tcp_connections_closed_total{", 0);
    assert_eq!(world.observer.live().by_ends().len(), 1);
    world.take(&RecordBatch { generation: 3, connections: vec![ended(16, 130)], ..RecordBatch::default() });
    counts("istio_tcp_connections_opened_total{", 1);
    counts("istio_tcp_sent_bytes_total{", 16);
    counts("istio_tcp_received_bytes_total{", 130);
    counts("istio_tcp_connections_closed_total{", 1);
    assert!(world.observer.live().by_ends().is_empty());
    assert_eq!(world.flows.last(&FlowFilter::default(), 9).len(), 2, "opened and closed");
}

#[test]
fn a_proxy_that_is_gone_has_no_live_connections_and_anothers_stay() {
    let world = World::new();
    for generation in [3, 4] {
        let inbound = (generation == 4)
            .then(|| Inbound { account: Some(weft_model::ServiceAccount::new("shop", "web")), told: false });
        let live = vec![LiveRecord { inbound, ..live() }];
        world.take(&RecordBatch { generation, live, ..RecordBatch::default() });
    }
    assert_eq!(world.observer.live().by_ends().len(), 2);
    world.observer.ended(3, &world.metrics);
    let left = world.observer.live().by_ends();
    let (ends, carried) = left.iter().next().unwrap();
    assert_eq!(*ends, crate::live::Ends::Inbound(live().client, live().endpoint));
    assert_eq!(carried.client.as_deref(), Some("spiffe://cluster.local/ns/shop/sa/web"));
    assert_eq!(left.len(), 1);
    assert!(world.has_line(&["istio_tcp_connections_closed_total{", "reporter=\"source\"", "} 1"]));
}

#[test]
fn a_new_snapshot_names_new_pods() {
    let mut world = World::new();
    world.snapshot.workloads = Arc::default();
    world.requests(vec![request()]);
    assert_eq!(world.last().destination.pod, None);
    world.snapshot = shop();
    world.requests(vec![request()]);
    assert_eq!(world.last().destination.pod.as_deref(), Some("api-1"));
}
