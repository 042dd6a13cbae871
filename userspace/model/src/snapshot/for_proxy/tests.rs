use std::net::SocketAddr;

use super::*;
use crate::{
    Action, AuthorizationPolicy, Backend, Distribution, Endpoint, EndpointGroup, Filter, Fraction, Jwks,
    JwksSource, JwtProvider, LoadBalancer, Mirror, Mode, Problem, Protocol, ProxyFailure, Route, RouteMatch,
    RouteRule, ServiceAccount, ServiceKind, Severity, TlsRoute, TokenHeader,
};

fn shop(name: &str) -> ObjectName {
    ObjectName::new("shop", name)
}

fn to(name: &str) -> BackendTarget {
    BackendTarget::Service { name: shop(name), port: 80 }
}

fn backend(name: &str) -> Backend {
    Backend { target: to(name), weight: 1, filters: vec![mirror(&format!("{name}-copy"))] }
}

fn mirror(name: &str) -> Filter {
    Filter::Mirror(Mirror { target: to(name), share: Fraction::ALL })
}

fn route(name: &str) -> Arc<Route> {
    let rule = RouteRule {
        name: None,
        matches: vec![RouteMatch::any()],
        filters: vec![mirror(&format!("{name}-seen"))],
        backends: vec![
            backend(name),
            Backend {
                target: BackendTarget::Invalid { why: "nobody".into() },
                weight: 1,
                filters: Vec::new(),
            },
        ],
        timeouts: crate::Timeouts::default(),
        retry: None,
        session: None,
        traffic: Arc::default(),
    };
    Arc::new(Route { name: shop(name), rules: vec![rule] })
}

/// A Service with one endpoint, the pod `name`-pod at 10.1.0.`last`.
fn service(name: &str, last: u8, routing: Option<PortRouting>) -> (ObjectName, Arc<Service>) {
    let endpoint = Endpoint {
        address: SocketAddr::from(([10, 1, 0, last], 8080)),
        ready: true,
        serving: true,
        terminating: false,
        node: Some("n2".into()),
        zone: None,
        hints: None,
        pod: Some(shop(&format!("{name}-pod"))).filter(|_| last.is_multiple_of(2)),
    };
    let group = EndpointGroup {
        service: shop(name),
        weight: 1,
        node_local: false,
        distribution: Distribution::Any,
        endpoints: vec![endpoint],
    };
    let port = ServicePort {
        name: "".into(),
        port: 80,
        protocol: Protocol::Tcp,
        app_protocol: None,
        groups: vec![group],
        routing: routing.map(Arc::new),
    };
    let service = Service {
        name: shop(name),
        kind: ServiceKind::ClusterIp,
        ips: vec![IpAddr::from([10, 96, 0, last])],
        ports: vec![port],
        session_affinity: None,
        load_balancer: LoadBalancer::Random,
        accelerate: false,
        proxy_failure: ProxyFailure::Open,
        traffic: Arc::default(),
    };
    (service.name.clone(), Arc::new(service))
}

fn workload(name: &str, last: u8, local: bool) -> (ObjectName, Arc<Workload>) {
    let workload = Workload {
        name: shop(name),
        service_account: ServiceAccount::new("shop", "default"),
        ips: vec![IpAddr::from([10, 1, 0, last])],
        node: Some("n2".into()),
        local,
        labels: Arc::new(BTreeMap::from([("app".to_owned(), "web".to_owned())])),
        enrolled: true,
        netns: local.then(|| "/run/netns/a".into()),
        ports: Vec::new(),
        owner: "web".into(),
        ready: true,
        passage: crate::Passage::Done,
        terminating: false,
        created: u64::MAX,
    };
    (workload.name.clone(), Arc::new(workload))
}

const REACHED: [&str; 9] =
    ["web", "http", "http-seen", "http-copy", "grpc", "grpc-seen", "grpc-copy", "tls", "timed"];

/// Services that routes of `web` lead to, one that a policy alone takes to the proxy, and one of the kernel.
fn snapshot() -> Snapshot {
    let routing = PortRouting {
        producer: RouteSet::Http(vec![route("http")]),
        consumers: BTreeMap::from([
            (Arc::from("one"), RouteSet::Grpc(vec![route("grpc")])),
            (
                Arc::from("two"),
                RouteSet::Tls(vec![Arc::new(TlsRoute {
                    name: shop("tls"),
                    hostnames: Vec::new(),
                    backends: vec![Backend { filters: Vec::new(), ..backend("tls") }],
                })]),
            ),
        ]),
        ..PortRouting::default()
    };
    let mut services = BTreeMap::new();
    let mut workloads = BTreeMap::from([workload("client", 200, true), workload("elsewhere", 201, false)]);
    for (i, name) in REACHED.into_iter().chain(["kernel"]).enumerate() {
        let routing = match name {
            "web" => Some(routing.clone()),
            "timed" => Some(PortRouting::default()),
            _ => None,
        };
        let last = u8::try_from(i).unwrap();
        services.extend([service(name, last, routing)]);
        workloads.extend([workload(&format!("{name}-pod"), last, false)]);
    }
    let problem = Problem {
        severity: Severity::Warning,
        file: String::new(),
        line: 1,
        object: String::new(),
        field: String::new(),
        message: String::new(),
        remedy: String::new(),
    };
    Snapshot {
        version: 7,
        services: Arc::new(services),
        workloads: Arc::new(workloads),
        problems: Arc::new(vec![problem]),
        ..Snapshot::default()
    }
}

