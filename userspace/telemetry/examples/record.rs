//! What one record costs the agent, by part: `cargo run --release -p weft-telemetry --example record`.
#![expect(clippy::print_stdout, reason = "printing is what it is for")]

use std::{collections::BTreeMap, hint::black_box, sync::Arc, time::Instant};

use weft_model::{ObjectName, RouteKind, RouteName, ServiceAccount, Snapshot, Workload};
use weft_telemetry::{
    flows::FlowLog,
    metrics::{Ends, Metrics, Peer},
    observer::Observer,
    records::{Alike, Destination, RecordBatch, RequestRecord, Rule, Security, Spoken},
    window::Window,
};

fn main() {
    let snapshot = snapshot();
    let kinds = || (0..KINDS).map(|pod| alike((0..EACH).map(|port| request(pod, port))));
    let batch = RecordBatch { generation: 1, alike: kinds().collect(), ..RecordBatch::default() };
    let records = usize::from(KINDS * EACH);
    let text = batch.to_bytes();
    println!("{records} records, {EACH} of a kind: {} bytes of MessagePack each", text.len() / records);

    let metrics = Metrics::new("bench");
    let known = |pod: &ObjectName| metrics.http.known(Peer::of(&snapshot.workloads[pod], "cluster.local"));
    let ends_of = |alike: &Alike| Ends {
        source: known(&alike.like().pod),
        destination: metrics.http.unknown(),
        both: false,
    };
    let ends: Vec<_> = batch.alike.iter().map(ends_of).collect();
    let window = Window::default();
    let (observer, flows) = (Observer::new().0, FlowLog::new());
    let now = Instant::now();
    let all: Vec<Vec<_>> = (0..KINDS).map(|pod| (0..EACH).map(|port| request(pod, port)).collect()).collect();
    per_record("put to its like", || {
        for records in &all {
            drop(black_box(alike(records.iter().cloned())));
        }
    });
    per_record("to MessagePack", || drop(black_box(batch.to_bytes())));
    per_record("from MessagePack", || drop(black_box(RecordBatch::read(&text))));
    per_record("metrics", || {
        for (alike, ends) in batch.alike.iter().zip(&ends) {
            metrics.http.count(alike, ends);
        }
    });
    per_record("window", || {
        for alike in &batch.alike {
            window.count(alike, now);
        }
    });
    per_record("all of Observer::take", || observer.take(&batch, &snapshot, &flows, &metrics));

    let began = Instant::now();
    let text = metrics.encode(&weft_telemetry::api::Status::default(), &snapshot);
    println!(
        "{:>24} {:>8.1} ms, {} KiB",
        "one scrape",
        began.elapsed().as_secs_f64() * 1e3,
        text.len() / 1024
    );
}

/// The best of some rounds: the machine is shared.
fn per_record(what: &str, mut once: impl FnMut()) {
    let rounds = (0..ROUNDS).map(|_| {
        let began = Instant::now();
        (0..BATCHES).for_each(|_| once());
        began.elapsed().as_secs_f64() * 1e9 / f64::from(BATCHES) / f64::from(KINDS * EACH)
    });
    println!("{what:>24} {:>8.0} ns", rounds.fold(f64::INFINITY, f64::min));
}

fn alike(mut records: impl Iterator<Item = RequestRecord>) -> Alike {
    let mut alike = Alike::of(&records.next().expect("a kind has requests"));
    for record in records {
        assert!(alike.takes(&record), "all are of one kind");
    }
    alike
}

fn request(pod: u16, port: u16) -> RequestRecord {
    RequestRecord {
        ended: 1_700_000_000_123_456,
        pod: name(pod),
        client: ([10, 0, 0, 1], 40_000 + port).into(),
        spoken: Spoken::Http1,
        grpc: false,
        service: Some(Destination(ObjectName::new("shop", "api"), 80)),
        rule: Some(Rule(RouteName { kind: RouteKind::Http, name: ObjectName::new("shop", "canary") }, 1)),
        backend: Some(Destination(ObjectName::new("shop", "api"), 80)),
        endpoint: Some(([10, 9, 0, 2], 8080).into()),
        method: "GET".into(),
        authority: "api.shop".into(),
        path: "/v1/items".into(),
        id: "5f0c2a34-7c1f-4a52-9a3f-0d6c1d1f9b3e".into(),
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
        lasted: 1_240 * (u64::from(pod) + 1),
        upstream: 1_190,
        received: 0,
        sent: 1_024,
        messages: (0, 0),
        security: Security::None,
    }
}

fn snapshot() -> Snapshot {
    let pods = (0..KINDS).map(|pod| {
        let workload = Workload {
            name: name(pod),
            service_account: ServiceAccount::new("shop", format!("web-{pod}")),
            ips: Vec::new(),
            node: None,
            local: true,
            labels: Arc::new(BTreeMap::from([("app".to_owned(), format!("web-{pod}"))])),
            enrolled: true,
            netns: None,
            ports: Vec::new(),
            owner: format!("web-{pod}").into(),
            ready: true,
            passage: weft_model::Passage::Done,
            terminating: false,
            created: u64::MAX,
        };
        (workload.name.clone(), Arc::new(workload))
    });
    Snapshot { workloads: Arc::new(pods.collect()), ..Snapshot::default() }
}

fn name(pod: u16) -> ObjectName {
    ObjectName::new("shop", format!("web-{pod}"))
}

/// Pods that send requests, each a series.
const KINDS: u16 = 8;
/// Requests of each.
const EACH: u16 = 64;
const BATCHES: u32 = 200;
const ROUNDS: u32 = 20;
