use std::{collections::BTreeMap, sync::Arc};

use serde_json::{Value, json};
use weft_model::ObjectName;

use super::{Judged, Judgement, Opinion, Verdict};
use crate::{
    assembly::Assembly,
    object::{Key, Kind},
    status::Revision,
};

/// An API server's objects, and what is said of them.
struct World {
    assembly: Assembly,
    revisions: BTreeMap<Key, Arc<Revision>>,
    last: Judgement,
}

impl World {
    /// With the Services `web` (80 for anybody, 81 for databases) and `api` of namespace shop.
    fn new(objects: &[Value]) -> Self {
        let assembly = Assembly::new("".into(), false);
        let mut world = Self { assembly, revisions: BTreeMap::new(), last: Judgement::default() };
        let ports = json!([{"name": "http", "port": 80}, {"name": "db", "port": 81, "appProtocol": "mysql"}]);
        for (name, ip) in [("web", "10.96.0.1"), ("api", "10.96.0.2")] {
            world.put(&object("v1", "Service", name, &json!({"clusterIP": ip, "ports": ports})));
        }
        for object in objects {
            world.put(object);
        }
        world
    }

    fn put(&mut self, object: &Value) {
        let key = key(object);
        self.assembly.catalog.put_object(&key.to_string().into(), object);
        let version = object["apiVersion"].as_str().unwrap();
        let revision = Revision::of(key.kind, object, version, 1);
        if !matches!(key.kind, Kind::Service) {
            self.revisions.insert(key, Arc::new(revision));
        }
    }

    fn remove(&mut self, object: &Value) {
        self.assembly.catalog.remove(&key(object).to_string().into());
        self.revisions.remove(&key(object));
    }

    fn of(&mut self, object: &Value) -> Option<Arc<Judged>> {
        let snapshot = self.assembly.snapshot();
        self.last = self.assembly.judge(&self.revisions, &snapshot, &self.last);
        self.last.of.get(&key(object)).cloned()
    }

    /// Each reference, and what is said there.
    fn said(&mut self, object: &Value) -> Vec<(Value, Opinion)> {
        match &self.of(object).expect("it has a status").verdict {
            Verdict::Parents(entries) | Verdict::Ancestors(entries) => {
                entries.iter().map(|entry| (entry.reference.clone(), entry.opinion.clone())).collect()
            }
            Verdict::MeshConfig(opinion, _) | Verdict::XMesh(opinion) => vec![(Value::Null, opinion.clone())],
        }
    }

    /// The reasons of Accepted and, of a route, `ResolvedRefs`, at each reference.
    fn reasons(&mut self, object: &Value) -> Vec<String> {
        let reasons = |(_, opinion): (Value, Opinion)| {
            let resolved = opinion.resolved.map(|said| format!(" {}", said.reason)).unwrap_or_default();
            assert_eq!(opinion.accepted.status, opinion.accepted.reason == "Accepted");
            format!("{}{resolved}", opinion.accepted.reason)
        };
        self.said(object).into_iter().map(reasons).collect()
    }

    /// What is said of whether it is accepted, at the first reference.
    fn words(&mut self, object: &Value) -> String {
        self.said(object).remove(0).1.accepted.message
    }
}

fn key(object: &Value) -> Key {
    let kinds = [
        Kind::Service,
        Kind::TcpRoute,
        Kind::HttpRoute,
        Kind::GrpcRoute,
        Kind::TlsRoute,
        Kind::TrafficPolicy,
        Kind::AuthorizationPolicy,
        Kind::AuthenticationPolicy,
        Kind::TelemetryPolicy,
        Kind::MeshConfig,
        Kind::XMesh,
    ];
    let kind = kinds.into_iter().find(|kind| object["kind"] == kind.name()).unwrap();
    let text = |field: &str| object["metadata"][field].as_str().unwrap_or_default();
    Key { kind, name: ObjectName::new(text("namespace"), text("name")) }
}

fn object(version: &str, kind: &str, name: &str, spec: &Value) -> Value {
    let mut metadata = json!({"name": name});
    if !["MeshConfig", "XMesh"].contains(&kind) {
        metadata["namespace"] = "shop".into();
    }
    json!({"apiVersion": version, "kind": kind, "metadata": metadata, "spec": spec})
}

fn policy(kind: &str, name: &str, spec: &Value) -> Value {
    object("weft.dev/v1alpha1", kind, name, spec)
}

