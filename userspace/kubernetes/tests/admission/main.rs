//! What a real API server makes of our CRDs. Not a part of `cargo test`: its programs take minutes to build.
#![expect(clippy::unwrap_used, reason = "a failed step fails the test")]

mod manifests;
mod server;
mod specs;

use serde_json::{Value, json};

use self::server::{Said, Server};

/// Mistakes that no schema sees: they become conditions.
const UNSEEN: [&str; 4] = [
    "authn-jwks-backend-namespace", // which namespace the policy is in
    "authn-jwks-inline",            // JSON in a text
    "authn-jwks-inline-secret",
    "tp-table-size", // a prime
];

#[test]
fn every_definition_is_established_without_a_warning() {
    let server = Server::empty();
    for crd in weft_kubernetes::crds() {
        let said = server.kubectl(&["apply", "--server-side", "-f", "-"], &crd.to_string());
        assert!(said.good && said.err.is_empty(), "{}: {said:?}", crd["metadata"]["name"]);
    }
    server.until_established();
    let said = server.kubectl(&["get", "crd", "-o", "json"], "");
    let list: Value = serde_json::from_str(&said.out).unwrap();
    assert_eq!(list["items"].as_array().unwrap().len(), 5);
    for crd in list["items"].as_array().unwrap() {
        let conditions = crd["status"]["conditions"].as_array().unwrap();
        let bad = conditions.iter().filter(|condition| condition["type"] == "NonStructuralSchema");
        assert_eq!(bad.count(), 0, "{conditions:?}");
        let names = conditions.iter().find(|condition| condition["type"] == "NamesAccepted").unwrap();
        assert_eq!(names["status"], "True", "{names}");
    }
}

