use std::fmt::Write as _;

use weft_abi::Reason;
use weft_model::{ObjectName, RouteKind, RouteName, ServiceAccount};

use super::*;

#[path = "../../../../tests/releases/release.rs"]
pub(super) mod release;

/// `GET /v1/items` from pod `shop/web-1` by HTTPRoute `shop/canary` to `shop/api-1`, answered with 200 in 12 ms.
pub(crate) fn request() -> RequestRecord {
    RequestRecord {
        ended: 1_700_000_000_123_456,
        pod: ObjectName::new("shop", "web-1"),
        client: ([10, 0, 0, 1], 41_234).into(),
        spoken: Spoken::Http1,
        grpc: false,
        service: Some(Destination(ObjectName::new("shop", "api"), 80)),
        rule: Some(Rule(RouteName { kind: RouteKind::Http, name: ObjectName::new("shop", "canary") }, 1)),
        backend: Some(Destination(ObjectName::new("shop", "api"), 80)),
        endpoint: Some(([10, 0, 0, 2], 8080).into()),
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

/// A connection from `shop/web-1` to `shop/api-1` of another node.
pub(crate) fn live() -> LiveRecord {
    LiveRecord {
        connection: 9,
        began: 5_000_000,
        pod: ObjectName::new("shop", "web-1"),
        client: ([10, 0, 0, 1], 41_234).into(),
        dialled: Some(([10, 96, 0, 2], 80).into()),
        service: None,
        endpoint: ([10, 0, 0, 2], 8080).into(),
        security: Security::MutualTls,
        inbound: None,
        peer: None,
        received: 10,
        sent: 20,
    }
}

#[test]
fn a_batch_reads_back_as_it_is_written() {
    let refused = RequestRecord { reason: Some(Reason::NO_RULE), status: 404, tries: 0, ..request() };
    let connection = ConnectionRecord {
        connection: 0,
        ended: 7,
        pod: ObjectName::new("shop", "web-1"),
        client: ([10, 0, 0, 1], 41_234).into(),
        dialled: None,
        service: None,
        rule: None,
        endpoint: None,
        security: Security::None,
        inbound: None,
        spoken: Spoken::Tcp,
        lasted: 3,
        received: 0,
        sent: 0,
        reason: Some(Reason::NO_ORIGIN),
    };
    let batch = RecordBatch {
        generation: 3,
        requests: vec![request(), refused],
        alike: Vec::new(),
        connections: vec![connection],
        live: vec![live()],
        usage: Vec::new(),
        lost: 0,
    };
    assert_eq!(RecordBatch::read(&batch.to_bytes()).unwrap(), batch);
    let one = rmp_serde::to_vec_named(&request()).unwrap();
    assert!(one.len() < 300, "{} bytes", one.len());
}

#[test]
fn names_that_no_object_has_are_refused_with_the_batch() {
    let long = "a".repeat(254);
    for name in [
        ObjectName::new("shop", long.as_str()),
        ObjectName::new(&long[..64], "web"),
        ObjectName::new("shop", "web\u{1b}[2J"),
        ObjectName::new("", "web"),
    ] {
        let rule = Rule(RouteName { kind: RouteKind::Http, name: name.clone() }, 0);
        let records = [
            RequestRecord { pod: name.clone(), ..request() },
            RequestRecord { service: Some(Destination(name.clone(), 80)), ..request() },
            RequestRecord { backend: Some(Destination(name.clone(), 80)), ..request() },
            RequestRecord { rule: Some(rule), ..request() },
        ];
        for record in records {
            let batch = RecordBatch { requests: vec![record], ..RecordBatch::default() };
            assert!(RecordBatch::read(&batch.to_bytes()).is_err(), "{name}");
        }
    }
}

#[test]
fn what_a_newer_proxy_adds_is_skipped_and_its_reasons_are_unknown_ones() {
    let newer = RequestRecord { reason: Some(Reason::from(254)), ..request() };
    let mut bytes = rmp_serde::to_vec_named(&newer).unwrap();
    // MessagePack's map of 16 bits of length: one more field, {"new": 1}.
    assert_eq!(bytes[0], 0xde);
    bytes[2] += 1;
    bytes.extend(b"\xa3new\x01");
    let read: RequestRecord = rmp_serde::from_slice(&bytes).unwrap();
    assert_eq!(read, RequestRecord { reason: Some(Reason::UNKNOWN), ..request() });
}

#[test]
fn texts_are_cut_before_a_character_when_they_are_read() {
    let text: Text<4> = serde_json::from_str("\"abcö\"").unwrap();
    assert_eq!(&*text, "abc");
    assert_eq!(&*Text::<8>::from("abcö"), "abcö");
}

#[test]
fn no_text_moves_a_terminals_cursor() {
    let text: Text<32> = serde_json::from_str(r#""/a\u001b[2J\n/b""#).unwrap();
    assert_eq!(&*text, "/a?[2J?/b");
}

#[test]
fn flags_of_a_reason_a_delay_and_used_up_tries_stand_together() {
    let flags =
        |reason, delayed, exhausted| RequestRecord { reason, delayed, exhausted, ..request() }.flags();
    assert_eq!(flags(None, false, false), "-");
    assert_eq!(flags(None, true, false), "DI");
    assert_eq!(flags(Some(Reason::CONNECT_FAILED), false, true), "UF,URX");
    for reason in Reason::ALL {
        let flag = reason.flag();
        let both = if flag == "-" { "DI,URX".to_owned() } else { format!("{flag},DI,URX") };
        assert_eq!(flags(Some(*reason), true, true), both, "{reason} is missing among the joined flags");
    }
}

#[test]
fn a_refusal_is_what_no_server_saw_or_a_policy_forbade() {
    let refused = |reason, tries| RequestRecord { reason, tries, ..request() }.is_refused();
    assert!(refused(Some(Reason::NO_RULE), 0));
    assert!(refused(Some(Reason::NOT_ALLOWED), 1));
    assert!(!refused(Some(Reason::UPSTREAM_RESET), 1));
    assert!(!refused(None, 0), "a redirect");
}

#[test]
fn success_is_an_answer_below_500_and_a_call_that_is_ok() {
    let ok = |status, grpc_status| RequestRecord { status, grpc_status, ..request() }.succeeded();
    for (status, grpc, success) in [
        (200, None, true),
        (404, None, true),
        (500, None, false),
        (0, None, false),
        (200, Some(0), true),
        (200, Some(14), false),
    ] {
        assert_eq!(ok(status, grpc), success, "{status} {grpc:?}");
    }
}

#[test]
fn a_batch_of_another_release_is_the_same_batch() {
    let inbound = Inbound { account: Some(ServiceAccount::new("shop", "web")), told: true };
    let request = RequestRecord {
        grpc: true,
        authority: "api.shop".into(),
        id: "1".into(),
        trace: "2".into(),
        agent: "curl".into(),
        grpc_status: Some(14),
        reason: Some(Reason::NO_RULE),
        audit: Some(Reason::NOT_ALLOWED),
        inbound: Some(inbound.clone()),
        delayed: true,
        exhausted: true,
        received: 7,
        messages: (1, 2),
        security: Security::MutualTls,
        ..request()
    };
    let live = LiveRecord {
        service: request.service.clone(),
        inbound: Some(inbound.clone()),
        peer: Some(([10, 0, 0, 1], 41_235).into()),
        ..live()
    };
    let connection = ConnectionRecord {
        connection: 9,
        ended: 7,
        pod: live.pod.clone(),
        client: live.client,
        dialled: live.dialled,
        service: live.service.clone(),
        rule: request.rule.clone(),
        endpoint: request.endpoint,
        security: Security::MutualTls,
        inbound: Some(inbound),
        spoken: Spoken::Tcp,
        lasted: 3,
        received: 4,
        sent: 5,
        reason: Some(Reason::NO_ORIGIN),
    };
    let usage = PodUsage {
        pod: live.pod.clone(),
        connections: 1,
        connections_total: 2,
        requests: 3,
        requests_total: 4,
        received: 5,
        sent: 6,
        busy_ns: 7,
        mirrors_dropped: 8,
        handshakes: 9,
    };
    let batch = RecordBatch {
        generation: 3,
        requests: vec![request],
        alike: Vec::new(),
        connections: vec![connection],
        live: vec![live],
        usage: vec![usage],
        lost: 2,
    };
    release::agrees("records.json", &batch, &[]);
    // The very bytes, too: the same values have other forms in MessagePack.
    let hex = batch.to_bytes().iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    });
    let recorded = release::recorded("records.msgpack.json", &hex.into());
    let recorded = recorded.as_str().unwrap().as_bytes().chunks(2);
    let bytes: Vec<u8> =
        recorded.map(|pair| u8::from_str_radix(str::from_utf8(pair).unwrap(), 16).unwrap()).collect();
    assert_eq!(RecordBatch::read(&bytes).unwrap(), batch);
}