fn parent(name: &str) -> Value {
    json!({"group": "", "kind": "Service", "name": name})
}

/// A route of `kind` for these parents, whose one rule is `rule`.
fn route(kind: &str, name: &str, parents: &[Value], rule: &Value) -> Value {
    let spec = json!({"parentRefs": parents, "rules": [rule]});
    object("gateway.networking.k8s.io/v1", kind, name, &spec)
}

fn to(backend: &Value) -> Value {
    json!({"backendRefs": [backend]})
}

fn service(name: &str) -> Value {
    json!({"kind": "Service", "name": name})
}

#[test]
fn each_reason_of_a_route_has_its_cause() {
    let good = to(&json!({"name": "api", "port": 80}));
    let at = |field: &str, value: Value| {
        let mut parent = parent("web");
        parent[field] = value;
        parent
    };
    let extension = json!({"filters": [{"type": "ExtensionRef", "extensionRef": {"group": "a.b", "kind": "Waf", "name": "w"}}],
        "backendRefs": [{"name": "api", "port": 80}]});
    let redirected = json!({"filters": [{"type": "RequestRedirect", "requestRedirect": {"scheme": "https"}},
        {"type": "URLRewrite", "urlRewrite": {"hostname": "a.b"}}]});
    let cases = [
        ("HTTPRoute", parent("web"), good.clone(), "Accepted ResolvedRefs"),
        ("HTTPRoute", at("port", 80.into()), good.clone(), "Accepted ResolvedRefs"),
        ("HTTPRoute", at("sectionName", "http".into()), good.clone(), "Accepted ResolvedRefs"),
        ("HTTPRoute", parent("nobody"), good.clone(), "NoMatchingParent ResolvedRefs"),
        ("HTTPRoute", at("port", 99.into()), good.clone(), "NoMatchingParent ResolvedRefs"),
        ("HTTPRoute", at("port", 81.into()), good.clone(), "NoMatchingParent ResolvedRefs"),
        (
            "HTTPRoute",
            parent("web"),
            json!({"matches": [{"path": {"type": "Perhaps", "value": "/"}}]}),
            "UnsupportedValue BackendNotFound",
        ),
        ("HTTPRoute", parent("web"), redirected, "IncompatibleFilters BackendNotFound"),
        ("HTTPRoute", parent("web"), to(&json!({"name": "nobody", "port": 80})), "Accepted BackendNotFound"),
        ("HTTPRoute", parent("web"), to(&json!({"name": "api", "port": 99})), "Accepted BackendNotFound"),
        (
            "HTTPRoute",
            parent("web"),
            to(&json!({"kind": "Bucket", "group": "a.b", "name": "api", "port": 80})),
            "Accepted InvalidKind",
        ),
        ("HTTPRoute", parent("web"), extension, "Accepted InvalidKind"),
        ("HTTPRoute", parent("web"), to(&json!({"name": "api", "port": 81})), "Accepted UnsupportedProtocol"),
        ("GRPCRoute", parent("web"), to(&json!({"name": "api", "port": 80})), "Accepted ResolvedRefs"),
        ("TCPRoute", parent("web"), to(&json!({"name": "api", "port": 81})), "Accepted ResolvedRefs"),
        ("TCPRoute", at("namespace", "other".into()), good, "UnsupportedValue"),
    ];
    for (kind, parent, rule, expected) in cases {
        let route = route(kind, "r", std::slice::from_ref(&parent), &rule);
        let mut world = World::new(std::slice::from_ref(&route));
        assert_eq!(world.reasons(&route), [expected], "{route}");
        assert_eq!(world.said(&route)[0].0, parent, "the reference is as it was written");
    }
}

#[test]
fn each_service_among_the_parents_has_an_entry_and_gateways_are_somebody_elses() {
    let gateway = json!({"name": "edge"});
    let parents = [gateway, parent("web"), parent("nobody"), parent("api")];
    let route = route("HTTPRoute", "r", &parents, &to(&json!({"name": "api", "port": 80})));
    let other = self::route("GRPCRoute", "g", &[parent("api")], &to(&json!({"name": "api", "port": 80})));
    let mut world = World::new(&[route.clone(), other]);
    let reasons = ["Accepted ResolvedRefs", "NoMatchingParent ResolvedRefs", "Conflicted ResolvedRefs"];
    assert_eq!(world.reasons(&route), reasons);
    let said = world.said(&route);
    assert!(said[2].1.accepted.message.contains("GRPCRoute shop/g holds"), "{said:?}");
    let alone = self::route("HTTPRoute", "edge", &[json!({"name": "edge"})], &json!({}));
    world.put(&alone);
    assert_eq!(world.reasons(&alone), [""; 0]);
}

