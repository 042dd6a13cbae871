use std::{collections::BTreeMap, net::SocketAddr, time::Duration};

use weft_model::{Distribution, Endpoint, EndpointGroup, ObjectName};

use super::*;

fn endpoint(address: &str) -> Endpoint {
    Endpoint {
        address: address.parse::<SocketAddr>().unwrap(),
        ready: true,
        serving: true,
        terminating: false,
        node: None,
        zone: None,
        hints: None,
        pod: None,
    }
}

fn group(weight: u32, addresses: &[&str]) -> EndpointGroup {
    EndpointGroup {
        service: ObjectName::new("shop", "web"),
        weight,
        node_local: false,
        distribution: Distribution::Any,
        endpoints: addresses.iter().map(|a| endpoint(a)).collect(),
    }
}

fn service(ips: &[&str], groups: Vec<EndpointGroup>) -> Service {
    Service {
        name: ObjectName::new("shop", "web"),
        kind: ServiceKind::ClusterIp,
        ips: ips.iter().map(|ip| ip.parse().unwrap()).collect(),
        ports: vec![ServicePort {
            name: "http".into(),
            port: 80,
            protocol: Protocol::Tcp,
            app_protocol: None,
            routing: None,
            groups,
        }],
        session_affinity: None,
        load_balancer: LoadBalancer::Random,
        accelerate: false,
        proxy_failure: ProxyFailure::default(),
        traffic: std::sync::Arc::default(),
    }
}

#[test]
fn a_slot_says_where_its_backend_is() {
    let groups = vec![group(1, &["10.0.0.1:8080", "10.0.0.2:8081"]), group(3, &[])];
    let [frontend] = &compile(&service(&["10.96.0.1"], groups), &Locality::default())[..] else { panic!() };
    for slot in &frontend.slots {
        assert_eq!(slot.service, frontend.id);
        let backend = frontend.backends.iter().find(|(id, _)| *id == slot.backend);
        let at = backend.map_or((Addr::ANY, BePort::new(0)), |(_, backend)| (backend.addr, backend.port));
        assert_eq!((slot.addr, slot.port), at);
    }
    assert_eq!(frontend.slots.iter().filter(|slot| slot.backend == 0).count(), 1);
}

#[test]
fn each_family_has_a_frontend_with_backends_of_its_own() {
    let web = service(&["10.96.0.1", "fd00::1"], vec![group(1, &["10.0.0.1:8080", "[fd77::1]:8080"])]);
    let frontends = compile(&web, &Locality::default());
    assert_eq!(frontends.len(), 2);
    assert!(frontends.iter().all(|f| f.slots.len() == 1 && f.backends.len() == 1));
    assert!(frontends[0].backends[0].1.addr.is_v4() && !frontends[1].backends[0].1.addr.is_v4());
    assert_ne!(frontends[0].id, frontends[1].id);
}

#[test]
fn a_port_with_routing_is_the_proxys_and_the_service_says_what_its_failure_means() {
    let mut web = service(&["10.96.0.1"], vec![group(1, &["10.0.0.1:8080"])]);
    let flags = |web: &Service| compile(web, &Locality::default())[0].flags;
    web.proxy_failure = ProxyFailure::Open;
    assert_eq!(flags(&web), 0, "without a proxy in its way there is no failure of one");
    web.ports[0].routing = Some(std::sync::Arc::default());
    assert_eq!(flags(&web), service_flags::PROXY | service_flags::PROXY_OPEN);
    web.proxy_failure = ProxyFailure::Closed;
    assert_eq!(flags(&web), service_flags::PROXY);
    web.ports[0].protocol = Protocol::Udp;
    assert_eq!(flags(&web), 0);
}

#[test]
fn headless_services_and_aliases_are_left_alone() {
    for kind in [ServiceKind::Headless, ServiceKind::ExternalName] {
        let web = Service { kind, ..service(&[], vec![group(1, &["10.0.0.1:8080"])]) };
        assert!(compile(&web, &Locality::default()).is_empty());
    }
}

#[test]
fn a_share_without_endpoints_is_refused_and_not_given_to_the_others() {
    let web = service(&["10.96.0.1"], vec![group(3, &["10.0.0.1:80"]), group(1, &[])]);
    let frontend = &compile(&web, &Locality::default())[0];
    assert!(frontend.slots.iter().any(|slot| slot.backend == 0), "{:?}", frontend.slots);
    assert_eq!(frontend.backends.len(), 1);
}

#[test]
fn a_service_without_any_endpoint_has_no_slots() {
    let empty = service(&["10.96.0.1"], vec![group(1, &[])]);
    assert!(compile(&empty, &Locality::default())[0].slots.is_empty());
    let both_empty = service(&["10.96.0.1"], vec![group(1, &[]), group(2, &[])]);
    assert!(compile(&both_empty, &Locality::default())[0].slots.is_empty());
}

#[test]
fn an_endpoint_in_two_backend_refs_is_one_backend_with_both_shares() {
    let web = service(&["10.96.0.1"], vec![group(1, &["10.0.0.1:80"]), group(1, &["10.0.0.1:80"])]);
    let frontend = &compile(&web, &Locality::default())[0];
    assert_eq!((frontend.slots.len(), frontend.backends.len()), (2, 1));
}

#[test]
fn where_open_connections_are_compared_each_backend_has_its_weight() {
    let two = &["10.0.0.1:80", "10.0.0.2:80"];
    let mut web = service(&["10.96.0.1"], vec![group(3, two), group(1, &["10.0.0.3:80", "10.0.0.1:80"])]);
    let weights = |web: &Service| {
        let backends = compile(web, &Locality::default()).remove(0).backends;
        let weighed = backends.iter().map(|(_, backend)| (backend.addr.to_ip().to_string(), backend.weight));
        weighed.collect::<BTreeMap<_, _>>()
    };
    assert!(weights(&web).values().all(|weight| *weight == 0), "nobody asks");
    web.load_balancer = LoadBalancer::LeastRequest;
    // Shares of 1.5 + 0.5, 1.5 and 0.5.
    let expected = [("10.0.0.1", 65_536), ("10.0.0.2", 49_152), ("10.0.0.3", 16_384)];
    assert_eq!(weights(&web), expected.map(|(ip, weight)| (ip.to_owned(), weight)).into());
}

#[test]
fn source_ip_hashing_carries_a_table_of_the_size_asked_for() {
    let mut web = service(&["10.96.0.1"], vec![group(1, &["10.0.0.1:80", "10.0.0.2:80"])]);
    web.load_balancer = LoadBalancer::SourceIpHash { table_size: 1009 };
    web.session_affinity = Some(Duration::from_secs(5));
    let frontend = &compile(&web, &Locality::default())[0];
    assert_eq!((frontend.maglev_size, frontend.maglev.len(), frontend.affinity_s), (1009, 4, 5));
}
