//! What objects say of themselves, as controllers write it.

use std::{fs, path::Path, time::Duration};

use serde::Deserialize as _;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use super::{
    api_server::ApiServer,
    controller::Controller,
    objects::{definition, namespace},
    until,
};

const WEFT: &str = "weft.dev/v1alpha1";
const GATEWAY: &str = "gateway.networking.k8s.io/v1";

/// With our CRDs, the Gateway API's, and the Services `web` and `api` of namespace shop.
async fn cluster() -> ApiServer {
    let server = ApiServer::start(&[]).await;
    for crd in weft_kubernetes::crds() {
        server.apply(&crd).await;
    }
    let kinds = [
        "gateway.networking.k8s.io_httproutes",
        "gateway.networking.k8s.io_grpcroutes",
        "gateway.networking.k8s.io_tcproutes",
        "gateway.networking.k8s.io_tlsroutes",
        "gateway.networking.x-k8s.io_xmeshes",
    ];
    for kind in kinds {
        let path = format!("../../target/cluster/bin/gateway-api/{kind}.yaml");
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
        let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        server.apply(&serde_yaml::from_str(&text).unwrap()).await;
    }
    for name in ["weft-system", "shop"] {
        server.apply(&namespace(name, &json!({}))).await;
    }
    for (name, ip) in [("web", "10.96.0.11"), ("api", "10.96.0.12"), ("tls", "10.96.0.13")] {
        let ports = json!([{"name": "http", "port": 80, "protocol": "TCP"},
            {"name": "db", "port": 81, "protocol": "TCP", "appProtocol": "mysql"}]);
        server.apply(&object("v1", "Service", name, &json!({"clusterIP": ip, "ports": ports}))).await;
    }
    until("all kinds are served", async || {
        server
            .try_apply(&policy(
                "TelemetryPolicy",
                "probe",
                &json!({"targetRefs": [service("web")],
            "accessLog": {"mode": "Enabled"}}),
            ))
            .await
            && server.try_apply(&mesh("a.b/c", "probe")).await
    })
    .await;
    server
}

fn object(version: &str, kind: &str, name: &str, spec: &Value) -> Value {
    let mut metadata = json!({"name": name});
    if !["MeshConfig", "XMesh"].contains(&kind) {
        metadata["namespace"] = "shop".into();
    }
    json!({"apiVersion": version, "kind": kind, "metadata": metadata, "spec": spec})
}

fn policy(kind: &str, name: &str, spec: &Value) -> Value {
    object(WEFT, kind, name, spec)
}

fn mesh(controller: &str, name: &str) -> Value {
    object("gateway.networking.x-k8s.io/v1alpha1", "XMesh", name, &json!({"controllerName": controller}))
}

fn service(name: &str) -> Value {
    json!({"kind": "Service", "name": name})
}

fn timeouts(target: &str, request: &str) -> Value {
    json!({"targetRefs": [service(target)], "timeouts": {"request": request}})
}

fn route(kind: &str, name: &str, parents: &[Value], rule: &Value) -> Value {
    object(GATEWAY, kind, name, &json!({"parentRefs": parents, "rules": [rule]}))
}

fn parent(name: &str, more: &[(&str, Value)]) -> Value {
    let mut parent = json!({"group": "", "kind": "Service", "name": name});
    for (field, value) in more {
        parent[*field] = value.clone();
    }
    parent
}

fn to(name: &str, port: u16) -> Value {
    json!({"backendRefs": [{"name": name, "port": port}]})
}

impl ApiServer {
    /// The object as it is stored.
    async fn stored(&self, object: &Value) -> Value {
        let text = |field: &str| object[field].as_str().unwrap();
        let all = self.list(text("apiVersion"), text("kind")).await;
        let of = |stored: &&Value| stored["metadata"]["name"] == object["metadata"]["name"];
        all.iter().find(of).cloned().unwrap_or_default()
    }

    /// How often statuses of that API group were replaced.
    async fn writes(&self, group: &str) -> u32 {
        let request = http::Request::get("/metrics").body(Vec::new()).unwrap();
        let metrics = self.client().await.request_text(request).await.unwrap();
        let lines = metrics.lines().filter(|line| {
            line.starts_with("apiserver_request_total{")
                && line.contains("subresource=\"status\"")
                && line.contains("verb=\"PUT\"")
                && line.contains(&format!("group=\"{group}\""))
        });
        lines.map(|line| line.rsplit(' ').next().unwrap().parse::<u32>().unwrap()).sum()
    }
}

