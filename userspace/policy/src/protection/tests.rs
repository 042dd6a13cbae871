use std::net::SocketAddr;

use weft_model::{
    Action, Distribution, Endpoint, EndpointGroup, LoadBalancer, PortRange, RouteKind, Selector,
    ServiceAccount, ServiceKind, ServicePort,
};

use super::*;

fn workload(name: &str, ip: &str, label: &str) -> Workload {
    let name = ObjectName::parse(name).unwrap();
    Workload {
        service_account: ServiceAccount::new(Arc::clone(&name.namespace), "default"),
        owner: Arc::clone(&name.name),
        name,
        ips: vec![ip.parse().unwrap()],
        node: None,
        local: true,
        labels: Arc::new(labels(label)),
        enrolled: true,
        netns: None,
        ports: vec![],
        ready: true,
        passage: Passage::Done,
        terminating: false,
        created: u64::MAX,
    }
}

fn labels(app: &str) -> BTreeMap<String, String> {
    BTreeMap::from([("app".to_owned(), app.to_owned())])
}

fn pods(app: &str) -> PolicyTarget {
    PolicyTarget::Pods(Selector { labels: labels(app), expressions: vec![] })
}

fn services(names: &[&str]) -> PolicyTarget {
    PolicyTarget::Services(names.iter().map(|name| (*name).into()).collect())
}

/// A Service of one TCP port that leads to `endpoints`, as its own or another Service's.
fn service(name: &str, of: &str, endpoints: &[&str]) -> Arc<Service> {
    let endpoint = |address: &&str| Endpoint {
        address: address.parse::<SocketAddr>().unwrap(),
        ready: false, // a pod is protected before it is ready
        serving: false,
        terminating: false,
        node: None,
        zone: None,
        hints: None,
        pod: None,
    };
    let group = EndpointGroup {
        service: ObjectName::parse(of).unwrap(),
        weight: 1,
        node_local: false,
        distribution: Distribution::Any,
        endpoints: endpoints.iter().map(endpoint).collect(),
    };
    let port = ServicePort {
        name: "".into(),
        port: 80,
        protocol: Protocol::Tcp,
        app_protocol: None,
        routing: None,
        groups: vec![group],
    };
    Arc::new(Service {
        name: ObjectName::parse(name).unwrap(),
        kind: ServiceKind::Headless,
        ips: vec![],
        ports: vec![port],
        session_affinity: None,
        load_balancer: LoadBalancer::Random,
        accelerate: false,
        proxy_failure: weft_model::ProxyFailure::default(),
        traffic: Arc::default(),
    })
}

fn snapshot(policies: Vec<(&str, PolicyTarget)>, services: Vec<Arc<Service>>) -> Snapshot {
    let policies = policies.into_iter().map(|(name, target)| {
        let name = ObjectName::parse(name).unwrap();
        let (action, mode) = (Action::Allow, Mode::Enforce);
        let policy = AuthorizationPolicy { name: name.clone(), action, mode, target, rules: vec![] };
        (name, Arc::new(policy))
    });
    let services = services.into_iter().map(|service| (service.name.clone(), service));
    Snapshot {
        policies: Arc::new(policies.collect()),
        services: Arc::new(services.collect()),
        ..Snapshot::default()
    }
}

/// Names and ports of the policies that protect `workload`.
fn applied(snapshot: &Snapshot, workload: &Workload) -> Vec<(String, Option<Vec<u16>>)> {
    let ports = |applied: &Applied| Some(applied.ports.as_ref()?.iter().map(|(_, port)| *port).collect());
    let protection = protection(snapshot, workload);
    protection.policies.iter().map(|applied| (applied.policy.name.to_string(), ports(applied))).collect()
}

fn every_port(name: &str) -> (String, Option<Vec<u16>>) {
    (name.to_owned(), None)
}

#[test]
fn a_selector_protects_the_matching_pods_of_its_namespace_on_every_port() {
    let snapshot = snapshot(
        vec![
            ("shop/all", PolicyTarget::Pods(Selector::default())),
            ("shop/web", pods("web")),
            ("web/a", pods("web")),
        ],
        vec![],
    );
    assert_eq!(
        applied(&snapshot, &workload("shop/p", "10.77.1.1", "web")),
        [every_port("shop/all"), every_port("shop/web")]
    );
    assert_eq!(applied(&snapshot, &workload("shop/p", "10.77.1.1", "db")), [every_port("shop/all")]);
    assert_eq!(applied(&snapshot, &workload("web/p", "10.77.1.1", "web")), [every_port("web/a")]);
}

