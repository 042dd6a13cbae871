use std::{collections::BTreeMap, net::IpAddr, sync::Arc, time::Duration};

use weft_model::{
    Action, AppProtocol, AuthorizationPolicy, Backend, BackendTarget, Distribution, EndpointGroup, Filter,
    HttpAttributes, Mode, Mtls, MtlsMode, NameMatch, PathMatch, PathRewrite, PathRule, PolicyTarget,
    Redirect, Retry, Rewrite, Route, RouteKind, RouteMatch, RouteRule, RouteSet, Rule, Selector,
    ServiceAccount, Source, Timeouts, TlsRoute, TrafficSettings, ValueMatch,
};

use super::*;

fn name(name: &str) -> ObjectName {
    ObjectName::new("shop", name)
}

fn pod(app: &str, last: u8) -> Workload {
    Workload {
        name: name(&format!("{app}-1")),
        service_account: ServiceAccount::new("shop", app),
        ips: vec![[10, 0, 0, last].into()],
        node: None,
        local: true,
        labels: Arc::new(BTreeMap::from([("app".to_owned(), app.to_owned())])),
        enrolled: true,
        netns: None,
        ports: Vec::new(),
        owner: app.into(),
        ready: true,
        passage: weft_model::Passage::Done,
        terminating: false,
        created: u64::MAX,
    }
}

/// A Service whose one endpoint is the pod of its name; none for a `last` of 0.
fn service(app: &str, last: u8, routing: Option<PortRouting>) -> Service {
    let endpoint = Endpoint {
        address: ([10, 0, 0, last], 8080).into(),
        ready: true,
        serving: true,
        terminating: false,
        node: None,
        zone: None,
        hints: None,
        pod: Some(name(&format!("{app}-1"))),
    };
    let group = EndpointGroup {
        service: name(app),
        weight: 1,
        node_local: false,
        distribution: Distribution::Any,
        endpoints: if last == 0 { Vec::new() } else { vec![endpoint] },
    };
    Service {
        name: name(app),
        kind: ServiceKind::ClusterIp,
        ips: vec![[10, 96, 0, last].into()],
        ports: vec![ServicePort {
            name: "http".into(),
            port: 80,
            protocol: Protocol::Tcp,
            app_protocol: None,
            groups: vec![group],
            routing: routing.map(Arc::new),
        }],
        session_affinity: None,
        load_balancer: LoadBalancer::Random,
        accelerate: false,
        proxy_failure: weft_model::ProxyFailure::default(),
        traffic: Arc::default(),
    }
}

/// `shop/web-1`, which asks; Services `shop/v1` with a pod, `shop/v2` without, and `shop/api` with `routing`.
fn shop(routing: Option<PortRouting>) -> Snapshot {
    let pods = [pod("web", 1), pod("v1", 2), pod("api", 3)];
    let services = [service("v1", 2, None), service("v2", 0, None), service("api", 3, routing)];
    Snapshot {
        workloads: Arc::new(pods.into_iter().map(|pod| (pod.name.clone(), Arc::new(pod))).collect()),
        services: Arc::new(services.into_iter().map(|item| (item.name.clone(), Arc::new(item))).collect()),
        ..Snapshot::default()
    }
}

fn rule(matches: Vec<RouteMatch>, backends: &[(&str, u32)]) -> RouteRule {
    let backend = |(to, weight): &(&str, u32)| Backend {
        target: BackendTarget::Service { name: name(to), port: 80 },
        weight: *weight,
        filters: Vec::new(),
    };
    RouteRule {
        name: None,
        matches,
        filters: Vec::new(),
        backends: backends.iter().map(backend).collect(),
        timeouts: Timeouts::default(),
        retry: None,
        session: None,
        traffic: Arc::default(),
    }
}

fn below(path: &str) -> RouteMatch {
    RouteMatch { path: PathMatch::Prefix(path.into()), ..RouteMatch::any() }
}

