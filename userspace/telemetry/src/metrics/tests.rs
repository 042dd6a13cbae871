use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::{Duration, Instant},
};

use weft_model::{ObjectName, Problem, ServiceAccount, Severity, Snapshot, Workload};

use weft_abi::Reason;

use super::{
    Ends, Metrics, Peer, Reporter, TcpLabels,
    expiry::{GRACE, Live},
};
use crate::{
    api::{
        CertificateFailure, CertificateView, CertificatesView, IssuerView, JwksView, MapStatus, Path,
        ProxyStatus, Status, Time,
    },
    records::{Alike, PodUsage, RequestRecord, tests::request},
};

fn workload(owner: &str) -> Workload {
    Workload {
        name: ObjectName::new("shop", format!("{owner}-1")),
        service_account: ServiceAccount::new("shop", owner),
        ips: Vec::new(),
        node: None,
        local: true,
        labels: Arc::new(BTreeMap::from([("app".to_owned(), owner.to_owned())])),
        enrolled: true,
        netns: None,
        ports: Vec::new(),
        owner: owner.into(),
        ready: true,
        passage: weft_model::Passage::Done,
        terminating: false,
        created: u64::MAX,
    }
}

fn snapshot(owners: &[&str]) -> Snapshot {
    let pods = owners.iter().map(|owner| workload(owner)).map(|pod| (pod.name.clone(), Arc::new(pod)));
    Snapshot { workloads: Arc::new(pods.collect()), ..Snapshot::default() }
}

fn web_to_api() -> TcpLabels {
    TcpLabels {
        reporter: Reporter::Source,
        source: Arc::new(Peer::of(&workload("web"), "cluster.local")),
        destination: Arc::new(Peer::of(&workload("api"), "cluster.local")),
        service: Some(ObjectName::new("shop", "api")),
        path: Path::Kernel,
    }
}

fn status() -> Status {
    Status {
        snapshot_version: 3,
        proxy: Some(ProxyStatus { restarts: 2, lease_age_ms: Some(1_500), ..ProxyStatus::default() }),
        certificates: Some(certificates()),
        jwks: vec![jwks()],
        maps: vec![MapStatus { name: "weft_svc".into(), entries: Some(7), max: 9 }],
        counters: BTreeMap::from([("events_lost".to_owned(), 4)]),
        problems: vec![Problem {
            severity: Severity::Error,
            file: String::new(),
            line: 0,
            object: String::new(),
            field: String::new(),
            message: String::new(),
            remedy: String::new(),
        }],
        ..Status::default()
    }
}

fn jwks() -> JwksView {
    let failure = CertificateFailure { error: "away".into(), since: Time::now(), tries: 3 };
    JwksView {
        location: "https://idp.example/jwks".into(),
        keys: 2,
        fetched: Some(Time::now()),
        age_seconds: Some(301),
        failure: Some(failure),
    }
}

fn certificates() -> CertificatesView {
    let (not_before, not_after) = (Time::now(), Time::now());
    let certificate = CertificateView {
        namespace: "shop".into(),
        service_account: "web".into(),
        identity: "spiffe://cluster.local/ns/shop/sa/web".into(),
        serial: Some("0a".into()),
        not_before: Some(not_before),
        not_after: Some(not_after),
        expires_in_seconds: Some(43_200),
        renewals: 2,
        failure: None,
    };
    let issuer = IssuerView {
        name: "weft issuer 77aa01bc".into(),
        serial: "0b".into(),
        not_before,
        not_after,
        age_seconds: 7,
        expires_in_seconds: 86_400,
        warning: None,
    };
    let missing = CertificateView {
        identity: "spiffe://cluster.local/ns/shop/sa/late".into(),
        expires_in_seconds: None,
        ..certificate.clone()
    };
    CertificatesView {
        issuer: Some(issuer),
        certificates: vec![certificate, missing],
        ..CertificatesView::default()
    }
}

/// One call of each function that counts.
fn used() -> Metrics {
    let metrics = Metrics::new("1.2.3");
    metrics.tcp.opened(&web_to_api());
    metrics.tcp.closed(&web_to_api());
    metrics.tcp.transferred(&web_to_api(), 10, 20);
    let call = RequestRecord { grpc: true, grpc_status: Some(14), messages: (3, 4), ..request() };
    let ends = Ends {
        source: metrics.http.known(Peer::of(&workload("web"), "cluster.local")),
        destination: metrics.http.known(Peer::of(&workload("api"), "cluster.local")),
        both: true,
    };
    metrics.http.count(&Alike::of(&call), &ends);
    metrics.proxy.used(1, &usage(1));
    metrics.proxy.rejected(&ObjectName::new("shop", "web-1"), Reason::NO_RULE, 1);
    metrics.proxy.lost(1, 9);
    metrics.agent.dropped("NotAllowed");
    metrics.agent.audited("PolicyDenied", 1);
    metrics.agent.applied(Duration::from_millis(3));
    metrics
}