#[test]
fn selectors_of_the_root_namespace_reach_every_namespace_once() {
    let snapshot = snapshot(
        vec![("weft-system/all", PolicyTarget::Pods(Selector::default())), ("a/p", pods("web"))],
        vec![],
    );
    let all = every_port("weft-system/all");
    assert_eq!(applied(&snapshot, &workload("a/p", "10.77.1.1", "web")), [every_port("a/p"), all.clone()]);
    assert_eq!(applied(&snapshot, &workload("weft-system/p", "10.77.1.1", "web")), [all]);
}

#[test]
fn services_of_the_root_namespace_are_its_own() {
    let snapshot = snapshot(
        vec![("weft-system/p", services(&["web"]))],
        vec![service("shop/web", "shop/web", &["10.77.1.1:8080"])],
    );
    assert_eq!(applied(&snapshot, &workload("shop/p", "10.77.1.1", "web")), []);
}

#[test]
fn a_service_target_protects_the_ports_that_the_service_leads_to() {
    let snapshot = snapshot(
        vec![("shop/p", services(&["web", "admin", "web"])), ("shop/q", services(&["other"]))],
        vec![
            service("shop/web", "shop/web", &["10.77.1.1:8080", "10.77.1.2:9090"]),
            service("shop/admin", "shop/admin", &["10.77.1.1:8081"]),
            service("shop/other", "shop/other", &["10.77.1.3:1"]),
        ],
    );
    let first = workload("shop/a", "10.77.1.1", "web");
    assert_eq!(applied(&snapshot, &first), [("shop/p".to_owned(), Some(vec![8080, 8081]))]);
    let second = workload("shop/b", "10.77.1.2", "web");
    assert_eq!(applied(&snapshot, &second), [("shop/p".to_owned(), Some(vec![9090]))]);
    assert_eq!(applied(&snapshot, &workload("shop/c", "10.77.1.9", "web")), []);
}

#[test]
fn endpoints_count_for_the_service_they_belong_to_not_for_the_route_that_leads_there() {
    let snapshot = snapshot(
        vec![("shop/front", services(&["front"])), ("shop/v2", services(&["v2"]))],
        vec![service("shop/front", "shop/v2", &["10.77.1.1:8080"])],
    );
    let backend = workload("shop/p", "10.77.1.1", "web");
    assert_eq!(applied(&snapshot, &backend), [("shop/v2".to_owned(), Some(vec![8080]))]);
}

#[test]
fn every_address_of_a_pod_counts() {
    let snapshot = snapshot(
        vec![("shop/p", services(&["web"]))],
        vec![service("shop/web", "shop/web", &["[fd77::1]:8080", "[::ffff:10.77.1.1]:8081"])],
    );
    let mut dual = workload("shop/p", "10.77.1.1", "web");
    dual.ips.push("fd77::1".parse().unwrap());
    assert_eq!(applied(&snapshot, &dual), [("shop/p".to_owned(), Some(vec![8080, 8081]))]);
}

#[test]
fn a_foreign_namespace_cannot_reach_a_pod_through_endpoints_of_its_own() {
    let snapshot = snapshot(
        vec![("evil/p", services(&["fake"]))],
        vec![service("evil/fake", "evil/fake", &["10.77.1.1:8080"])],
    );
    assert_eq!(applied(&snapshot, &workload("shop/p", "10.77.1.1", "web")), []);
}

#[test]
fn routes_and_pods_outside_the_mesh_are_not_protected_here() {
    let snapshot = snapshot(
        vec![
            ("shop/all", PolicyTarget::Pods(Selector::default())),
            (
                "shop/route",
                PolicyTarget::Routes(vec![RouteName {
                    kind: RouteKind::Http,
                    name: ObjectName::new("shop", "web"),
                }]),
            ),
        ],
        vec![],
    );
    let mut pod = workload("shop/p", "10.77.1.1", "web");
    assert_eq!(applied(&snapshot, &pod), [every_port("shop/all")]);
    pod.enrolled = false;
    assert_eq!(applied(&snapshot, &pod), []);
}

