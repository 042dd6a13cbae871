//! What the proxy is given of the Snapshots. What the keeper makes of it is tested there.

use weft_model::{
    Backend, BackendTarget, LoadBalancer, ObjectName, PortRouting, Protocol, ProxyFailure, RouteSet, Service,
    ServiceKind, ServicePort, TlsRoute,
};

use super::*;

#[test]
fn nothing_is_given_until_a_service_needs_it_and_every_change_from_then_on() {
    let mut part = Part::new(false);
    assert_eq!(given(&mut part, 1, &[("web", false)]), None);
    assert_eq!(given(&mut part, 2, &[("web", true)]), Some((2, vec!["web".to_owned()])));
    let both = Some((3, vec!["api".to_owned(), "web".to_owned()]));
    assert_eq!(given(&mut part, 3, &[("api", true), ("web", true)]), both);
    let kept = Some((4, vec!["web".to_owned()]));
    assert_eq!(given(&mut part, 4, &[("web", false)]), kept, "its connections go on");
    assert_eq!(given(&mut part, 5, &[]), Some((5, vec![])), "until it is gone");
    assert_eq!(given(&mut part, 6, &[("web", false)]), None, "another one of that name was never routed");
}

#[test]
fn where_a_route_has_led_is_known_when_the_route_is_gone() {
    let target = BackendTarget::Service { name: ObjectName::new("shop", "v1"), port: 80 };
    let backends = vec![Backend { target, weight: 1, filters: Vec::new() }];
    let route = Arc::new(TlsRoute { name: ObjectName::new("shop", "web"), hostnames: Vec::new(), backends });
    let routing = PortRouting { producer: RouteSet::Tls(vec![route]), ..PortRouting::default() };
    let (name, mut web) = service("web", false);
    Arc::make_mut(&mut web).ports[0].routing = Some(Arc::new(routing));
    let mut part = Part::new(false);
    let services = Arc::new([(name, web), service("v1", false)].into());
    part.of(&Snapshot { version: 1, services, ..Snapshot::default() }).unwrap().unwrap();
    let both = Some((2, vec!["v1".to_owned(), "web".to_owned()]));
    assert_eq!(given(&mut part, 2, &[("v1", false), ("web", false)]), both, "requests are under way to v1");
}

#[test]
fn a_change_that_does_not_concern_the_proxy_is_not_given() {
    let mut part = Part::new(false);
    assert!(given(&mut part, 1, &[("web", true)]).is_some());
    assert_eq!(given(&mut part, 2, &[("db", false), ("web", true)]), None);
    assert!(given(&mut part, 3, &[("api", true), ("web", true)]).is_some());
}

#[test]
fn a_proxy_that_an_earlier_agent_left_hears_even_that_nothing_is_routed() {
    let mut part = Part::new(true);
    assert_eq!(given(&mut part, 0, &[]), None, "before the manifests are read nothing is known");
    assert_eq!(given(&mut part, 1, &[("web", false)]), Some((1, vec![])));
}

/// The version and the Services that the proxy is given of a Snapshot with these, of which some are routed.
fn given(part: &mut Part, version: u64, services: &[(&str, bool)]) -> Option<(u64, Vec<String>)> {
    let services = services.iter().map(|&(name, routed)| service(name, routed)).collect();
    let snapshot = Snapshot { version, services: Arc::new(services), ..Snapshot::default() };
    let configuration = part.of(&snapshot).unwrap()?;
    let read: Snapshot = serde_json::from_slice(&configuration.bytes).unwrap();
    assert_eq!(read.version, configuration.version);
    Some((read.version, read.services.keys().map(|name| name.name.to_string()).collect()))
}

pub(super) fn service(name: &str, routed: bool) -> (ObjectName, Arc<Service>) {
    let port = ServicePort {
        name: "".into(),
        port: 80,
        protocol: Protocol::Tcp,
        app_protocol: None,
        groups: Vec::new(),
        routing: routed.then(|| Arc::new(PortRouting::default())),
    };
    let service = Service {
        name: ObjectName::new("shop", name),
        kind: ServiceKind::ClusterIp,
        ips: vec![[10, 96, 0, 1].into()],
        ports: vec![port],
        session_affinity: None,
        load_balancer: LoadBalancer::Random,
        accelerate: false,
        proxy_failure: ProxyFailure::default(),
        traffic: Arc::default(),
    };
    (service.name.clone(), Arc::new(service))
}

#[test]
fn who_takes_nothing_is_not_waited_for_the_longer_because_there_is_more_and_who_takes_some_is() {
    let began = Instant::now();
    let at = |seconds| began + Duration::from_secs(seconds);
    let owed = (1..=4).fold(None, |owed, version| Some(Owed::and(owed, version, at(version))));
    let owed = owed.unwrap();
    assert_eq!(owed, Owed { first: 1, since: at(1), last: 4 });
    assert_eq!(owed.after(None, at(5)), Some(owed));
    assert_eq!(owed.after(Some(0), at(5)), Some(owed));
    assert_eq!(owed.after(Some(2), at(5)), Some(Owed { first: 3, since: at(5), last: 4 }));
    assert_eq!(owed.after(Some(4), at(5)), None);
}
