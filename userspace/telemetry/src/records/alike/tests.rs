use weft_abi::Reason;
use weft_model::{ObjectName, RouteKind, RouteName};

use super::*;
use crate::records::{
    Destination, Inbound, RecordBatch, Rule, Security, Spoken, Unreadable,
    tests::{release, request},
};

/// Three requests that differ in all that a request has of its own.
fn three() -> [RequestRecord; 3] {
    let second = RequestRecord {
        ended: 1_700_000_000_200_000,
        client: ([10, 0, 0, 1], 41_235).into(),
        lasted: 9,
        path: "/v1/ä".into(),
        id: "5f0c2a34".into(),
        trace: "4bf92f35".into(),
        upstream: 7,
        received: 5,
        sent: 0,
        messages: (1, 2),
        ..request()
    };
    [request(), second.clone(), RequestRecord { id: "".into(), trace: "".into(), ..second }]
}

fn alike(records: &[RequestRecord]) -> Alike {
    let mut alike = Alike::of(&records[0]);
    for record in &records[1..] {
        assert!(alike.takes(record), "{record:?}");
    }
    alike
}

fn read(alike: Alike) -> Result<RecordBatch, Unreadable> {
    RecordBatch::read(&RecordBatch { alike: vec![alike], ..RecordBatch::default() }.to_bytes())
}

#[test]
fn requests_that_are_alike_read_back_as_each_was_told() {
    let read = read(alike(&three())).unwrap();
    assert_eq!(read.alike[0].records().collect::<Vec<_>>(), three());
    assert_eq!(read.alike[0].count(), 3);
}

#[test]
fn what_no_request_of_a_group_has_is_not_told() {
    let plain = RequestRecord { sent: 0, upstream: 0, ..request() };
    let records = vec![plain.clone(); 100];
    let bytes = RecordBatch { alike: vec![alike(&records)], ..RecordBatch::default() }.to_bytes();
    // Times, ports and paths of each, and one request.
    assert!(bytes.len() < 100 * 28 + 400, "{} bytes", bytes.len());
    assert_eq!(RecordBatch::read(&bytes).unwrap().alike[0].records().collect::<Vec<_>>(), records);
}

#[test]
fn requests_that_differ_in_more_are_not_alike() {
    let name = || ObjectName::new("shop", "other");
    let other = [
        RequestRecord { pod: name(), ..request() },
        RequestRecord { client: ([10, 0, 0, 9], 41_234).into(), ..request() },
        RequestRecord { spoken: Spoken::Http2, ..request() },
        RequestRecord { grpc: true, ..request() },
        RequestRecord { service: Some(Destination(name(), 80)), ..request() },
        RequestRecord { rule: Some(Rule(RouteName { kind: RouteKind::Grpc, name: name() }, 1)), ..request() },
        RequestRecord { backend: None, ..request() },
        RequestRecord { endpoint: None, ..request() },
        RequestRecord { method: "PUT".into(), ..request() },
        RequestRecord { authority: "other.shop".into(), ..request() },
        RequestRecord { agent: "curl".into(), ..request() },
        RequestRecord { status: 503, ..request() },
        RequestRecord { grpc_status: Some(0), ..request() },
        RequestRecord { reason: Some(Reason::CLIENT_GONE), ..request() },
        RequestRecord { audit: Some(Reason::NOT_ALLOWED), ..request() },
        RequestRecord { inbound: Some(Inbound { account: None, told: true }), ..request() },
        RequestRecord { delayed: true, ..request() },
        RequestRecord { exhausted: true, ..request() },
        RequestRecord { tries: 2, ..request() },
        RequestRecord { security: Security::MutualTls, ..request() },
    ];
    for record in other {
        let mut alike = alike(&[request()]);
        assert!(!alike.takes(&record), "{record:?}");
        assert_eq!(alike.count(), 1);
        assert_eq!(read(Alike::of(&record)).unwrap().alike[0].records().next(), Some(record));
    }
}

#[test]
fn a_group_that_tells_of_some_by_half_is_refused() {
    let halves: [fn(&mut Alike); 5] = [
        |alike| alike.port = Column::default(),
        |alike| alike.lasted.push(1),
        |alike| alike.path.push("/a"),
        |alike| alike.sent.push(1),
        |alike| *alike = Alike { ended: Column::default(), ..alike.clone() },
    ];
    for half in halves {
        let mut alike = alike(&three());
        half(&mut alike);
        assert!(matches!(read(alike), Err(Unreadable::Half)));
    }
}

#[test]
fn a_batch_of_more_requests_than_any_proxy_tells_is_refused() {
    let of = |count| read(alike(&vec![request(); count]));
    assert_eq!(of(4_096).unwrap().alike[0].count(), 4_096);
    let refused = of(4_097).unwrap_err();
    assert!(matches!(refused, Unreadable::TooMany { requests: 4_097 }));
    assert!(refused.to_string().contains("4097 requests, of 4096"), "{refused}");
}

#[test]
fn names_that_no_object_has_are_refused_in_a_group_too() {
    let named = RequestRecord { pod: ObjectName::new("shop", "web\u{1b}[2J"), ..request() };
    assert!(matches!(read(Alike::of(&named)), Err(Unreadable::Name { .. })));
}

#[test]
fn texts_of_a_group_are_cut_where_a_record_s_are() {
    let mut alike = alike(&three());
    alike.path = Texts::default();
    for path in ["/a", &"x".repeat(1_000), "/\u{1b}[2J"] {
        alike.path.push(path);
    }
    let read = read(alike).unwrap();
    let paths: Vec<_> = read.alike[0].records().map(|record| record.path.to_string()).collect();
    assert_eq!(paths, ["/a", &"x".repeat(512), "/?[2J"]);
}

#[test]
fn a_group_of_another_release_is_the_same_group() {
    // Each column is told, and each of its places.
    let second = three()[1].clone();
    let third = RequestRecord { sent: 3, ended: 8, path: "/".into(), ..second.clone() };
    release::agrees("alike.json", &alike(&[second, third]), &[]);
}