#[test]
fn what_is_wrong_is_refused_with_the_field_and_the_remedy() {
    let server = Server::with_crds();
    let (mut refused, mut wrong) = (0, Vec::new());
    for case in manifests::broken() {
        let said = server.judge(&case.object);
        let unseen = UNSEEN.contains(&&*case.name);
        if unseen != said.good || (!unseen && !names(&said.err, &case.field)) {
            wrong.push(format!("{}, {}: {said:?}", case.name, case.field));
        }
        refused += usize::from(!said.good);
    }
    for (kind, spec, expected) in specs::WRONG {
        let said = server.judge(&object(kind, spec));
        if said.good || !said.err.contains(expected) {
            wrong.push(format!("{kind} {spec}: not \"{expected}\" but {said:?}"));
        }
        refused += usize::from(!said.good);
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(refused >= 60, "only {refused} objects were refused");
    eprintln!("{refused} objects were refused");
}

#[test]
fn what_is_good_is_accepted() {
    let server = Server::with_crds();
    let good = manifests::good();
    let samples = specs::GOOD.iter().map(|(kind, spec)| ("specs.rs".into(), object(kind, spec)));
    let all: Vec<_> = good.into_iter().chain(samples).collect();
    assert!(all.len() >= 100, "only {} policies were found", all.len());
    let mut wrong = Vec::new();
    for (path, object) in &all {
        let said = server.judge(object);
        if !said.good || !said.err.is_empty() {
            wrong.push(format!("{}: {object}: {}", path.display(), said.err));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    eprintln!("{} policies were accepted", all.len());
}

#[test]
fn a_policy_that_is_full_is_accepted_and_one_more_of_anything_is_not() {
    let server = Server::with_crds();
    let policy = |rules: usize, sources: usize, paths: usize, length: usize, labels: usize| {
        let source = |i: usize| match i % 3 {
            0 => json!({"type": "CIDR", "cidr": format!("10.{i}.0.0/16")}),
            1 => {
                json!({"type": "ServiceAccount", "serviceAccount": {"namespace": "shop", "name": format!("a{i}")}})
            }
            _ => json!({"type": "SPIFFE", "spiffe": format!("spiffe://a.example/ns/shop/sa/a{i}")}),
        };
        let path = |i: usize| {
            let start = format!("/{i}");
            json!({"type": "Exact", "value": format!("{start}{}", "/a".repeat(length)).chars().take(length).collect::<String>()})
        };
        let rule = json!({
            "sources": (0..sources).map(source).collect::<Vec<_>>(),
            "httpAttributes": {"paths": (0..paths).map(path).collect::<Vec<_>>()},
        });
        let labels: serde_json::Map<_, _> = (0..labels).map(|i| (format!("a{i}"), "b".into())).collect();
        let mut policy = object("AuthorizationPolicy", "{}");
        policy["spec"]["targetRefs"] = json!([{"kind": "Pod", "selector": {"matchLabels": labels}}]);
        policy["spec"]["rules"] = vec![rule; rules].into();
        policy
    };
    good(&server.judge(&policy(32, 64, 16, 1024, 16)));
    for (policy, expected) in [
        (policy(33, 64, 16, 10, 16), "spec.rules: Too many: 33: must have at most 32 items"),
        (policy(1, 65, 16, 10, 16), "spec.rules[0].sources: Too many: 65: must have at most 64 items"),
        (
            policy(1, 64, 17, 10, 16),
            "spec.rules[0].httpAttributes.paths: Too many: 17: must have at most 16 items",
        ),
        (
            policy(1, 64, 16, 1025, 16),
            "spec.rules[0].httpAttributes.paths[0].value: Too long: may not be more than 1024",
        ),
        (policy(1, 64, 16, 10, 17), "spec.targetRefs[0].selector.matchLabels: Too many: 17"),
    ] {
        let said = server.judge(&policy);
        assert!(!said.good && said.err.contains(expected), "not \"{expected}\" but {said:?}");
    }
}

#[test]
fn columns_say_what_status_says() {
    let server = Server::with_crds();
    let condition = |name: &str, status: &str| {
        json!({"type": name, "status": status, "reason": "Accepted", "message": "", "observedGeneration": 1,
            "lastTransitionTime": "2026-11-21T10:00:00Z"})
    };
    let conditions = json!([condition("Accepted", "True"), condition("Programmed", "Unknown")]);
    let ancestor = json!({"ancestorRef": {"group": "", "kind": "Service", "name": "reviews"},
        "controllerName": "weft.dev/controller", "conditions": conditions});
    let of_policy = json!({"status": {"ancestors": [ancestor]}}).to_string();
    let nodes = json!({"desired": 12, "ready": 11});
    let of_mesh = json!({"conditions": conditions, "trustDomain": "cluster.local", "nodes": nodes});
    let of_mesh = json!({"status": of_mesh}).to_string();
    let service = "{targetRefs: [{kind: Service, name: reviews}], ";
    for (kind, spec, status, expected) in [
        ("TrafficPolicy", "loadBalancer: {type: Random}}", &of_policy, "Service reviews Random True Unknown"),
        ("AuthorizationPolicy", "mode: Audit}", &of_policy, "ALLOW Audit Service True Unknown"),
        ("AuthenticationPolicy", "mtls: {mode: Strict}}", &of_policy, "Strict Service True"),
        (
            "TelemetryPolicy",
            "tracing: {mode: Enabled, samplingRate: {numerator: 1}}, accessLog: {mode: Disabled}}",
            &of_policy,
            "Enabled {\"denominator\":100,\"numerator\":1} Disabled True",
        ),
        ("MeshConfig", "{}", &of_mesh, "cluster.local Permissive 12 11"),
    ] {
        let spec = if kind == "MeshConfig" { spec.to_owned() } else { format!("{service}{spec}") };
        let object = object(kind, &spec);
        let name = object["metadata"]["name"].as_str().unwrap();
        let resource = format!("{}.weft.dev/{name}", kind.to_lowercase());
        good(&server.kubectl(&["create", "-f", "-"], &object.to_string()));
        let patch = ["patch", "-n", "shop", &resource, "--subresource=status", "--type=merge", "-p", status];
        good(&server.kubectl(&patch, ""));
        let said = good(&server.kubectl(&["get", "-n", "shop", &resource, "--no-headers"], ""));
        let words: Vec<_> = said.split_whitespace().collect();
        // The first is the name, the last the age.
        assert_eq!(words[1..words.len() - 1].join(" "), expected, "{kind}: {said}");
    }
    let said = good(&server.kubectl(&["get", "-n", "shop", "tp,authz,authn,telemetry,mc", "-o", "name"], ""));
    assert_eq!(said.lines().count(), 5, "{said}");
    let said = good(&server.kubectl(&["get", "-n", "shop", "weft", "-o", "name"], ""));
    assert_eq!(said.lines().count(), 5, "{said}");
}

#[test]
fn the_trust_domain_stays_as_it_is() {
    let server = Server::with_crds();
    let mesh = |spec: &str| object("MeshConfig", spec).to_string();
    good(&server.kubectl(&["create", "-f", "-"], &mesh("{trustDomain: a.example}")));
    for spec in ["{trustDomain: b.example}", "{}"] {
        let said = server.kubectl(&["replace", "-f", "-"], &mesh(spec));
        assert!(!said.good && said.err.contains("spec.trustDomain"), "{spec}: {said:?}");
        assert!(said.err.contains("trustDomainAliases"), "{spec}: {said:?}");
    }
    let changed = "{trustDomain: a.example, trustDomainAliases: [b.example]}";
    good(&server.kubectl(&["replace", "-f", "-"], &mesh(changed)));
    // One that names none may be told which it has.
    good(&server.kubectl(&["delete", "meshconfig", "default"], ""));
    good(&server.kubectl(&["create", "-f", "-"], &mesh("{}")));
    good(&server.kubectl(&["replace", "-f", "-"], &mesh("{trustDomain: a.example}")));
}

#[test]
fn what_is_never_merged_has_its_default_stored_and_nothing_else_has() {
    let server = Server::with_crds();
    let stored = |kind: &str, spec: &str| -> Value {
        let said = server.kubectl(
            &["create", "--dry-run=server", "-o", "json", "-f", "-"],
            &object(kind, spec).to_string(),
        );
        serde_json::from_str::<Value>(&good(&said)).unwrap()["spec"].take()
    };
    let targets = json!([{"group": "", "kind": "Service", "name": "web"}]);
    let spec =
        "{targetRefs: [{kind: Service, name: web}], retry: {}, outlierDetection: {}, loadBalancer: {}}";
    let expected = json!({"targetRefs": targets, "retry": {}, "outlierDetection": {}, "loadBalancer": {}});
    assert_eq!(stored("TrafficPolicy", spec), expected);
    let expected = json!({"targetRefs": targets, "action": "ALLOW", "mode": "Enforce"});
    assert_eq!(stored("AuthorizationPolicy", "{targetRefs: [{kind: Service, name: web}]}"), expected);
    let expected = json!({
        "namespaceSelector": {"matchLabels": {"weft.dev/mesh": "enabled"}},
        "mtls": {"mode": "Permissive"},
        "outboundTrafficPolicy": {"mode": "AllowAny"},
        "certificates": {"ttl": "24h", "issuer": {"type": "SelfSigned"}},
    });
    assert_eq!(stored("MeshConfig", "{}"), expected);
}

#[test]
fn kubectl_explains_every_kind() {
    let server = Server::with_crds();
    for (field, text) in [
        ("trafficpolicies.weft.dev.spec.timeouts.backendRequest", "of one try"),
        ("authz.spec.rules.sources", "An empty list is nobody"),
        ("authn.spec.mtls.mode", "mutual TLS only"),
        ("telemetry.spec.accessLog.filter", "response.code"),
        ("mc.spec.trustDomain", "cannot be changed"),
        ("tp.status.ancestors", "each of its targets"),
    ] {
        let said = good(&server.kubectl(&["explain", field], ""));
        let words = said.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(words.contains(text), "{field}: {said}");
    }
}

/// Whether the answer names the field, or what it is in: a rule over a list names the list.
fn names(answer: &str, field: &str) -> bool {
    let above = field.match_indices(['.', '[']).map(|(at, _)| &field[..at]);
    answer.contains(field)
        || above.filter(|place| *place != "spec").any(|place| answer.contains(&format!("{place}: ")))
}

fn good(said: &Said) -> String {
    assert!(said.good && said.err.is_empty(), "{said:?}");
    said.out.clone()
}

/// An object with this spec, which is YAML in flow style.
fn object(kind: &str, spec: &str) -> Value {
    let spec: Value = serde_yaml::from_str(spec).unwrap_or_else(|error| panic!("{spec}: {error}"));
    let metadata = if kind == "MeshConfig" {
        json!({"name": "default"})
    } else {
        json!({"name": "it", "namespace": "shop"})
    };
    json!({"apiVersion": "weft.dev/v1alpha1", "kind": kind, "metadata": metadata, "spec": spec})
}
