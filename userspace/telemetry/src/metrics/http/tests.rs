use prometheus_client::encoding::text;
use weft_abi::Reason;
use weft_model::{ServiceAccount, Snapshot, Workload};

use super::*;
use crate::{metrics::expiry::GRACE, records::tests::request};

fn workload(owner: &str) -> Workload {
    Workload {
        name: ObjectName::new("shop", format!("{owner}-1")),
        service_account: ServiceAccount::new("shop", owner),
        ips: Vec::new(),
        node: None,
        local: true,
        labels: Arc::default(),
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

struct World {
    registry: Registry,
    metrics: HttpMetrics,
}

impl World {
    fn of(most: usize) -> Self {
        let (mut registry, metrics) = (Registry::default(), HttpMetrics::with_most(most));
        registry.register_collector(Box::new(metrics.clone()));
        Self { registry, metrics }
    }

    fn ends(&self, both: bool) -> Ends {
        let known = |owner| self.metrics.known(Peer::of(&workload(owner), "cluster.local"));
        Ends { source: known("web"), destination: known("api"), both }
    }

    fn text(&self) -> String {
        let mut text = String::new();
        text::encode(&mut text, &self.registry).unwrap();
        text
    }

    /// The values of the series of this name, whose labels have all of these texts.
    fn values(&self, name: &str, labels: &[&str]) -> Vec<String> {
        let text = self.text();
        let lines = text.lines().filter(|line| line.starts_with(&format!("{name}{{")));
        let lines = lines.filter(|line| labels.iter().all(|label| line.contains(label)));
        lines.map(|line| line.rsplit(' ').next().unwrap().to_owned()).collect()
    }
}

#[test]
fn a_request_has_istios_names_and_labels() {
    let world = World::of(9);
    world.metrics.count(&Alike::of(&request()), &world.ends(false));
    let text = world.text();
    let line = text.lines().find(|line| line.starts_with("istio_requests_total")).unwrap();
    assert_eq!(
        line,
        "istio_requests_total{reporter=\"source\",source_workload=\"web\",source_workload_namespace=\"shop\",\
         source_principal=\"spiffe://cluster.local/ns/shop/sa/web\",source_app=\"unknown\",\
         source_version=\"unknown\",source_canonical_service=\"web\",source_canonical_revision=\"latest\",\
         source_cluster=\"Kubernetes\",destination_workload=\"api\",destination_workload_namespace=\"shop\",\
         destination_principal=\"spiffe://cluster.local/ns/shop/sa/api\",destination_app=\"unknown\",\
         destination_version=\"unknown\",destination_canonical_service=\"api\",\
         destination_canonical_revision=\"latest\",destination_cluster=\"Kubernetes\",\
         destination_service=\"api.shop.svc.cluster.local\",destination_service_name=\"api\",\
         destination_service_namespace=\"shop\",request_protocol=\"http\",response_code=\"200\",\
         grpc_response_status=\"\",response_flags=\"-\",connection_security_policy=\"none\",path=\"http\"} 1"
    );
}

#[test]
fn durations_and_sizes_fall_into_istios_buckets() {
    let world = World::of(9);
    for lasted in [500, 501, 12_400, 7_200_000_000] {
        world.metrics.count(&Alike::of(&RequestRecord { lasted, ..request() }), &world.ends(false));
    }
    let name = "istio_request_duration_milliseconds_bucket";
    for (border, count) in
        [("0.5", "1"), ("1.0", "2"), ("10.0", "2"), ("25.0", "3"), ("3600000.0", "3"), ("+Inf", "4")]
    {
        assert_eq!(world.values(name, &[&format!("le=\"{border}\"")]), [count], "{border}");
    }
    assert_eq!(world.values("istio_response_bytes_sum", &[]), ["4096.0"]);
    assert_eq!(world.values("istio_request_bytes_count", &[]), ["4"]);
}

#[test]
fn an_end_on_this_node_reports_too() {
    let world = World::of(9);
    world.metrics.count(&Alike::of(&request()), &world.ends(true));
    assert_eq!(world.values("istio_requests_total", &["reporter=\"source\""]), ["1"]);
    assert_eq!(world.values("istio_requests_total", &["reporter=\"destination\""]), ["1"]);
}

#[test]
fn a_grpc_call_shows_its_status_and_messages_and_a_plain_request_has_none() {
    let world = World::of(9);
    let call = RequestRecord { grpc: true, grpc_status: Some(14), messages: (3, 4), ..request() };
    world.metrics.count(&Alike::of(&call), &world.ends(false));
    world.metrics.count(&Alike::of(&request()), &world.ends(false));
    let labels = ["request_protocol=\"grpc\"", "grpc_response_status=\"14\""];
    assert_eq!(world.values("istio_request_messages_total", &labels), ["3"]);
    assert_eq!(world.values("istio_response_messages_total", &[]), ["4"]);
}

#[test]
fn how_a_request_failed_is_a_label() {
    let world = World::of(9);
    let failed =
        RequestRecord { reason: Some(Reason::NO_ENDPOINTS), status: 503, exhausted: true, ..request() };
    world.metrics.count(&Alike::of(&failed), &world.ends(false));
    assert_eq!(
        world.values("istio_requests_total", &["response_code=\"503\"", "response_flags=\"UH,URX\""]),
        ["1"]
    );
}

#[test]
fn over_the_bound_requests_are_counted_in_one_series_for_each_reporter() {
    let world = World::of(4);
    for status in 200..210 {
        world.metrics.count(&Alike::of(&RequestRecord { status, ..request() }), &world.ends(true));
    }
    let overflow = world.values("istio_requests_total", &["source_workload=\"overflow\""]);
    assert_eq!(overflow, ["8", "8"], "two of ten had room");
    assert_eq!(world.values("istio_requests_total", &[]).len(), 6);
    assert!(world.text().contains("\nweft_http_series_overflow_total 16\n"));
}

#[test]
fn series_of_a_workload_that_is_gone_make_room_after_a_grace() {
    let world = World::of(2);
    world.metrics.count(&Alike::of(&request()), &world.ends(true));
    let gone = Snapshot::default();
    let start = Instant::now();
    world.metrics.expire(&Live::of(&gone), start);
    assert_eq!(world.values("istio_requests_total", &[]).len(), 2);
    world.metrics.expire(&Live::of(&gone), start + GRACE);
    assert_eq!(world.values("istio_requests_total", &[]).len(), 0);
    assert_eq!(world.metrics.all().peers.len(), 0, "and so do their labels");
}

#[test]
fn a_workload_is_one_whatever_snapshot_it_comes_from() {
    let world = World::of(9);
    for _ in 0..3 {
        world.metrics.count(&Alike::of(&request()), &world.ends(false));
    }
    assert_eq!(world.values("istio_requests_total", &[]), ["3"]);
}
