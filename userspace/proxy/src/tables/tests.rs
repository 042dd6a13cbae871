use std::{collections::BTreeMap, net::SocketAddr, sync::Arc, time::Duration};

use weft_model::{
    AppProtocol, Distribution, Endpoint, EndpointGroup, HttpLoadBalancer, LoadBalancer, Mtls, MtlsMode,
    ObjectName, Passage, PathMatch, PortRouting, Protocol, ProxyFailure, RateLimitRule, Route, RouteSet,
    Service, ServiceAccount, ServiceKind, ServicePort, Snapshot, Timeouts, TrafficSettings, Workload,
};

use super::{Compiler, Tables};
use crate::{
    clock::Moment,
    draw::Dice,
    route::fixture::{on, rule},
};

const VIP: &str = "10.96.0.1:80";

fn name() -> ObjectName {
    ObjectName::new("shop", "web")
}

fn address(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

fn group(service: &str, weight: u32, endpoints: &[&str]) -> EndpointGroup {
    let endpoint = |text: &&str| Endpoint {
        address: address(text),
        ready: true,
        serving: true,
        terminating: false,
        node: None,
        zone: None,
        hints: None,
        pod: None,
    };
    EndpointGroup {
        service: ObjectName::new("shop", service),
        weight,
        node_local: false,
        distribution: Distribution::Any,
        endpoints: endpoints.iter().map(endpoint).collect(),
    }
}

fn service(routing: Option<PortRouting>, groups: Vec<EndpointGroup>) -> Service {
    let port = ServicePort {
        name: "".into(),
        port: 80,
        protocol: Protocol::Tcp,
        app_protocol: None,
        groups,
        routing: routing.map(Arc::new),
    };
    Service {
        name: name(),
        kind: ServiceKind::ClusterIp,
        ips: vec![address(VIP).ip()],
        ports: vec![port],
        session_affinity: None,
        load_balancer: LoadBalancer::Random,
        accelerate: false,
        proxy_failure: ProxyFailure::default(),
        traffic: Arc::default(),
    }
}

fn snapshot(service: Option<Service>) -> Snapshot {
    let services = service.map(|service| (service.name.clone(), Arc::new(service)));
    Snapshot { services: Arc::new(BTreeMap::from_iter(services)), ..Snapshot::default() }
}

fn routes(path: PathMatch) -> PortRouting {
    let route = Route { name: name(), rules: vec![rule("web", vec![on(path)])] };
    PortRouting { producer: RouteSet::Http(vec![Arc::new(route)]), ..PortRouting::default() }
}

fn addresses(tables: &Tables) -> Vec<SocketAddr> {
    let upstream = tables.upstream(&name(), 80).unwrap();
    upstream.endpoints(address(VIP)).endpoints().all().iter().map(|one| one.address()).collect()
}

#[test]
fn a_port_that_nothing_leads_here_any_more_is_served_as_a_plain_one() {
    let mut compiler = Compiler::default();
    let plain = compiler
        .compile(&snapshot(Some(service(None, vec![group("web", 1, &["10.0.0.1:80"])]))), Moment::START);
    let port = plain.tables.port(address(VIP)).unwrap();
    assert_eq!((port.number, port.protocol, port.plain.len()), (80, AppProtocol::Detect, 1));
    assert_eq!(addresses(&plain.tables), [address("10.0.0.1:80")], "and routes may lead there");
    let routed = service(Some(PortRouting::default()), vec![group("web", 1, &["10.0.0.1:80"])]);
    let routed = compiler.compile(&snapshot(Some(routed)), Moment::START);
    let port = routed.tables.port(address(VIP)).unwrap();
    assert_eq!((port.number, port.protocol), (80, AppProtocol::Detect));
}

#[test]
fn a_backend_that_needs_no_proxy_itself_is_reached_as_its_policy_says() {
    let timeouts = Timeouts { connect: Some(Duration::from_secs(1)), ..Timeouts::default() };
    let mut plain = service(None, vec![group("web", 1, &["10.0.0.1:80"])]);
    plain.load_balancer = LoadBalancer::RoundRobin;
    plain.traffic = Arc::new(TrafficSettings { timeouts, ..TrafficSettings::default() });
    let version = Compiler::default().compile(&snapshot(Some(plain)), Moment::START);
    let traffic = &version.tables.upstream(&name(), 80).unwrap().traffic;
    assert_eq!(traffic.timeouts, timeouts);
    assert_eq!(traffic.load_balancer, Some(HttpLoadBalancer::RoundRobin), "an older agent's way to say it");
}

#[test]
fn whom_the_kernel_has_sealed_is_sealed_whatever_has_become_of_the_mode_by_now() {
    let far = far("far");
    let account = far.service_account.clone();
    let workloads = Arc::new(BTreeMap::from([(far.name.clone(), Arc::new(far))]));
    for (mesh, sealed) in [(MtlsMode::Permissive, Some(&account)), (MtlsMode::Disabled, None)] {
        let mtls = Arc::new(Mtls { on: true, mesh, pods: BTreeMap::new() });
        let given = Snapshot { workloads: Arc::clone(&workloads), mtls, ..Snapshot::default() };
        let tables = Compiler::default().compile(&given, Moment::START).tables;
        assert_eq!(tables.sealed(&name(), address("10.0.0.9:80")), sealed, "{mesh:?}");
        assert_eq!(tables.sealed_by_kernel(address("10.0.0.9:80")), Some(&account), "{mesh:?}");
    }
}

#[test]
fn an_address_that_is_given_on_is_the_next_pods_while_the_one_before_leaves() {
    let (leaves, comes) = (Workload { terminating: true, ..far("a") }, far("b"));
    let workloads = [leaves, comes.clone()].map(|pod| (pod.name.clone(), Arc::new(pod)));
    let given = Snapshot { workloads: Arc::new(BTreeMap::from(workloads)), ..Snapshot::default() };
    let tables = Compiler::default().compile(&given, Moment::START).tables;
    assert_eq!(tables.sealed_by_kernel(address("10.0.0.9:80")), Some(&comes.service_account));
}

/// A pod of another node.
fn far(name: &str) -> Workload {
    Workload {
        name: ObjectName::new("shop", name),
        service_account: ServiceAccount::new("shop", name),
        ips: vec!["10.0.0.9".parse().unwrap()],
        node: None,
        local: false,
        labels: Arc::default(),
        enrolled: true,
        netns: None,
        ports: Vec::new(),
        owner: name.into(),
        ready: true,
        passage: Passage::Done,
        terminating: false,
        created: 0,
    }
}

#[test]
fn what_did_not_change_is_the_same_allocation() {
    let mut compiler = Compiler::default();
    let first =
        snapshot(Some(service(Some(routes(PathMatch::Prefix("/".into()))), vec![group("web", 1, &[])])));
    let one = compiler.compile(&first, Moment::START);
    let two = compiler.compile(&first, Moment::START);
    let port = |tables: &Tables| Arc::clone(tables.port(address(VIP)).unwrap());
    assert!(Arc::ptr_eq(&port(&one.tables), &port(&two.tables)));
    // Other endpoints, the same routes.
    let moved = service(Some(routes(PathMatch::Prefix("/".into()))), vec![group("web", 1, &["10.0.0.1:80"])]);
    let three = compiler.compile(&snapshot(Some(moved)), Moment::START);
    assert!(Arc::ptr_eq(&port(&two.tables).routes, &port(&three.tables).routes));
}

#[test]
fn endpoints_that_leave_are_told_also_when_their_service_goes() {
    let mut compiler = Compiler::default();
    let both = service(None, vec![group("web", 1, &["10.0.0.1:80", "10.0.0.2:80"])]);
    assert!(compiler.compile(&snapshot(Some(both)), Moment::START).left.is_empty());
    let one = service(None, vec![group("web", 1, &["10.0.0.1:80"])]);
    let left = compiler.compile(&snapshot(Some(one)), Moment::START).left;
    assert_eq!(left.iter().map(|one| one.address()).collect::<Vec<_>>(), [address("10.0.0.2:80")]);
    let left = compiler.compile(&snapshot(None), Moment::START).left;
    assert_eq!(left.iter().map(|one| one.address()).collect::<Vec<_>>(), [address("10.0.0.1:80")]);
    assert!(left[0].draining());
}

#[test]
fn routes_that_do_not_compile_leave_those_from_before_in_force() {
    let mut compiler = Compiler::default();
    let good = service(Some(routes(PathMatch::Prefix("/".into()))), vec![group("web", 1, &[])]);
    let before = compiler.compile(&snapshot(Some(good)), Moment::START);
    let broken = service(Some(routes(PathMatch::Regex("(".into()))), vec![group("web", 1, &["10.0.0.9:80"])]);
    let after = compiler.compile(&snapshot(Some(broken)), Moment::START);
    assert_eq!(after.errors.len(), 1);
    let port = |tables: &Tables| Arc::clone(tables.port(address(VIP)).unwrap());
    assert!(Arc::ptr_eq(&port(&before.tables), &port(&after.tables)));
    assert_eq!(addresses(&after.tables), [address("10.0.0.9:80")], "its endpoints are the new ones");
}

#[test]
fn plain_balancing_goes_by_the_weights_of_the_groups() {
    let groups = vec![group("web", 0, &["10.0.0.1:80"]), group("a", 3, &[]), group("b", 1, &[])];
    let version = Compiler::default()
        .compile(&snapshot(Some(service(Some(PortRouting::default()), groups))), Moment::START);
    let port = version.tables.port(address(VIP)).unwrap();
    let mut dice = Dice::seeded(1);
    let drawn = (0..1000).filter(|_| &*port.plain(&mut dice).unwrap().service.name == "a").count();
    assert!(drawn.abs_diff(750) < 50, "{drawn}");
}

#[test]
fn buckets_outlive_an_update_that_does_not_concern_them() {
    let limit = |requests| {
        let per = Duration::from_secs(1);
        let rules = vec![RateLimitRule { requests, per, burst: 1, keys: Vec::new() }];
        let traffic = Arc::new(TrafficSettings { rate_limit: Some(rules), ..TrafficSettings::default() });
        service(Some(PortRouting { traffic, ..PortRouting::default() }), vec![group("web", 1, &[])])
    };
    let mut compiler = Compiler::default();
    let mut of = |service| {
        let version = compiler.compile(&snapshot(Some(service)), Moment::START);
        Arc::clone(version.tables.port(address(VIP)).unwrap().limit(None).unwrap())
    };
    let (one, same, other) = (of(limit(1)), of(limit(1)), of(limit(2)));
    assert!(Arc::ptr_eq(&one, &same) && !Arc::ptr_eq(&one, &other));
}
