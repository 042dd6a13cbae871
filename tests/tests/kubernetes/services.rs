//! What Kubernetes says of Services, of enrolled pods' connections; with kube-proxy and, which is what it is for, without.

use std::collections::HashSet;

use serde_json::Value;
use weft_tests::{eventually, throughout};

use crate::agents::{self, Agent, PATIENCE};
use crate::cluster;
use crate::stage::{Answer, Echo, Stage};

#[test]
fn connections_are_spread_over_all_endpoints() {
    let stage = Stage::open("spread");
    stage.start(&[Echo { replicas: 3, ..Echo::new("api") }, Echo::new("web")]);
    stage.service("api", "app: api", "");
    agents::enrolled(&stage.namespace, 4);
    let answers = fresh(&stage, "web", 150);
    for pod in stage.pods("api") {
        let share = answers.iter().filter(|answer| answer.pod() == pod).count();
        // Of 150 with p = 1/3: 5 standard deviations.
        assert!((21..=79).contains(&share), "{share} of 150 to {pod}");
    }
}

#[test]
fn a_client_stays_with_its_endpoint_where_the_service_says_so() {
    let stage = Stage::open("affinity");
    stage.start(&[Echo { replicas: 3, ..Echo::new("api") }, Echo { replicas: 4, ..Echo::new("web") }]);
    stage.service("api", "app: api", "  sessionAffinity: ClientIP\n");
    agents::enrolled(&stage.namespace, 7);
    let mut all = HashSet::new();
    for client in stage.pods("web") {
        let args = ["exec", &client, "--", "client", "tcp://api:9090", "--fresh", "--count=20"];
        let said = stage.ok(&args);
        let pods: HashSet<_> =
            said.split("\n\n").map(|one| Answer { text: one.into() }.pod().to_owned()).collect();
        assert_eq!(pods.len(), 1, "one endpoint for {client}: {pods:?}");
        all.extend(pods);
    }
    assert!(all.iter().all(|pod| stage.pods("api").contains(pod)), "{all:?}");
}

#[test]
fn traffic_that_is_to_stay_on_its_node_stays_there_or_ends() {
    let [one, other] = cluster::two_nodes();
    let stage = Stage::open("local");
    stage.start(&[
        Echo { node: Some(&one), ..Echo::new("api") },
        Echo { app: "api", node: Some(&one), ..Echo::new("api-two") },
        Echo { node: Some(&one), ..Echo::new("web") },
        Echo { node: Some(&other), ..Echo::new("far") },
    ]);
    stage.service("api", "app: api", "  internalTrafficPolicy: Local\n");
    agents::enrolled(&stage.namespace, 4);
    assert_eq!(fresh(&stage, "web", 20).len(), 20);
    let refused = stage.ask("far", &["tcp://api:9090", "--timeout=3s"]).map(|answer| answer.text);
    refused.expect_err("there is none on its node");
}

#[test]
fn a_nodes_own_endpoints_are_preferred_where_the_service_says_so() {
    let [one, other] = cluster::two_nodes();
    let stage = Stage::open("prefer");
    stage.start(&[
        Echo { app: "api", node: Some(&one), ..Echo::new("near") },
        Echo { app: "api", node: Some(&other), ..Echo::new("afar") },
        Echo { node: Some(&one), ..Echo::new("web") },
    ]);
    stage.service("api", "app: api", "  trafficDistribution: PreferSameNode\n");
    agents::enrolled(&stage.namespace, 3);
    assert!(fresh(&stage, "web", 30).iter().all(|answer| answer.is_of("near")));
    stage.ok(&["scale", "deployment/near", "--replicas=0"]);
    eventually(PATIENCE, || stage.ask("web", &["tcp://api:9090"]).is_ok_and(|answer| answer.is_of("afar")));
    assert!(fresh(&stage, "web", 30).iter().all(|answer| answer.is_of("afar")));
}

#[test]
fn an_endpoint_that_ends_has_no_new_connections_and_finishes_those_it_has() {
    let stage = Stage::open("ending");
    stage.start(&[Echo { replicas: 2, ..Echo::new("api") }, Echo::new("web")]);
    stage.service("api", "app: api", "");
    agents::enrolled(&stage.namespace, 3);
    let load = crate::load::Load::start(&stage, "api", &cluster::nodes()[0]);
    stage.ok(&["rollout", "restart", "deployment/api"]);
    stage.rolled_out("api");
    load.some_more(50);
    let new = load.tallies().into_iter().filter(|tally| tally.kind.ends_with("-new"));
    let failed: Vec<_> = new.filter(|tally| tally.failed > 0).map(|tally| tally.line).collect();
    assert!(failed.is_empty(), "new connections: {failed:#?}");
}

