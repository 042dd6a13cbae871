//! What the node's proxy told of the shop's requests.

use std::time::Duration;

use weft_abi::Reason;
use weft_model::{ObjectName, RouteKind, RouteName};
use weft_telemetry::records::{Destination, RecordBatch, RequestRecord, Rule, Security, Spoken};

/// A call that is answered, one that is refused, a gRPC call that fails at the server, and one to a Service without
/// a route.
pub(crate) fn requests() -> RecordBatch {
    let refused = RequestRecord {
        method: "POST".into(),
        path: "/admin".into(),
        reason: Some(Reason::NO_RULE),
        status: 404,
        tries: 0,
        endpoint: None,
        rule: None,
        lasted: 150,
        ..request(1)
    };
    let call = RequestRecord {
        spoken: Spoken::Http2,
        grpc: true,
        method: "POST".into(),
        path: "/shop.Cart/Add".into(),
        rule: Some(Rule(RouteName { kind: RouteKind::Grpc, name: ObjectName::new("shop", "calls") }, 0)),
        grpc_status: Some(14),
        reason: Some(Reason::UPSTREAM_RESET),
        lasted: 1_250_000,
        ..request(2)
    };
    let plain = RequestRecord {
        service: Some(Destination(ObjectName::new("shop", "web"), 80)),
        rule: None,
        lasted: 900,
        ..request(3)
    };
    let requests = vec![request(0), refused, call, plain, RequestRecord { lasted: 14_000, ..request(4) }];
    RecordBatch { generation: 1, requests, ..RecordBatch::default() }
}

fn request(ordinal: u64) -> RequestRecord {
    let ended = Duration::from_millis(43_800_000 + ordinal * 1_000);
    RequestRecord {
        ended: u64::try_from(ended.as_micros()).unwrap(),
        pod: ObjectName::new("shop", "web-1"),
        client: ([10, 1, 0, 11], 41_240).into(),
        spoken: Spoken::Http1,
        grpc: false,
        service: Some(Destination(ObjectName::new("shop", "api"), 80)),
        rule: Some(Rule(RouteName { kind: RouteKind::Http, name: ObjectName::new("shop", "canary") }, 0)),
        backend: Some(Destination(ObjectName::new("shop", "api"), 80)),
        endpoint: Some(([10, 1, 0, 21], 8080).into()),
        method: "GET".into(),
        authority: "api.shop".into(),
        path: "/v1/items".into(),
        id: "".into(),
        trace: "".into(),
        agent: "".into(),
        status: 200,
        grpc_status: None,
        reason: None,
        audit: None,
        inbound: None,
        delayed: false,
        exhausted: false,
        tries: 1,
        lasted: 12_400,
        upstream: 11_900,
        received: 0,
        sent: 1_024,
        messages: (0, 0),
        security: Security::None,
    }
}