/// What pod `shop/web-1` used: so many connections are open.
fn usage(open: u64) -> PodUsage {
    PodUsage {
        pod: ObjectName::new("shop", "web-1"),
        connections: open,
        connections_total: 5,
        requests: 2,
        requests_total: 50,
        received: 500,
        sent: 5_000,
        busy_ns: 1_500_000_000,
        mirrors_dropped: 0,
        handshakes: 0,
    }
}

fn families(text: &str) -> Vec<&str> {
    text.lines().filter_map(|line| line.strip_prefix("# TYPE ")).collect()
}

/// The labels of a family's samples, as far as people choose by them.
fn labels(text: &str, family: &str) -> String {
    let of_family = |line: &&str| {
        let rest = line.strip_prefix(family);
        rest.is_some_and(|rest| {
            ["{", "_total{", "_bucket{", "_info{"].iter().any(|end| rest.starts_with(end))
        })
    };
    let inside = text.lines().filter(of_family).filter_map(|line| line.split_once('{')?.1.rsplit_once('}'));
    let names: BTreeSet<_> = inside
        .flat_map(|(labels, _)| labels.split("\","))
        .filter_map(|label| Some(label.split_once('=')?.0))
        .filter(|name| *name != "le")
        .collect();
    names.into_iter().collect::<Vec<_>>().join(",")
}

#[test]
fn the_names_types_and_labels_are_the_promised_ones() {
    let text = used().encode(&status(), &snapshot(&["web"]));
    let told = families(&text).into_iter().map(|family| {
        let labels = labels(&text, family.split(' ').next().unwrap());
        format!("{family} {labels}").trim_end().to_owned()
    });
    let told: Vec<_> = told.collect();
    assert_eq!(told.join("\n"), include_str!("names.txt").trim_end());
}

#[test]
fn no_metric_is_without_a_value_once_all_has_happened() {
    let text = used().encode(&status(), &snapshot(&["web"]));
    for family in families(&text) {
        let name = family.split(' ').next().unwrap();
        let sample = |line: &&str| !line.starts_with('#') && line.starts_with(name);
        assert!(text.lines().any(|line| sample(&line)), "nothing increments {name}:\n{text}");
    }
}

#[test]
fn a_connection_has_istios_labels() {
    let text = used().encode(&status(), &snapshot(&["web"]));
    let line = text.lines().find(|line| line.starts_with("istio_tcp_sent_bytes_total")).unwrap();
    assert_eq!(
        line,
        "istio_tcp_sent_bytes_total{reporter=\"source\",source_workload=\"web\",\
         source_workload_namespace=\"shop\",source_principal=\"spiffe://cluster.local/ns/shop/sa/web\",\
         source_app=\"web\",source_version=\"unknown\",source_canonical_service=\"web\",\
         source_canonical_revision=\"latest\",source_cluster=\"Kubernetes\",destination_workload=\"api\",\
         destination_workload_namespace=\"shop\",\
         destination_principal=\"spiffe://cluster.local/ns/shop/sa/api\",destination_app=\"api\",\
         destination_version=\"unknown\",destination_canonical_service=\"api\",\
         destination_canonical_revision=\"latest\",destination_cluster=\"Kubernetes\",\
         destination_service=\"api.shop.svc.cluster.local\",destination_service_name=\"api\",\
         destination_service_namespace=\"shop\",request_protocol=\"tcp\",response_flags=\"-\",\
         connection_security_policy=\"none\",path=\"kernel\"} 10"
    );
}

#[test]
fn what_the_status_knows_is_shown() {
    let text = used().encode(&status(), &snapshot(&["web"]));
    for line in [
        "weft_snapshot_version 3",
        "weft_map_entries{map=\"weft_svc\"} 7",
        "weft_map_capacity{map=\"weft_svc\"} 9",
        "weft_kernel_events_total{event=\"events_lost\"} 4",
        "weft_problems{severity=\"error\"} 1",
        "weft_problems{severity=\"warning\"} 0",
        "weft_jwks_age_seconds{location=\"https://idp.example/jwks\"} 301",
        "weft_jwks_failing{location=\"https://idp.example/jwks\"} 1",
        "weft_certificate_expiry_seconds{identity=\"spiffe://cluster.local/ns/shop/sa/web\"} 43200",
        "weft_certificate_renewals_total{identity=\"spiffe://cluster.local/ns/shop/sa/web\"} 2",
        "weft_certificate_failing{identity=\"spiffe://cluster.local/ns/shop/sa/web\"} 0",
        "weft_issuer_expiry_seconds 86400",
        "weft_issuer_failing 0",
        "weft_drops_total{reason=\"NotAllowed\"} 1",
        "weft_build_info{version=\"1.2.3\"} 1",
    ] {
        assert!(text.lines().any(|found| found == line), "no {line} in\n{text}");
    }
}