#[test]
fn the_last_endpoints_serve_on_while_they_end() {
    let stage = Stage::open("last");
    let slow = "readinessProbe: {tcpSocket: {port: 8080}, periodSeconds: 1}
        lifecycle: {preStop: {sleep: {seconds: 8}}}";
    stage.start(&[Echo { container: slow, ..Echo::new("api") }, Echo::new("web")]);
    stage.service("api", "app: api", "");
    agents::enrolled(&stage.namespace, 2);
    stage.ok(&["scale", "deployment/api", "--replicas=0"]);
    eventually(PATIENCE, || {
        let slices = slices(&stage, "api");
        slices["items"][0]["endpoints"][0]["conditions"]["terminating"] == true
    });
    assert_eq!(fresh(&stage, "web", 20).len(), 20, "it is all that there is");
    eventually(PATIENCE, || stage.pods("api").is_empty());
    eventually(PATIENCE, || stage.ask("web", &["tcp://api:9090", "--timeout=2s"]).is_err());
}

#[test]
fn pods_that_are_not_ready_are_asked_where_the_service_publishes_them_only() {
    let stage = Stage::open("unready");
    let never = "readinessProbe: {tcpSocket: {port: 1}, periodSeconds: 1}";
    stage.start(&[Echo::new("web")]);
    stage.apply(&crate::stage::deployment(&Echo { container: never, ..Echo::new("api") }));
    stage.service("early", "app: api", "  publishNotReadyAddresses: true\n");
    stage.service("late", "app: api", "  publishNotReadyAddresses: false\n");
    eventually(PATIENCE, || stage.ask("web", &["tcp://early:9090"]).is_ok_and(|answer| answer.is_of("api")));
    let refused = stage.ask("web", &["tcp://late:9090", "--timeout=2s"]).map(|answer| answer.text);
    refused.expect_err("it is not ready");
}

#[test]
fn a_headless_services_name_is_its_pods() {
    let stage = Stage::open("headless");
    stage.start(&[Echo { replicas: 2, ..Echo::new("api") }, Echo::new("web")]);
    stage.service("api", "app: api", "  clusterIP: None\n");
    agents::enrolled(&stage.namespace, 3);
    let mut seen = HashSet::new();
    eventually(PATIENCE, || {
        // By the pod's own port: there is nothing that translates.
        seen.extend(stage.ask("web", &["http://api:8080/"]).iter().map(|answer| answer.pod().to_owned()));
        seen.len() == 2
    });
}

#[test]
fn a_pod_reaches_itself_by_its_service() {
    let stage = Stage::open("hairpin");
    stage.start(&[Echo::new("api")]);
    stage.service("api", "app: api", "");
    agents::enrolled(&stage.namespace, 1);
    for url in ["tcp://api:9090", "http://api/", "grpc://api:7070"] {
        assert!(stage.answers("api", 10, &[url, "--fresh"]).iter().all(|answer| answer.is_of("api")));
    }
}

#[test]
fn dual_stack_services_answer_by_both_families() {
    let stage = Stage::open("dual");
    stage.start(&[Echo::new("api"), Echo::new("web")]);
    agents::enrolled(&stage.namespace, 2);
    stage.service("api", "app: api", "  ipFamilyPolicy: RequireDualStack\n");
    let addresses = stage.ok(&["get", "service", "api", "--output=jsonpath={.spec.clusterIPs[*]}"]);
    let addresses: Vec<_> = addresses.split_whitespace().collect();
    assert_eq!(addresses.len(), 2, "{addresses:?}");
    for address in addresses {
        let host = if address.contains(':') { format!("[{address}]") } else { address.to_owned() };
        for url in [format!("tcp://{host}:9090"), format!("http://{host}/")] {
            eventually(PATIENCE, || stage.ask("web", &[&url]).is_ok_and(|answer| answer.is_of("api")));
        }
    }
}

#[test]
fn names_are_answered_by_the_clusters_dns_all_the_time() {
    let stage = Stage::open("names");
    stage.start(&[Echo::new("api"), Echo::new("web")]);
    stage.service("api", "app: api", "");
    let host = format!("http://api.{}.svc.cluster.local/", stage.namespace);
    throughout(std::time::Duration::from_secs(5), || stage.ask("web", &[&host, "--timeout=2s"]).is_ok());
    assert!(!Agent::all().is_empty());
}

/// New connections, one after the other.
#[track_caller]
fn fresh(stage: &Stage, from: &str, count: usize) -> Vec<Answer> {
    stage.answers(from, count, &["tcp://api:9090", "--fresh"])
}

fn slices(stage: &Stage, service: &str) -> Value {
    let selector = format!("kubernetes.io/service-name={service}");
    let namespace = ["--namespace", &stage.namespace];
    cluster::objects(&["get", "endpointslices", "--selector", &selector, namespace[0], namespace[1]])
}