#[test]
fn what_the_schema_cannot_see_is_invalid_in_the_problems_words() {
    let bad = policy(
        "TrafficPolicy",
        "p",
        &json!({"targetRefs": [service("web")],
        "loadBalancer": {"type": "ConsistentHash", "consistentHash": {"type": "SourceIP", "tableSize": 4}}}),
    );
    let mut world = World::new(std::slice::from_ref(&bad));
    assert_eq!(world.reasons(&bad), ["Invalid"]);
    let words = world.words(&bad);
    assert!(words.starts_with("spec.loadBalancer.consistentHash.tableSize: "), "{words}");
    assert!(!words.contains("stays in force"), "it was never good: {words}");
}

#[test]
fn a_version_that_is_refused_says_that_the_last_good_one_stays() {
    let with = |kind: &str| json!({"targetRefs": [service("web")], "loadBalancer": {"type": kind}});
    let mut world = World::new(&[policy("TrafficPolicy", "p", &with("Random"))]);
    let bad = policy("TrafficPolicy", "p", &with("Perhaps"));
    assert_eq!(world.reasons(&bad), ["Accepted"]);
    world.put(&bad);
    assert_eq!(world.reasons(&bad), ["Invalid"]);
    assert!(world.words(&bad).ends_with("its last good version stays in force"));
    let rule = |kind: &str| json!({"matches": [{"path": {"type": kind, "value": "/"}}], "backendRefs": [{"name": "api", "port": 80}]});
    let good = route("HTTPRoute", "r", &[parent("web")], &rule("Exact"));
    world.put(&good);
    assert_eq!(world.reasons(&good), ["Accepted ResolvedRefs"]);
    let bad = route("HTTPRoute", "r", &[parent("web"), parent("api")], &rule("Perhaps"));
    world.put(&bad);
    assert_eq!(world.reasons(&bad), ["UnsupportedValue ResolvedRefs"; 2], "the new parent, too");
    assert!(world.words(&bad).ends_with("its last good version stays in force"));
}

#[test]
fn targets_of_every_policy_may_be_missing_and_are_found_when_they_come() {
    let rules = json!([{"sources": [{"type": "CIDR", "cidr": "10.0.0.0/8"}]}]);
    let gateway = |kind: &str| json!({"group": "gateway.networking.k8s.io", "kind": kind, "name": "late"});
    let target = |kind: &str| if kind == "Service" { service("late") } else { gateway(kind) };
    let spec = |kind: &str, target: Value| match kind {
        "TrafficPolicy" => json!({"targetRefs": [target], "timeouts": {"request": "1s"}}),
        "AuthorizationPolicy" => json!({"targetRefs": [target], "rules": rules}),
        "AuthenticationPolicy" => json!({"targetRefs": [target], "mtls": {"mode": "Strict"}}),
        _ => json!({"targetRefs": [target], "accessLog": {"mode": "Enabled"}}),
    };
    let cases = [
        ("TrafficPolicy", "Service"),
        ("TrafficPolicy", "HTTPRoute"),
        ("AuthorizationPolicy", "Service"),
        ("AuthorizationPolicy", "GRPCRoute"),
        ("AuthenticationPolicy", "Service"),
        ("TelemetryPolicy", "Service"),
    ];
    for (kind, of) in cases {
        let policy = policy(kind, "p", &spec(kind, target(of)));
        let mut world = World::new(std::slice::from_ref(&policy));
        assert_eq!(world.reasons(&policy), ["TargetNotFound"], "{policy}");
        assert!(
            world.words(&policy).contains(&format!("there is no {of} shop/late")),
            "{}",
            world.words(&policy)
        );
        let late = match of {
            "Service" => {
                object("v1", of, "late", &json!({"clusterIP": "10.96.0.9", "ports": [{"port": 80}]}))
            }
            _ => route(of, "late", &[parent("web")], &to(&json!({"name": "api", "port": 80}))),
        };
        world.put(&late);
        assert_eq!(world.reasons(&policy), ["Accepted"], "{policy}");
        world.remove(&late);
        assert_eq!(world.reasons(&policy), ["TargetNotFound"], "{policy}");
    }
}