/// Our entries in a status, or the status itself where there are none.
fn entries(stored: &Value) -> Vec<Value> {
    let list =
        ["parents", "ancestors"].into_iter().find_map(|list| stored["status"][list].as_array().cloned());
    let list = list.unwrap_or_else(|| vec![stored["status"].clone()]);
    let ours = |entry: &Value| entry.get("controllerName").is_none_or(|name| name == "weft.dev/controller");
    list.into_iter().filter(ours).collect()
}

/// `Accepted/ResolvedRefs` or `Accepted/Programmed` as `True Accepted, ...`, of each entry.
fn words(stored: &Value, kinds: &[&str]) -> Vec<String> {
    let word = |entry: &Value, kind: &str| {
        let conditions = entry["conditions"].as_array().cloned().unwrap_or_default();
        let condition =
            conditions.into_iter().find(|condition| condition["type"] == kind).unwrap_or_default();
        if !condition.is_null() {
            assert_eq!(condition["observedGeneration"], stored["metadata"]["generation"], "{stored}");
        }
        format!(
            "{} {}",
            condition["status"].as_str().unwrap_or("-"),
            condition["reason"].as_str().unwrap_or("-")
        )
    };
    entries(stored)
        .iter()
        .map(|entry| kinds.iter().map(|kind| word(entry, kind)).collect::<Vec<_>>().join(", "))
        .collect()
}

fn message(stored: &Value, entry: usize, kind: &str) -> String {
    let entries = entries(stored);
    let conditions = entries[entry]["conditions"].as_array().unwrap();
    let condition = conditions.iter().find(|condition| condition["type"] == kind).unwrap();
    condition["message"].as_str().unwrap().to_owned()
}

async fn says(server: &ApiServer, object: &Value, kinds: &[&str], expected: &[&str]) -> Value {
    let began = Instant::now();
    loop {
        let stored = server.stored(object).await;
        let up_to_date = entries(&stored).iter().all(|entry| {
            entry["conditions"].as_array().is_some_and(|all| {
                all.iter()
                    .all(|condition| condition["observedGeneration"] == stored["metadata"]["generation"])
            })
        });
        if up_to_date && words(&stored, kinds) == expected {
            return stored;
        }
        assert!(began.elapsed() < super::api_server::PATIENCE, "{expected:?} but {stored:#}");
        sleep(Duration::from_millis(100)).await;
    }
}

const ROUTE: &[&str] = &["Accepted", "ResolvedRefs"];
const POLICY: &[&str] = &["Accepted", "Programmed"];