fn canary() -> RouteMatch {
    let header = ValueMatch { name: "x-canary".into(), value: NameMatch::Exact("yes".into()) };
    RouteMatch { method: Some("GET".into()), headers: vec![header], ..below("/v1") }
}

fn http(rules: Vec<RouteRule>) -> PortRouting {
    let route = Arc::new(Route { name: name("route"), rules });
    PortRouting {
        protocol: AppProtocol::Http,
        producer: RouteSet::Http(vec![route]),
        ..PortRouting::default()
    }
}

fn get(path: &str) -> ExplainQuery {
    ExplainQuery {
        from: "shop/web-1".into(),
        to: "shop/api".into(),
        port: 80,
        method: "GET".into(),
        path: path.into(),
        headers: String::new(),
        server_name: None,
    }
}

fn told(routing: PortRouting, query: &ExplainQuery) -> Explanation {
    explain(&shop(Some(routing)), query, ServiceScope::Enrolled).unwrap()
}

#[test]
fn without_routes_it_stays_in_the_kernel() {
    let told = explain(&shop(None), &get("/"), ServiceScope::Enrolled).unwrap();
    assert_eq!((told.verdict, told.path, told.managed), (Verdict::Forwarded, Path::Kernel, true));
    assert_eq!(told.because, ["nothing of the Service needs the proxy"]);
    assert_eq!(told.backends[0].name, "shop/api:80");
    assert_eq!((told.backends[0].eligible, told.backends[0].share), (1, 100.0));
}

#[test]
fn a_pod_of_another_node_is_reached_by_mutual_tls_and_may_refuse_all_else() {
    let elsewhere = |mode, enrolled| {
        let mut snapshot = shop(None);
        snapshot.mtls = Arc::new(Mtls { on: true, mesh: mode, ..Mtls::default() });
        let workloads = Arc::make_mut(&mut snapshot.workloads);
        let api = Arc::make_mut(
            workloads.values_mut().find(|pod| pod.ips == [IpAddr::from([10, 0, 0, 3])]).unwrap(),
        );
        (api.local, api.node) = (false, Some("b".into()));
        let web = Arc::make_mut(
            workloads.values_mut().find(|pod| pod.ips == [IpAddr::from([10, 0, 0, 1])]).unwrap(),
        );
        web.enrolled = enrolled;
        explain(&snapshot, &get("/"), ServiceScope::Enrolled).unwrap()
    };
    let told = elsewhere(MtlsMode::Permissive, true);
    assert_eq!((told.verdict, told.path), (Verdict::Forwarded, Path::Tls));
    assert!(told.because.last().unwrap().ends_with("mutual TLS"), "{:?}", told.because);
    let told = elsewhere(MtlsMode::Disabled, true);
    assert_eq!((told.verdict, told.path), (Verdict::Forwarded, Path::Kernel));
    let told = elsewhere(MtlsMode::Strict, false);
    assert_eq!((told.verdict, told.reason.as_deref()), (Verdict::Denied, Some("Plaintext")));
    assert_eq!(elsewhere(MtlsMode::Permissive, false).verdict, Verdict::Forwarded);
}

#[test]
fn a_client_outside_the_mesh_is_left_alone() {
    let mut snapshot = shop(Some(http(Vec::new())));
    let web = Arc::get_mut(&mut snapshot.workloads).unwrap().get_mut(&name("web-1")).unwrap();
    Arc::get_mut(web).unwrap().enrolled = false;
    let told = explain(&snapshot, &get("/"), ServiceScope::Enrolled).unwrap();
    assert_eq!((told.managed, told.path), (false, Path::Kernel));
    assert_eq!(told.because, ["shop/web-1 is not in the mesh: its connections are left alone"]);
    let everyone = explain(&snapshot, &get("/"), ServiceScope::Node).unwrap();
    assert_eq!((everyone.managed, everyone.path), (false, Path::Kernel));
    assert!(everyone.because[0].ends_with("balances its connections, and routes are not for them"));
}