#[test]
fn an_identity_that_is_given_up_or_has_no_certificate_yet_has_no_expiry() {
    let metrics = used();
    let text = metrics.encode(&status(), &snapshot(&["web"]));
    assert_eq!(text.matches("weft_certificate_expiry_seconds{").count(), 1, "{text}");
    let given_up = Status { certificates: Some(CertificatesView::default()), ..status() };
    assert!(!metrics.encode(&given_up, &snapshot(&["web"])).contains("weft_certificate_expiry_seconds{"));
}

#[test]
fn the_series_of_a_deleted_workload_expire_after_a_grace() {
    let metrics = used();
    let start = Instant::now();
    let shown = || metrics.encode(&status(), &snapshot(&["web"])).contains("istio_tcp_sent_bytes_total{");
    metrics.tcp.expire(&Live::of(&snapshot(&["web"])), start);
    metrics.tcp.expire(&Live::of(&snapshot(&["api"])), start + GRACE);
    metrics.tcp.expire(&Live::of(&snapshot(&["web"])), start + GRACE * 3 / 2);
    metrics.tcp.expire(&Live::of(&snapshot(&["api"])), start + GRACE * 7 / 4);
    metrics.tcp.expire(&Live::of(&snapshot(&["api"])), start + GRACE * 10 / 4);
    assert!(shown(), "it came back between, so its grace began anew");
    metrics.tcp.expire(&Live::of(&snapshot(&["api"])), start + GRACE * 4);
    metrics.tcp.expire(&Live::of(&snapshot(&["api"])), start + GRACE * 5);
    assert!(!shown());
}

#[test]
fn a_pods_use_of_the_proxy_goes_on_over_generations() {
    let metrics = Metrics::new("1.2.3");
    let shown = || metrics.encode(&status(), &snapshot(&["web"]));
    let value = |name: &str| {
        let start = format!("{name}{{namespace=\"shop\",pod=\"web-1\"}} ");
        let text = shown();
        let line = text.lines().find_map(|line| line.strip_prefix(&start)).map(str::to_owned);
        line.unwrap_or_else(|| panic!("no {start} in\n{text}"))
    };
    metrics.proxy.used(1, &usage(3));
    metrics.proxy.used(2, &usage(4));
    assert_eq!(value("weft_proxy_connections_open"), "7");
    assert_eq!(value("weft_proxy_requests_total"), "100");
    metrics.proxy.ended(1);
    assert_eq!(value("weft_proxy_connections_open"), "4");
    assert_eq!(value("weft_proxy_requests_total"), "100", "a counter never falls");
    assert_eq!(value("weft_proxy_cpu_seconds_total"), "3.0");
}

#[test]
fn what_a_killed_proxy_had_open_is_counted_as_cut_and_what_one_that_ended_in_order_had_is_not() {
    let metrics = Metrics::new("1.2.3");
    let cut = || {
        let text = metrics.encode(&status(), &snapshot(&["web-1"]));
        let line = text.lines().find(|line| line.contains("reason=\"Cut\""));
        line.and_then(|line| line.rsplit(' ').next()).map(str::to_owned)
    };
    metrics.proxy.used(1, &usage(3));
    metrics.proxy.used(1, &PodUsage { connections: 0, requests: 0, ..usage(3) });
    metrics.proxy.ended(1);
    assert_eq!(cut(), None);
    // Three connections, and two requests under way.
    metrics.proxy.used(2, &usage(3));
    metrics.proxy.ended(2);
    metrics.proxy.ended(2);
    assert_eq!(cut().as_deref(), Some("5"));
}

#[test]
fn a_pods_series_of_the_proxy_expire_with_it() {
    let metrics = Metrics::new("1.2.3");
    metrics.proxy.used(1, &usage(3));
    let start = Instant::now();
    metrics.proxy.expire(&snapshot(&[]), start);
    metrics.proxy.expire(&snapshot(&[]), start + GRACE * 3 / 4);
    let shown = || metrics.encode(&status(), &snapshot(&[])).contains("weft_proxy_requests_total{");
    assert!(shown());
    metrics.proxy.expire(&snapshot(&[]), start + GRACE);
    assert!(!shown());
}