#[test]
fn everything_that_a_route_can_reach_is_in_it_and_nothing_of_the_kernel_path() {
    let part = snapshot().for_proxy(&BTreeSet::new());
    let expected: BTreeSet<_> = REACHED.iter().map(|name| shop(name)).collect();
    assert_eq!(part.services.keys().cloned().collect::<BTreeSet<_>>(), expected);
    for name in &expected {
        assert!(part.workloads.contains_key(&shop(&format!("{}-pod", name.name))), "{name}");
    }
    assert!(part.workloads.contains_key(&shop("client")), "pods of this node are there");
    assert!(
        !part.workloads.contains_key(&shop("kernel-pod")) && !part.workloads.contains_key(&shop("elsewhere"))
    );
    assert!(part.problems.is_empty());
}

#[test]
fn a_service_that_a_policy_targets_is_in_it_for_its_endpoints() {
    let mut whole = snapshot();
    let policy = AuthorizationPolicy {
        name: shop("guard"),
        action: Action::Allow,
        mode: Mode::Enforce,
        target: PolicyTarget::Services(vec!["kernel".into(), "nobody".into()]),
        rules: Vec::new(),
    };
    whole.policies = Arc::new(BTreeMap::from([(policy.name.clone(), Arc::new(policy))]));
    let part = whole.for_proxy(&BTreeSet::new());
    assert!(part.services.contains_key(&shop("kernel")));
    assert!(!part.workloads.contains_key(&shop("kernel-pod")), "no pod of another node comes with it");
}

#[test]
fn it_shares_its_parts_with_the_whole() {
    let (whole, name) = (snapshot(), shop("web"));
    let part = whole.for_proxy(&BTreeSet::new());
    assert!(Arc::ptr_eq(&whole.services[&name], &part.services[&name]));
    assert!(Arc::ptr_eq(&whole.policies, &part.policies));
}

/// With a provider at one pod, whose keys are elsewhere and here.
fn with_providers(snapshot: Snapshot) -> Snapshot {
    let x = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8";
    let document = format!(r#"{{"keys": [{{"kty": "OKP", "crv": "Ed25519", "x": "{x}"}}]}}"#);
    let (jwks, _) = Jwks::parse(document.as_bytes()).unwrap();
    let jwks = Arc::new(jwks);
    let provider = |keys| JwtProvider {
        name: "corp".into(),
        issuer: "https://idp.example".into(),
        audiences: vec!["shop".into()],
        keys,
        headers: vec![TokenHeader::default()],
        forward: true,
    };
    let uri: Arc<str> = "https://idp.example/jwks".into();
    let service = JwksSource::Service { name: shop("idp"), port: 80, path: "/certs".into() };
    let sources = [JwksSource::Uri(Arc::clone(&uri)), JwksSource::Inline(Arc::clone(&jwks)), service];
    let providers: Arc<[_]> = sources.map(provider).into();
    let jwt = Arc::new([(shop("web-pod"), providers)].into());
    Snapshot { jwt, jwks: Arc::new([(uri, jwks)].into()), ..snapshot }
}

#[test]
fn it_reads_back_from_json_as_it_was_and_skips_what_it_does_not_know() {
    let part = with_providers(snapshot()).for_proxy(&BTreeSet::new());
    assert_eq!((part.jwt.len(), part.jwks.len()), (1, 1));
    let text = serde_json::to_string(&part).unwrap();
    assert_eq!(serde_json::from_str::<Snapshot>(&text).unwrap(), part);
    let newer = text
        .replacen('{', "{\"fromTheFuture\": [1], ", 1)
        .replace("\"accelerate\":", "\"later\":1,\"accelerate\":");
    assert_eq!(serde_json::from_str::<Snapshot>(&newer).unwrap(), part);
    let older = text.replace(",\"proxy_failure\":\"Open\"", "");
    let older: Snapshot = serde_json::from_str(&older).unwrap();
    assert_eq!(older.services[&shop("web")].proxy_failure, ProxyFailure::Closed);
}