#[test]
fn that_a_client_is_of_another_node_is_said() {
    let mut snapshot = shop(None);
    let web = Arc::get_mut(&mut snapshot.workloads).unwrap().get_mut(&name("web-1")).unwrap();
    Arc::get_mut(web).unwrap().local = false;
    let told = explain(&snapshot, &get("/"), ServiceScope::Enrolled).unwrap();
    assert_eq!(told.notes, ["shop/web-1 is of another node; endpoints are counted as this one sees them"]);
}

#[test]
fn the_rule_its_match_and_its_shares_are_told() {
    let mut split = rule(vec![below("/other"), canary()], &[("v1", 90), ("v2", 10)]);
    split.name = Some("canary".into());
    let routing = http(vec![rule(vec![below("")], &[("api", 1)]), split]);
    let query = ExplainQuery { headers: "x-canary: yes".into(), ..get("/v1/items") };
    let told = told(routing, &query);
    let found = told.rule.unwrap();
    assert_eq!((found.route.as_str(), found.index), ("HTTPRoute shop/route", 1));
    assert_eq!(found.name.as_deref(), Some("canary"));
    assert_eq!(found.matched, "path below /v1, method GET, header x-canary = yes");
    assert_eq!(told.routes.as_deref(), Some("routes of namespace shop"));
    let shares: Vec<_> =
        told.backends.iter().map(|b| (b.name.as_str(), b.share, b.problem.as_deref())).collect();
    assert_eq!(shares, [("shop/v1:80", 90.0, None), ("shop/v2:80", 10.0, Some("NoEndpoints"))]);
    assert_eq!(told.verdict, Verdict::Forwarded, "most of it passes");
    assert_eq!(told.notes, ["10.0 % of requests are refused: NoEndpoints, shop/v2:80"]);
}

#[test]
fn where_no_rule_matches_the_nearest_one_says_what_it_missed() {
    let routing = http(vec![rule(vec![below("/v2")], &[("v1", 1)]), rule(vec![canary()], &[("v1", 1)])]);
    let told = told(routing, &ExplainQuery { headers: "x-canary: no".into(), ..get("/v1/items") });
    assert_eq!((told.verdict, told.reason.as_deref()), (Verdict::Denied, Some("NoRule")));
    assert_eq!(told.answer.unwrap().status, Some(404));
    let misses: Vec<_> = told.nearest.iter().map(|miss| (miss.index, miss.missing.join("; "))).collect();
    assert_eq!(
        misses,
        [
            (0, "path below /v2: it asks for /v1/items".to_owned()),
            (1, "header x-canary = yes: it has no".to_owned())
        ]
    );
}

#[test]
fn the_routes_of_the_clients_namespace_hide_the_producers() {
    let mut routing = http(vec![rule(vec![below("")], &[("v1", 1)])]);
    let route = Route { name: name("own"), rules: vec![rule(vec![below("/own")], &[("v1", 1)])] };
    routing.consumers.insert("shop".into(), RouteSet::Http(vec![Arc::new(route)]));
    let told = told(routing, &get("/"));
    assert_eq!(told.reason.as_deref(), Some("NoRule"));
    assert_eq!(told.routes.as_deref(), Some("consumer routes of namespace shop"));
}

#[test]
fn a_redirect_is_the_proxys_answer_and_a_rewrite_is_shown() {
    let mut moved = rule(vec![below("/old")], &[]);
    let hostname = Some("new.example".into());
    let redirect = Redirect { scheme: Some("https".into()), hostname, port: None, path: None, status: 301 };
    moved.filters.push(Filter::Redirect(redirect));
    let mut rewritten = rule(vec![below("/v1")], &[("v1", 1)]);
    let path = Some(PathRewrite::Prefix { matched: "/v1".into(), replacement: "".into() });
    rewritten.filters.push(Filter::Rewrite(Rewrite { hostname: None, path }));
    let routing = http(vec![moved, rewritten]);
    let redirected = told(routing.clone(), &get("/old/x")).answer.unwrap();
    assert_eq!(redirected.status, Some(301));
    assert_eq!(redirected.location.as_deref(), Some("https://new.example/old/x"));
    let found = told(routing, &get("/v1/items?a=1")).rule.unwrap();
    assert_eq!(found.forwarded.as_deref(), Some("/items?a=1 of api.shop"));
    assert_eq!(found.filters, ["URLRewrite prefix /v1 to /"]);
}

