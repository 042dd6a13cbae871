use std::sync::Arc;

use weft_model::LoadBalancer;

use super::{World, addresses, service, slice};

fn backend(name: &str, ip: u8) -> [String; 2] {
    let spec = format!(
        "clusterIP: 10.96.0.{ip}, ports: [{{name: tcp, port: 80}}, {{name: dns, port: 53, protocol: UDP}}, {{name: admin, port: 81}}]"
    );
    [
        service(name, &spec),
        slice(
            &format!("{name}-x"),
            name,
            "{name: tcp, port: 8080}, {name: dns, port: 53, protocol: UDP}, {name: admin, port: 8081}",
            &format!("{{addresses: [10.1.0.{ip}]}}"),
        ),
    ]
}

fn route(name: &str, parent: &str, backends: &str) -> String {
    format!(
        "{{apiVersion: gateway.networking.k8s.io/v1, kind: TCPRoute, metadata: {{name: {name}, namespace: shop}}, \
         spec: {{parentRefs: [{{group: '', kind: Service, {parent}}}], rules: [{{backendRefs: [{backends}]}}]}}}}"
    )
}

fn world() -> World {
    let [a, b, c] = [backend("front", 1), backend("v1", 2), backend("v2", 3)];
    World::new(&[&a[0], &a[1], &b[0], &b[1], &c[0], &c[1]])
}

/// The backend and weight of each group of a port that gets connections, and how many endpoints it has.
fn groups(world: &mut World, port: usize) -> Vec<(String, u32, usize)> {
    let front = world.service("front");
    let group = |g: &weft_model::EndpointGroup| (g.service.to_string(), g.weight, g.endpoints.len());
    front.ports[port].groups.iter().filter(|group| group.weight > 0).map(group).collect()
}

#[test]
fn a_route_makes_a_group_of_each_backend() {
    let mut world = world();
    assert_eq!(groups(&mut world, 0), [("shop/front".into(), 1, 1)]);
    world.put(
        "route.yaml",
        &route(
            "r",
            "name: front",
            "{name: v1, port: 80, weight: 9}, {name: v2, port: 81}, {name: front, port: 80, weight: 0}",
        ),
    );
    let split = [("shop/v1".to_owned(), 9, 1), ("shop/v2".to_owned(), 1, 1)];
    assert_eq!(groups(&mut world, 0), split, "a weight of 0 is no group");
    assert_eq!(groups(&mut world, 2), split, "without a port it takes every TCP port");
    assert_eq!(groups(&mut world, 1), [("shop/front".into(), 1, 1)], "and no UDP port");
    let front = world.service("front");
    assert_eq!(
        front.ports[0].groups[1].endpoints[0].address.to_string(),
        "10.1.0.3:8081",
        "the backend's port is its own"
    );
    world.remove("route.yaml");
    assert_eq!(groups(&mut world, 0), [("shop/front".into(), 1, 1)]);
}

#[test]
fn a_route_takes_the_port_that_its_parent_ref_names() {
    for (parent, taken) in [
        ("name: front, port: 80", [true, false]),
        ("name: front, sectionName: admin", [false, true]),
        ("name: front, port: 80, sectionName: tcp", [true, false]),
        ("name: front, port: 80, sectionName: admin", [false, false]),
    ] {
        let mut world = world();
        world.put("route.yaml", &route("r", parent, "{name: v1, port: 80}"));
        let is_v1 = |world: &mut World, port| groups(world, port)[0].0 == "shop/v1";
        assert_eq!([is_v1(&mut world, 0), is_v1(&mut world, 2)], taken, "{parent}");
        assert_eq!(world.notices().len(), usize::from(taken == [false, false]), "{parent}");
    }
}

#[test]
fn a_backend_that_is_not_there_keeps_its_share_without_endpoints() {
    let mut world = world();
    world.put(
        "route.yaml",
        &route(
            "r",
            "name: front, port: 80",
            "{name: v1, port: 80}, {name: v3, port: 80, weight: 3}, {name: v2, port: 99}",
        ),
    );
    assert_eq!(
        groups(&mut world, 0),
        [("shop/v1".into(), 1, 1), ("shop/v3".into(), 3, 0), ("shop/v2".into(), 1, 0)]
    );
    assert_eq!(
        world.notices(),
        [
            "TCPRoute shop/r: there is no Service shop/v3: its share of connections is refused",
            "TCPRoute shop/r: Service shop/v2 has no TCP port 99: its share of connections is refused",
        ]
    );
    let [v3, slice] = backend("v3", 4);
    world.put("v3.yaml", &v3);
    world.put("v3-x.yaml", &slice);
    assert_eq!(groups(&mut world, 0)[1], ("shop/v3".into(), 3, 1), "it takes effect once it is there");
    assert_eq!(world.notices().len(), 1);
}