#[test]
fn of_two_policies_for_one_target_the_loser_names_the_winner() {
    let pods = json!({"kind": "Pod", "selector": {"matchLabels": {"app": "web"}}});
    let cases = [
        ("TrafficPolicy", json!({"targetRefs": [service("web")], "timeouts": {"request": "1s"}})),
        ("AuthenticationPolicy", json!({"targetRefs": [pods.clone()], "mtls": {"mode": "Strict"}})),
        ("AuthenticationPolicy", json!({"targetRefs": [service("web")], "mtls": {"mode": "Strict"}})),
        ("TelemetryPolicy", json!({"targetRefs": [pods], "accessLog": {"mode": "Enabled"}})),
    ];
    for (kind, spec) in cases {
        let (first, second) = (policy(kind, "a", &spec), policy(kind, "b", &spec));
        let mut world = World::new(&[first.clone(), second.clone()]);
        assert_eq!(
            (world.reasons(&first), world.reasons(&second)),
            (vec!["Accepted".into()], vec!["Conflicted".into()])
        );
        let words = world.words(&second);
        assert!(words.starts_with(&format!("{kind} shop/a holds for")), "{words}");
        world.remove(&first);
        assert_eq!(world.reasons(&second), ["Accepted"], "it wins now");
    }
}

#[test]
fn a_conflict_is_that_of_its_target_and_of_its_section_alone() {
    let both = json!({"targetRefs": [service("web"), service("api")], "timeouts": {"request": "1s"}});
    let one = json!({"targetRefs": [service("api")], "timeouts": {"request": "2s"}});
    let (first, second) = (policy("TrafficPolicy", "a", &one), policy("TrafficPolicy", "b", &both));
    let mut world = World::new(&[first, second.clone()]);
    assert_eq!(world.reasons(&second), ["Accepted", "Conflicted"]);
    let mtls = json!({"targetRefs": [service("web")], "mtls": {"mode": "Strict"}});
    let more = json!({"targetRefs": [service("web")], "mtls": {"mode": "Permissive"},
        "jwt": [{"name": "corp", "issuer": "https://idp.example", "jwks": {"uri": "https://idp.example/jwks"}}]});
    let (first, second) =
        (policy("AuthenticationPolicy", "a", &mtls), policy("AuthenticationPolicy", "b", &more));
    world.put(&first);
    world.put(&second);
    assert_eq!(world.reasons(&second), ["Accepted"], "its tokens count");
    let partly = world.said(&second).remove(0).1.partly.join("; ");
    assert!(
        partly.contains("AuthenticationPolicy shop/a holds for Service shop/web already, as to mtls"),
        "{partly}"
    );
}

#[test]
fn pods_are_shown_by_their_namespace_and_routes_with_their_rule() {
    let rules = json!([{"sources": [{"type": "CIDR", "cidr": "10.0.0.0/8"}]}]);
    let pods = json!({"kind": "Pod", "selector": {}});
    let all = policy("AuthorizationPolicy", "all", &json!({"targetRefs": [pods], "rules": rules}));
    let rule =
        json!({"group": "gateway.networking.k8s.io", "kind": "HTTPRoute", "name": "r", "sectionName": "a"});
    let one = policy("TrafficPolicy", "one", &json!({"targetRefs": [rule], "timeouts": {"request": "1s"}}));
    let mut world = World::new(&[all.clone(), one.clone()]);
    assert_eq!(world.said(&all)[0].0, json!({"group": "", "kind": "Namespace", "name": "shop"}));
    let ancestor = json!({"group": "gateway.networking.k8s.io", "kind": "HTTPRoute", "namespace": "shop", "name": "r",
        "sectionName": "a"});
    assert_eq!(world.said(&one)[0].0, ancestor);
    let nothing = policy("TrafficPolicy", "nothing", &json!({"targetRefs": "web"}));
    world.put(&nothing);
    assert_eq!(world.said(&nothing)[0].0["kind"], "Namespace", "one that names nothing can be told so");
}