#[test]
fn a_rule_whose_every_share_is_refused_is_refused() {
    let nowhere = BackendTarget::Invalid { why: "there is no Service shop/gone".into() };
    let mut bad = rule(vec![below("")], &[]);
    bad.backends.push(Backend { target: nowhere, weight: 1, filters: Vec::new() });
    let answer = told(http(vec![bad]), &get("/"));
    assert_eq!((answer.verdict, answer.reason.as_deref()), (Verdict::Denied, Some("InvalidBackend")));
    assert_eq!(answer.backends[0].problem.as_deref(), Some("InvalidBackend: there is no Service shop/gone"));
    let empty = told(http(vec![rule(vec![below("")], &[("v2", 1)])]), &get("/"));
    assert_eq!((empty.reason.as_deref(), empty.answer.unwrap().status), (Some("NoEndpoints"), Some(503)));
    let none = told(http(vec![rule(vec![below("")], &[])]), &get("/"));
    assert_eq!((none.reason.as_deref(), none.answer.unwrap().status), (Some("InvalidBackend"), Some(500)));
}

#[test]
fn the_policies_of_the_pods_behind_the_backend_decide() {
    let mut snapshot = shop(Some(http(vec![rule(vec![below("")], &[("v1", 1)])])));
    let policy = AuthorizationPolicy {
        name: name("v1-only-cart"),
        action: Action::Allow,
        mode: Mode::Enforce,
        target: PolicyTarget::Pods(Selector {
            labels: BTreeMap::from([("app".to_owned(), "v1".to_owned())]),
            expressions: Vec::new(),
        }),
        rules: vec![Rule {
            sources: Some(vec![Source::ServiceAccount(ServiceAccount::new("shop", "cart"))]),
            ports: None,
            ..Rule::default()
        }],
    };
    let of_route = AuthorizationPolicy {
        name: name("by-route"),
        target: PolicyTarget::Routes(vec![RouteName { kind: RouteKind::Http, name: name("route") }]),
        ..policy.clone()
    };
    snapshot.policies = Arc::new([policy].map(|p| (p.name.clone(), Arc::new(p))).into());
    let told = explain(&snapshot, &get("/"), ServiceScope::Enrolled).unwrap();
    assert_eq!((told.verdict, told.reason.as_deref()), (Verdict::Denied, Some("NotAllowed")));
    assert_eq!(told.answer, None, "the server's side refuses");
    assert_eq!(told.pods[0].pod, "shop/v1-1");
    snapshot.policies = Arc::new([of_route].map(|p| (p.name.clone(), Arc::new(p))).into());
    let told = explain(&snapshot, &get("/"), ServiceScope::Enrolled).unwrap();
    assert_eq!((told.verdict, told.reason.as_deref()), (Verdict::Denied, Some("NotAllowed")));
    assert_eq!(told.answer.unwrap().status, Some(403), "the client's own proxy refuses");
    assert_eq!(told.notes, ["policies of the route refuse it"]);
}

#[test]
fn what_policies_read_is_the_request_as_it_is_forwarded() {
    let mut snapshot = shop(Some(http(vec![rule(vec![below("")], &[("v1", 1)])])));
    let below_path = |path: &str| HttpAttributes {
        paths: vec![PathRule::Prefix(path.into())],
        ..HttpAttributes::default()
    };
    let policy = AuthorizationPolicy {
        name: name("no-admin"),
        action: Action::Deny,
        mode: Mode::Enforce,
        target: PolicyTarget::Pods(Selector::default()),
        rules: vec![Rule { l7: true, http: Some(below_path("/admin")), ..Rule::default() }],
    };
    snapshot.policies = Arc::new([(policy.name.clone(), Arc::new(policy))].into());
    for (path, verdict) in
        [("/", Verdict::Forwarded), ("/x/..%2fadmin", Verdict::Denied), ("//admin/x?y", Verdict::Denied)]
    {
        let told = explain(&snapshot, &get(path), ServiceScope::Enrolled).unwrap();
        assert_eq!(told.verdict, verdict, "{path}");
    }
}