#[test]
fn the_pods_behind_a_routes_parent_stay_behind_it_without_connections() {
    let mut world = world();
    world.put("route.yaml", &route("r", "name: front, port: 80", "{name: v1, port: 80}"));
    let front = world.service("front");
    let own = front.ports[0].groups.last().unwrap();
    assert_eq!((own.weight, own.endpoints.len(), own.service.to_string()), (0, 1, "shop/front".into()));
}

#[test]
fn a_route_that_weighs_nothing_refuses_everything() {
    let mut world = world();
    world.put("route.yaml", &route("r", "name: front", "{name: v1, port: 80, weight: 0}"));
    assert!(groups(&mut world, 0).is_empty());
}

#[test]
fn a_backends_change_reaches_the_parent_and_nobody_else() {
    let mut world = world();
    world.put("route.yaml", &route("r", "name: front, port: 80", "{name: v1, port: 80}"));
    let before = (world.service("front"), world.service("v2"));
    world.put("3.yaml", &slice("v1-x", "v1", "{name: tcp, port: 8080}", "{addresses: [10.1.0.77]}"));
    assert_eq!(addresses(&world.service("front"), 0), ["10.1.0.77:8080"]);
    assert!(!Arc::ptr_eq(&before.0, &world.service("front")) && Arc::ptr_eq(&before.1, &world.service("v2")));
}

#[test]
fn a_backend_may_be_in_another_namespace() {
    let mut world = world();
    let [service, slice] = backend("far", 9).map(|text| text.replace("namespace: shop", "namespace: data"));
    world.put("far.yaml", &service);
    world.put("far-x.yaml", &slice);
    world.put("route.yaml", &route("r", "name: front, port: 80", "{name: far, namespace: data, port: 80}"));
    assert_eq!(groups(&mut world, 0), [("data/far".into(), 1, 1)]);
}

#[test]
fn of_two_routes_the_older_wins_then_the_first_by_name() {
    let dated = |name: &str, to: &str, date: &str| {
        let text = route(name, "name: front, port: 80", &format!("{{name: {to}, port: 80}}"));
        text.replace("namespace: shop}", &format!("namespace: shop, creationTimestamp: {date}}}"))
    };
    let mut world = world();
    world.put("1st.yaml", &dated("a", "v1", "~"));
    world.put("2nd.yaml", &dated("b", "v2", "~"));
    assert_eq!(groups(&mut world, 0)[0].0, "shop/v1");
    assert_eq!(
        world.notices(),
        ["TCPRoute shop/b: Conflicted: TCPRoute shop/a holds for Service shop/front already"]
    );
    world.put("2nd.yaml", &dated("b", "v2", "'2026-11-21T10:00:00Z'"));
    assert_eq!(groups(&mut world, 0)[0].0, "shop/v2");
    world.remove("2nd.yaml");
    assert_eq!(groups(&mut world, 0)[0].0, "shop/v1");
    assert!(world.notices().is_empty());
}

#[test]
fn a_traffic_policy_sets_the_algorithm() {
    let policy = |name: &str, balancer: &str| {
        format!(
            "{{apiVersion: weft.dev/v1alpha1, kind: TrafficPolicy, metadata: {{name: {name}, namespace: shop}}, \
             spec: {{targetRefs: [{{kind: Service, name: front}}], loadBalancer: {{{balancer}}}}}}}"
        )
    };
    let mut world = world();
    for (balancer, expected) in [
        ("type: RoundRobin", LoadBalancer::RoundRobin),
        ("type: LeastRequest", LoadBalancer::LeastRequest),
        ("type: Random", LoadBalancer::Random),
        ("type: PeakEWMA", LoadBalancer::Random),
        (
            "type: ConsistentHash, consistentHash: {type: SourceIP}",
            LoadBalancer::SourceIpHash { table_size: 65_537 },
        ),
        (
            "type: ConsistentHash, consistentHash: {type: SourceIP, tableSize: 251}",
            LoadBalancer::SourceIpHash { table_size: 251 },
        ),
        ("type: ConsistentHash, consistentHash: {type: Header, header: {name: x}}", LoadBalancer::Random),
    ] {
        world.put("policy.yaml", &policy("b", balancer));
        assert_eq!(world.service("front").load_balancer, expected, "{balancer}");
    }
    world.put("policy.yaml", &policy("b", "type: RoundRobin"));
    world.put("other.yaml", &policy("a", "type: LeastRequest"));
    assert_eq!(world.service("front").load_balancer, LoadBalancer::LeastRequest, "the first by name");
    let conflict =
        "TrafficPolicy shop/b: Conflicted: TrafficPolicy shop/a holds for Service shop/front already";
    assert_eq!(world.notices(), [conflict]);
    world.remove("other.yaml");
    assert_eq!(world.service("front").load_balancer, LoadBalancer::RoundRobin);
}