#[tokio::test(flavor = "multi_thread")]
async fn routes_say_what_became_of_them_for_each_service() {
    let server = cluster().await;
    let controller = Controller::start(&server, "a").await;
    let good = to("api", 80);
    let bad_pattern = json!({"matches": [{"path": {"type": "RegularExpression", "value": "/("}}], "backendRefs": [{"name": "api", "port": 80}]});
    let bucket = json!({"backendRefs": [{"group": "a.b", "kind": "Bucket", "name": "api", "port": 80}]});
    let cases = [
        (
            route("HTTPRoute", "good", &[parent("web", &[("port", 80.into())])], &good),
            "True Accepted, True ResolvedRefs",
        ),
        (
            route("HTTPRoute", "section", &[parent("web", &[("sectionName", "http".into())])], &good),
            "True Accepted, True ResolvedRefs",
        ),
        (
            route("HTTPRoute", "nobody", &[parent("nobody", &[])], &good),
            "False NoMatchingParent, True ResolvedRefs",
        ),
        (
            route("HTTPRoute", "port", &[parent("web", &[("port", 99.into())])], &good),
            "False NoMatchingParent, True ResolvedRefs",
        ),
        (
            route("HTTPRoute", "pattern", &[parent("web", &[])], &bad_pattern),
            "False UnsupportedValue, False BackendNotFound",
        ),
        (
            route("HTTPRoute", "lost", &[parent("web", &[])], &to("nobody", 80)),
            "True Accepted, False BackendNotFound",
        ),
        (route("HTTPRoute", "bucket", &[parent("web", &[])], &bucket), "True Accepted, False InvalidKind"),
        (
            route("HTTPRoute", "spoken", &[parent("web", &[])], &to("api", 81)),
            "True Accepted, False UnsupportedProtocol",
        ),
        (route("GRPCRoute", "grpc", &[parent("api", &[])], &good), "True Accepted, True ResolvedRefs"),
        (route("HTTPRoute", "behind", &[parent("api", &[])], &good), "False Conflicted, True ResolvedRefs"),
        (
            route("TCPRoute", "tcp", &[parent("web", &[("port", 81.into())])], &to("api", 81)),
            "True Accepted, True ResolvedRefs",
        ),
    ];
    for (route, _) in &cases {
        server.apply(route).await;
    }
    let mut tls = route("TLSRoute", "tls", &[parent("tls", &[("port", 80.into())])], &to("tls", 80));
    tls["spec"]["hostnames"] = json!(["a.example"]);
    server.apply(&tls).await;
    for (route, expected) in &cases {
        let stored = says(&server, route, ROUTE, &[expected]).await;
        assert_eq!(entries(&stored)[0]["parentRef"], route["spec"]["parentRefs"][0], "as it is written");
    }
    says(&server, &tls, ROUTE, &["True Accepted, True ResolvedRefs"]).await;
    let behind = server.stored(&cases[9].0).await;
    assert!(message(&behind, 0, "Accepted").contains("GRPCRoute shop/grpc holds"), "{behind:#}");
    let lost = server.stored(&cases[5].0).await;
    assert!(message(&lost, 0, "ResolvedRefs").contains("no Service shop/nobody"), "{lost:#}");

    // What comes makes it good, and another parent has an entry of its own.
    server
        .apply(&object(
            "v1",
            "Service",
            "nobody",
            &json!({"clusterIP": "10.96.0.19", "ports": [{"port": 80}]}),
        ))
        .await;
    says(&server, &cases[2].0, ROUTE, &["True Accepted, True ResolvedRefs"]).await;
    says(&server, &cases[5].0, ROUTE, &["True Accepted, True ResolvedRefs"]).await;
    controller.nodes(&["n1"], &["n1"], &[("HTTPRoute shop/good", 1)]);
    says(&server, &cases[0].0, POLICY, &["True Accepted, True Programmed"]).await;
    controller.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn entries_of_others_stay_and_those_of_former_parents_go() {
    let server = cluster().await;
    let mut r = route("HTTPRoute", "r", &[parent("web", &[]), parent("api", &[])], &to("api", 80));
    server.apply(&r).await;
    let condition = json!({"type": "Accepted", "status": "True", "reason": "Accepted", "message": "", "observedGeneration": 1,
        "lastTransitionTime": "2026-11-27T10:00:00Z"});
    let foreign = json!({"parentRef": {"group": "gateway.networking.k8s.io", "kind": "Gateway", "name": "edge"}, "controllerName": "example.com/edge", "conditions": [condition]});
    let mut with_status = r.clone();
    with_status["status"] = json!({"parents": [foreign]});
    server.apply(&with_status).await;
    let controller = Controller::start(&server, "a").await;
    let good = "True Accepted, True ResolvedRefs";
    let stored = says(&server, &r, ROUTE, &[good, good]).await;
    assert_eq!(stored["status"]["parents"][0], foreign);
    let since = entries(&stored)[1]["conditions"][0]["lastTransitionTime"].clone();
    r["spec"]["parentRefs"] = json!([parent("api", &[])]);
    server.apply(&r).await;
    let stored = says(&server, &r, ROUTE, &[good]).await;
    assert_eq!(stored["status"]["parents"].as_array().unwrap().len(), 2, "{stored:#}");
    assert_eq!(entries(&stored)[0]["conditions"][0]["lastTransitionTime"], since, "it has not flipped");
    r["spec"]["parentRefs"] = json!([{"name": "edge"}]);
    server.apply(&r).await;
    until("nothing of ours is left", async || {
        server.stored(&r).await["status"]["parents"] == json!([foreign])
    })
    .await;
    controller.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn policies_say_whether_they_hold_and_on_how_many_nodes() {
    let server = cluster().await;
    let controller = Controller::start(&server, "a").await;
    let rules = json!([{"sources": [{"type": "CIDR", "cidr": "10.8.0.0/16"}]}]);
    let table = json!({"targetRefs": [service("web")],
        "loadBalancer": {"type": "ConsistentHash", "consistentHash": {"type": "SourceIP", "tableSize": 4}}});
    let pods = json!([{"kind": "Pod", "selector": {}}]);
    let cases = [
        (policy("TrafficPolicy", "a", &timeouts("web", "1s")), "True Accepted, False Reconciling"),
        (policy("TrafficPolicy", "b", &timeouts("web", "2s")), "False Conflicted, False Overridden"),
        (
            policy("TrafficPolicy", "lost", &timeouts("nobody", "1s")),
            "False TargetNotFound, False Reconciling",
        ),
        (policy("TrafficPolicy", "table", &table), "False Invalid, False Invalid"),
        (
            policy("AuthorizationPolicy", "a", &json!({"targetRefs": pods, "rules": rules})),
            "True Accepted, False Reconciling",
        ),
        (
            policy("AuthenticationPolicy", "a", &json!({"targetRefs": pods, "mtls": {"mode": "Strict"}})),
            "True Accepted, False Reconciling",
        ),
        (
            policy("TelemetryPolicy", "a", &json!({"targetRefs": pods, "accessLog": {"mode": "Enabled"}})),
            "True Accepted, False Reconciling",
        ),
        (policy("MeshConfig", "default", &json!({})), "True Accepted, False Reconciling"),
        (mesh("weft.dev/controller", "weft"), "True Accepted, False Reconciling"),
    ];
    for (object, _) in &cases {
        server.apply(object).await;
        // The older one wins, to the second.
        sleep(Duration::from_millis(1100)).await;
    }
    for (object, expected) in &cases {
        says(&server, object, POLICY, &[expected]).await;
    }
    let loser = server.stored(&cases[1].0).await;
    assert!(
        message(&loser, 0, "Accepted").starts_with("TrafficPolicy shop/a holds for Service shop/web"),
        "{loser:#}"
    );
    let invalid = server.stored(&cases[3].0).await;
    assert!(
        message(&invalid, 0, "Accepted").starts_with("spec.loadBalancer.consistentHash.tableSize: "),
        "{invalid:#}"
    );
    assert_eq!(entries(&invalid)[0]["ancestorRef"]["name"], "web");
    let foreign = server.stored(&mesh("a.b/c", "probe")).await;
    assert_eq!(foreign["status"]["conditions"][0]["reason"], "Pending", "somebody else's: {foreign:#}");

    let a = &cases[0].0;
    controller.nodes(&["n1", "n2"], &["n1"], &[("TrafficPolicy shop/a", 1), ("MeshConfig default", 1)]);
    let count = async |expected: &str| {
        until(expected, async || message(&server.stored(a).await, 0, "Programmed") == expected).await;
    };
    count("1/2 nodes").await;
    controller.nodes(&["n1", "n2"], &["n1", "n2"], &[("TrafficPolicy shop/a", 1), ("MeshConfig default", 1)]);
    count("2/2 nodes").await;
    says(&server, a, POLICY, &["True Accepted, True Programmed"]).await;
    let config = says(&server, &cases[7].0, POLICY, &["True Accepted, True Programmed"]).await;
    assert_eq!(config["status"]["nodes"], json!({"desired": 2, "ready": 2}));
    let mesh = says(&server, &cases[8].0, POLICY, &["True Accepted, True Programmed"]).await;
    assert_eq!(mesh["status"]["supportedFeatures"].as_array().unwrap().len(), 17);
    // A new generation is another thing.
    server.apply(&policy("TrafficPolicy", "a", &timeouts("web", "3s"))).await;
    says(&server, a, POLICY, &["True Accepted, False Reconciling"]).await;
    // The winner goes, and the loser holds.
    server.delete(a).await;
    says(&server, &cases[1].0, POLICY, &["True Accepted, False Reconciling"]).await;
    controller.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rejection_is_an_event_once_for_each_change() {
    let server = cluster().await;
    let controller = Controller::start(&server, "a").await;
    let table = |size: u32| {
        policy(
            "TrafficPolicy",
            "table",
            &json!({"targetRefs": [service("web")],
        "loadBalancer": {"type": "ConsistentHash", "consistentHash": {"type": "SourceIP", "tableSize": size}}}),
        )
    };
    let events = async || server.list("events.k8s.io/v1", "Event").await;
    server.apply(&table(4)).await;
    until("an Event", async || events().await.len() == 1).await;
    let event = events().await.remove(0);
    assert_eq!((&event["type"], &event["reason"]), (&json!("Warning"), &json!("Invalid")));
    assert!(
        event["note"].as_str().unwrap().starts_with("spec.loadBalancer.consistentHash.tableSize: "),
        "{event:#}"
    );
    assert_eq!(
        (&event["regarding"]["kind"], &event["regarding"]["name"]),
        (&json!("TrafficPolicy"), &json!("table"))
    );
    // The next leader has nothing to add.
    controller.stop().await;
    let controller = Controller::start(&server, "b").await;
    until("b leads", async || controller.leads()).await;
    server.apply(&policy("TrafficPolicy", "good", &timeouts("api", "1s"))).await;
    says(
        &server,
        &policy("TrafficPolicy", "good", &json!({})),
        POLICY,
        &["True Accepted, False Reconciling"],
    )
    .await;
    assert_eq!(events().await.len(), 1);
    server.apply(&table(6)).await;
    until("another one", async || events().await.len() == 2).await;
    server.apply(&table(7)).await;
    says(&server, &table(7), POLICY, &["True Accepted, False Reconciling"]).await;
    sleep(Duration::from_secs(2)).await;
    assert_eq!(events().await.len(), 2, "good news is no Event");
    controller.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_hundred_statuses_are_written_once_each_and_ten_a_second() {
    let server = cluster().await;
    for i in 0..200 {
        server.apply(&policy("TrafficPolicy", &format!("p{i}"), &timeouts("web", "1s"))).await;
    }
    let began = Instant::now();
    let before = server.writes("weft.dev").await;
    let controllers = [Controller::start(&server, "a").await, Controller::start(&server, "b").await];
    let mut seen = Vec::new();
    // And the probe's.
    while seen.last().is_none_or(|(_, count)| *count < 201) {
        assert!(began.elapsed() < super::api_server::PATIENCE, "{seen:?}");
        let count = server.writes("weft.dev").await - before;
        seen.push((began.elapsed(), count));
        sleep(Duration::from_millis(200)).await;
    }
    let all = server.list(WEFT, "TrafficPolicy").await;
    assert!(all.iter().all(|policy| words(policy, &["Accepted"]).len() == 1), "some have none");
    // From the first one on: the first is written at once, then one each 100 ms.
    let first = seen.iter().find(|(_, count)| *count > 0).unwrap();
    let before_first =
        seen.iter().take_while(|(_, count)| *count == 0).last().map_or(Duration::ZERO, |(at, _)| *at);
    for (at, count) in &seen {
        let most = at.saturating_sub(before_first).as_secs_f64() * 10.0 + 1.0;
        assert!(f64::from(*count) <= most, "{count} after {at:?}, {first:?}");
    }
    let (last, count) = seen.last().unwrap();
    eprintln!("{count} writes in {:?}", last.saturating_sub(before_first));
    assert_eq!(*count, 201, "each once");

    // What does not change what is said is no reason to write: Services, pods, time.
    for i in 0..20 {
        let ports = json!([{"name": "http", "port": 80 + i, "protocol": "TCP"}]);
        server
            .apply(&object("v1", "Service", "other", &json!({"clusterIP": "10.96.0.77", "ports": ports})))
            .await;
        sleep(Duration::from_millis(100)).await;
    }
    sleep(Duration::from_secs(3)).await;
    assert_eq!(server.writes("weft.dev").await - before, 201);
    for controller in controllers {
        controller.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_definition_of_an_older_release_stops_nobody_else() {
    let server = ApiServer::start(&[]).await;
    for name in ["weft-system", "shop"] {
        server.apply(&namespace(name, &json!({}))).await;
    }
    // One without a status, and one whose status has less in it.
    server.apply(&definition("TelemetryPolicy", "telemetrypolicies")).await;
    for mut crd in weft_kubernetes::crds() {
        let status = "/spec/versions/0/schema/openAPIV3Schema/properties/status/properties";
        match crd["spec"]["names"]["kind"].as_str().unwrap() {
            "TelemetryPolicy" => continue,
            "MeshConfig" => drop(crd.pointer_mut(status).unwrap().as_object_mut().unwrap().remove("nodes")),
            _ => {}
        }
        server.apply(&crd).await;
    }
    let telemetry = policy(
        "TelemetryPolicy",
        "t",
        &json!({"targetRefs": [service("web")], "accessLog": {"mode": "Enabled"}}),
    );
    let (config, traffic) =
        (policy("MeshConfig", "default", &json!({})), policy("TrafficPolicy", "p", &timeouts("web", "1s")));
    until("all kinds are served", async || {
        server.try_apply(&telemetry).await
            && server.try_apply(&config).await
            && server.try_apply(&traffic).await
    })
    .await;
    let controller = Controller::start(&server, "a").await;
    says(&server, &traffic, POLICY, &["False TargetNotFound, False Reconciling"]).await;
    let stored = says(&server, &config, POLICY, &["True Accepted, False Reconciling"]).await;
    assert!(stored["status"].get("nodes").is_none());
    let written = server.writes("weft.dev").await;
    sleep(Duration::from_secs(5)).await;
    assert_eq!(server.writes("weft.dev").await, written, "nothing is tried again and again");
    controller.stop().await;
}

/// The roles that `weft install` gives to controllers, bound to the user `agent`, who has no others.
async fn grant(server: &ApiServer) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/install/controller.yaml");
    let text = fs::read_to_string(path).unwrap();
    for document in serde_yaml::Deserializer::from_str(&text) {
        let mut object = Value::deserialize(document).unwrap();
        match object["kind"].as_str().unwrap() {
            "Role" | "ClusterRole" => {}
            "RoleBinding" | "ClusterRoleBinding" => {
                object["subjects"] =
                    json!([{"kind": "User", "apiGroup": "rbac.authorization.k8s.io", "name": "agent"}]);
            }
            _ => continue,
        }
        server.apply(&object).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_install_grants_is_enough() {
    let server = cluster().await;
    grant(&server).await;
    let controller = Controller::of(&server, "agent", "a").await;
    let objects = [
        (policy("TrafficPolicy", "p", &timeouts("nobody", "1s")), "False TargetNotFound"),
        (policy("AuthorizationPolicy", "p", &json!({"targetRefs": [service("web")]})), "True Accepted"),
        (
            policy(
                "AuthenticationPolicy",
                "p",
                &json!({"targetRefs": [service("web")], "mtls": {"mode": "Strict"}}),
            ),
            "True Accepted",
        ),
        (
            policy(
                "TelemetryPolicy",
                "p",
                &json!({"targetRefs": [service("api")], "accessLog": {"mode": "Enabled"}}),
            ),
            "True Accepted",
        ),
        (policy("MeshConfig", "default", &json!({})), "True Accepted"),
        (mesh("weft.dev/controller", "weft"), "True Accepted"),
        (route("HTTPRoute", "r", &[parent("web", &[("port", 80.into())])], &to("api", 80)), "True Accepted"),
        (route("GRPCRoute", "r", &[parent("api", &[("port", 80.into())])], &to("api", 80)), "True Accepted"),
        (route("TCPRoute", "r", &[parent("web", &[("port", 81.into())])], &to("api", 81)), "True Accepted"),
    ];
    for (object, _) in &objects {
        server.apply(object).await;
    }
    for (object, expected) in &objects {
        says(&server, object, &["Accepted"], &[expected]).await;
    }
    until("an Event", async || !server.list("events.k8s.io/v1", "Event").await.is_empty()).await;
    // Another one writes in between: the object is read again.
    let r = server.stored(&objects[6].0).await;
    let entry = r["status"]["parents"][0].clone();
    let mut foreign = entry.clone();
    foreign["controllerName"] = "example.com/edge".into();
    let mut changed = objects[6].0.clone();
    changed["status"] = json!({"parents": [foreign, entry]});
    server.apply(&changed).await;
    controller.nodes(&["n1"], &["n1"], &[("HTTPRoute shop/r", 1)]);
    says(&server, &objects[6].0, POLICY, &["True Accepted, True Programmed"]).await;
    controller.stop().await;
}