#[test]
fn where_tokens_are_looked_at_each_request_is_read_and_allowed_by_nobodys_policy() {
    let pod = workload("shop/web", "10.1.0.1", "web");
    let jwt = Arc::new([(pod.name.clone(), [].into())].into());
    let snapshot = Snapshot { jwt, ..Snapshot::default() };
    let taken = protection(&snapshot, &pod);
    assert!(taken.tokens && taken.reads_requests() && taken.policies.is_empty());
    assert_eq!(taken.requests(Protocol::Tcp, 80), Requests::Judged);
    assert_eq!(taken.requests(Protocol::Udp, 80), Requests::Unread);
    let other = protection(&snapshot, &workload("shop/api", "10.1.0.2", "api"));
    assert!(!other.tokens && other.requests(Protocol::Tcp, 80) == Requests::Unread);
}

#[test]
fn only_enforced_policies_that_read_requests_on_a_tcp_port_judge_them() {
    let rule = |l7, ports: Option<PortRange>| {
        let ports = ports.map(|range| vec![range]);
        Rule { sources: None, ports, l7, http: None, token: None }
    };
    let judges = |mode, rule: Rule, ports: Option<(Protocol, u16)>| {
        let policy = AuthorizationPolicy {
            name: ObjectName::new("shop", "p"),
            action: Action::Deny,
            mode,
            target: PolicyTarget::Pods(Selector::default()),
            rules: vec![rule],
        };
        let applied = Applied { policy: Arc::new(policy), ports: ports.map(|port| BTreeSet::from([port])) };
        Protection { policies: vec![applied], tokens: false }.judges_requests()
    };
    assert!(judges(Mode::Enforce, rule(true, None), None));
    assert!(!judges(Mode::Audit, rule(true, None), None));
    assert!(!judges(Mode::Enforce, rule(false, None), None));
    assert!(judges(Mode::Enforce, rule(true, Some(80.into())), Some((Protocol::Tcp, 80))));
    assert!(!judges(Mode::Enforce, rule(true, Some(81.into())), Some((Protocol::Tcp, 80))));
    assert!(!judges(Mode::Enforce, rule(true, None), Some((Protocol::Udp, 80))));
    assert!(Protection { policies: vec![], tokens: true }.judges_requests());
}

#[test]
fn policies_of_routes_are_for_the_requests_that_take_them() {
    let named = |name: &str| RouteName { kind: RouteKind::Http, name: ObjectName::new("shop", name) };
    let routes = PolicyTarget::Routes(vec![named("web"), named("api")]);
    let snapshot = snapshot(vec![("shop/route", routes), ("shop/all", pods("web"))], vec![]);
    let policies = Policies::new(&snapshot);
    assert_eq!(policies.routes().collect::<BTreeSet<_>>(), BTreeSet::from([&named("api"), &named("web")]));
    let applied = |route: &RouteName| {
        let protection = policies.of_route(route);
        protection.policies.iter().map(|applied| applied.policy.name.to_string()).collect::<Vec<_>>()
    };
    assert_eq!(applied(&named("web")), ["shop/route"]);
    assert_eq!(applied(&named("other")), [""; 0]);
}

#[test]
fn a_port_is_judged_once_an_enforced_policy_asks_for_requests_and_watched_for_audited_ones() {
    let applied = |mode, l7| {
        let rules = vec![Rule { l7, ..Rule::default() }];
        let (name, target) = (ObjectName::new("shop", "p"), PolicyTarget::Pods(Selector::default()));
        let policy = AuthorizationPolicy { name, action: Action::Deny, mode, target, rules };
        Applied { policy: Arc::new(policy), ports: None }
    };
    let requests = |policies| Protection { policies, tokens: false }.requests(Protocol::Tcp, 80);
    let (judged, watched) = (|| applied(Mode::Enforce, true), || applied(Mode::Audit, true));
    assert_eq!(requests(vec![watched()]), Requests::Watched);
    assert_eq!(requests(vec![judged(), watched()]), Requests::Judged);
    assert_eq!(requests(vec![watched(), judged()]), Requests::Judged);
    let connections = Protection { policies: vec![applied(Mode::Enforce, false)], tokens: false };
    assert!(!connections.reads_requests() && connections.requests(Protocol::Tcp, 80) == Requests::Unread);
    assert!(Protection { policies: vec![watched()], tokens: false }.reads_requests());
}