#[test]
fn each_setting_says_its_level() {
    let second = Duration::from_secs(1);
    let service = TrafficSettings {
        timeouts: Timeouts { idle: Some(second * 90), ..Timeouts::default() },
        retry: Some(Retry { attempts: 2, codes: vec![503], grpc_codes: vec![14], backoff: second / 40 }),
        ..TrafficSettings::default()
    };
    let of_route = TrafficSettings { slow_start: Some(second * 30), ..TrafficSettings::default() };
    let mut timed = rule(vec![below("")], &[("v1", 1)]);
    timed.traffic = Arc::new(of_route.over(&service));
    timed.timeouts = Timeouts { request: Some(Duration::ZERO), ..timed.traffic.timeouts };
    timed.retry = timed.traffic.retry.clone();
    let mut routing = http(vec![timed]);
    routing.traffic = Arc::new(service);
    let told = told(routing, &get("/"));
    let setting = |name: &str| {
        let found = told.settings.iter().find(|setting| setting.name == name).unwrap();
        (found.value.as_str(), found.from.as_str())
    };
    assert_eq!(setting("timeouts.connect"), ("10s", "default"));
    assert_eq!(setting("timeouts.idle"), ("1m30s", "TrafficPolicy of the Service"));
    assert_eq!(setting("timeouts.request"), ("no limit", "route"));
    assert_eq!(setting("timeouts.backendRequest"), ("none", "default"));
    assert_eq!(setting("slowStart"), ("30s", "TrafficPolicy of the route"));
    assert_eq!(
        setting("retry"),
        ("2 times on 503, gRPC 14, after 25ms or more", "TrafficPolicy of the Service")
    );
    assert_eq!(
        told.because,
        ["HTTPRoute shop/route is for it", "a TrafficPolicy for Service shop/api has retry"]
    );
}

#[test]
fn a_tls_route_is_found_by_its_server_name() {
    let backends = rule(Vec::new(), &[("v1", 1)]).backends;
    let route = TlsRoute { name: name("tls"), hostnames: vec!["*.example".into()], backends };
    let routing = PortRouting {
        protocol: AppProtocol::Tls,
        producer: RouteSet::Tls(vec![Arc::new(route)]),
        ..PortRouting::default()
    };
    let named = |name: &str| ExplainQuery { server_name: Some(name.into()), ..get("/") };
    let found = told(routing.clone(), &named("a.example"));
    assert_eq!(found.rule.unwrap().route, "TLSRoute shop/tls");
    let lost = told(routing, &named("a.test"));
    assert_eq!((lost.reason.as_deref(), lost.answer.unwrap().status), (Some("NoTlsRoute"), None));
}

#[test]
fn a_question_that_cannot_be_asked_says_what_is_wrong() {
    let wrong = |query: ExplainQuery| {
        explain(&shop(Some(http(Vec::new()))), &query, ServiceScope::Enrolled).unwrap_err().to_string()
    };
    assert_eq!(
        wrong(ExplainQuery { from: "shop/gone".into(), ..get("/") }),
        "there is no pod shop/gone; see: weft get workloads"
    );
    assert_eq!(
        wrong(ExplainQuery { port: 81, ..get("/") }),
        "Service shop/api has no TCP port 81; its ports are 80"
    );
    assert_eq!(wrong(get("v1")), "\"v1\" is no path; begin it with a slash");
    assert_eq!(
        wrong(ExplainQuery { headers: "x-canary".into(), ..get("/") }),
        "\"x-canary\" is no header; write 'NAME: VALUE'"
    );
}