#[test]
fn a_mesh_is_accepted_with_parameters_that_are_there() {
    let version = "gateway.networking.x-k8s.io/v1alpha1";
    let mesh = |name: &str, controller: &str, parameters: Value| {
        object(version, "XMesh", name, &json!({"controllerName": controller, "parametersRef": parameters}))
    };
    let settings = json!({"group": "weft.dev", "kind": "MeshConfig", "name": "default"});
    let good = mesh("weft", "weft.dev/controller", settings);
    let mut world = World::new(std::slice::from_ref(&good));
    assert_eq!(world.reasons(&good), ["InvalidParameters"], "there is none yet");
    let config = policy("MeshConfig", "default", &json!({}));
    world.put(&config);
    assert_eq!(
        (world.reasons(&good), world.reasons(&config)),
        (vec!["Accepted".into()], vec!["Accepted".into()])
    );
    let wrong = mesh("other", "weft.dev/controller", json!({"group": "", "kind": "ConfigMap", "name": "x"}));
    let foreign = mesh("foreign", "a.b/c", json!({"group": "", "kind": "ConfigMap", "name": "x"}));
    world.put(&wrong);
    world.put(&foreign);
    assert_eq!(world.reasons(&wrong), ["InvalidParameters"]);
    assert!(world.words(&wrong).starts_with("spec.parametersRef.kind: "), "{}", world.words(&wrong));
    assert_eq!(world.of(&foreign), None);
    world.put(&policy("MeshConfig", "default", &json!({"trustDomain": "a/b"})));
    assert_eq!(world.reasons(&config), ["Invalid"]);
}

#[test]
fn settings_of_another_trust_domain_are_told_which_one_holds() {
    let config = policy("MeshConfig", "default", &json!({"trustDomain": "b.example"}));
    let mut world = World::new(std::slice::from_ref(&config));
    let in_force = |world: &mut World| match &world.of(&config).unwrap().verdict {
        Verdict::MeshConfig(opinion, trust_domain) => (trust_domain.to_string(), opinion.partly.join("; ")),
        other => panic!("{other:?}"),
    };
    assert_eq!(
        in_force(&mut world),
        ("b.example".to_owned(), String::new()),
        "where no installation says it"
    );
    let mut installed = World::new(&[]);
    installed.assembly.install_for(Some("a.example".into()));
    installed.put(&config);
    let (trust_domain, said) = in_force(&mut installed);
    assert_eq!(trust_domain, "a.example");
    assert!(
        said.starts_with("spec.trustDomain: the mesh was installed with trust domain a.example"),
        "{said}"
    );
    assert_eq!(installed.reasons(&config), ["Accepted"], "the other settings hold");
}

#[test]
fn what_is_the_same_stays_the_same_allocation() {
    let p =
        policy("TrafficPolicy", "p", &json!({"targetRefs": [service("web")], "timeouts": {"request": "1s"}}));
    let mut world = World::new(std::slice::from_ref(&p));
    let before = world.of(&p).unwrap();
    world.put(&policy(
        "TrafficPolicy",
        "q",
        &json!({"targetRefs": [service("api")], "timeouts": {"request": "1s"}}),
    ));
    assert!(Arc::ptr_eq(&before, &world.of(&p).unwrap()));
}

#[test]
fn what_a_route_says_itself_goes_before_its_policy_and_the_policy_says_so() {
    let target = json!({"group": "gateway.networking.k8s.io", "kind": "HTTPRoute", "name": "r"});
    let said = json!({"targetRefs": [target], "timeouts": {"request": "5s"}, "rateLimit":
        {"local": {"rules": [{"limit": {"requests": 1, "unit": "Second"}}]}}});
    let (policy, backends) = (policy("TrafficPolicy", "p", &said), json!([{"name": "api", "port": 80}]));
    let own = json!({"timeouts": {"request": "1s"}, "backendRefs": backends});
    let mut r = route("HTTPRoute", "r", &[parent("web")], &own);
    let mut world = World::new(&[r.clone(), policy.clone()]);
    let partly = |world: &mut World| world.said(&policy).remove(0).1.partly.join("; ");
    assert!(
        partly(&mut world).contains("timeouts.request overridden by HTTPRoute shop/r"),
        "{}",
        partly(&mut world)
    );
    r["spec"]["rules"] = json!([own, {"backendRefs": backends}]);
    world.put(&r);
    assert_eq!(partly(&mut world), "", "it holds for one of the rules");
}
