//! A Service's address leads to its endpoints, and nothing else is touched.

use std::io::ErrorKind;
use std::net::TcpStream;
use std::time::{Duration, Instant};

use weft_tests::{Node, Pod, SocketRequest, World, manifests};

use crate::backends::{Backend, answers, at, counter, names};

#[test]
fn a_client_reaches_the_backend_of_a_service_by_its_cluster_ip() {
    let Some(world) = World::new() else { return };
    let node = world.node("a");
    let web = node.pod("shop/web").start();
    let api = Backend::start(&node, "api", "api");
    node.apply("api.yaml", &service("api", "clusterIP: 10.96.0.1", "{port: 80, targetPort: 8080}"));
    let _agent = node.agent();
    assert_eq!(web.ask(at("10.96.0.1:80")).unwrap(), "api");
    assert_eq!(api.pod.ask(at("10.96.0.1:80")).unwrap(), "api");
}

#[test]
fn the_peer_is_the_address_that_was_dialled_in_the_family_that_it_was_dialled_in() {
    let Some(world) = World::new() else { return };
    let node = world.node("a");
    let web = node.pod("shop/web").start();
    let _api = Backend::start(&node, "api", "api");
    let ips = "clusterIP: 10.96.0.1, clusterIPs: [10.96.0.1, \"fd96::1\"], ipFamilies: [IPv4, IPv6], ipFamilyPolicy: RequireDualStack";
    node.apply("api.yaml", &service("api", ips, "{port: 80, targetPort: 8080}"));
    let _agent = node.agent();
    for dialled in ["10.96.0.1:80", "[fd96::1]:80", "[::ffff:10.96.0.1]:80"] {
        let stream = web.tcp_connect(at(dialled)).unwrap();
        assert_eq!(stream.peer_addr().unwrap(), at(dialled));
        assert_eq!(web.ask(at(dialled)).unwrap(), "api", "{dialled}");
    }
    let local = web.tcp_connect(at("10.96.0.1:80")).unwrap().local_addr().unwrap();
    assert_eq!(local.ip(), web.ip());
}

#[test]
fn a_dual_stack_service_takes_each_family_to_the_addresses_of_that_family() {
    let Some(world) = World::new() else { return };
    let node = world.node("a");
    let web = node.pod("shop/web").start();
    let (four, six) = (Backend::start(&node, "none", "four"), Backend::start(&node, "none", "six"));
    let ips = "clusterIP: 10.96.0.1, clusterIPs: [10.96.0.1, \"fd96::1\"], ipFamilies: [IPv4, IPv6], ipFamilyPolicy: RequireDualStack";
    let ports = "[{port: 8080}]";
    let slices = [
        ("v4", "IPv4", format!("[{{addresses: [{}]}}]", four.pod.ip())),
        ("v6", "IPv6", format!("[{{addresses: [\"{}\"]}}]", six.pod.ip6())),
    ];
    let mut objects = vec![service("api", ips, "{port: 80, targetPort: 8080}")];
    objects.extend(slices.map(|(suffix, family, endpoints)| {
        manifests::endpoint_slice("shop/api", suffix, family, ports, &endpoints)
    }));
    node.apply("api.yaml", &manifests::documents(&objects));
    let _agent = node.agent();
    assert_eq!(answers(&web, at("10.96.0.1:80"), 10), names(["four"]));
    assert_eq!(answers(&web, at("[fd96::1]:80"), 10), names(["six"]));
    assert_eq!(answers(&web, at("[::ffff:10.96.0.1]:80"), 10), names(["four"]));
}

#[test]
fn each_port_leads_to_its_target_port_also_by_a_name_that_means_another_number_in_each_pod() {
    let Some(world) = World::new() else { return };
    let node = world.node("a");
    let web = node.pod("shop/web").start();
    let one = node.pod("shop/one").label("app", "api").port("http", 8080).port("admin", 9901).start();
    let two = node.pod("shop/two").label("app", "api").port("http", 8081).start();
    let _servers = [
        one.serve_name(8080, "one http"),
        one.serve_name(9901, "one admin"),
        one.serve_name(7000, "one same"),
        two.serve_name(8081, "two http"),
        two.serve_name(8080, "two, where one has http"),
        two.serve_name(7000, "two same"),
    ];
    let ports = "{name: http, port: 80, targetPort: http}, {name: admin, port: 81, targetPort: admin}, {name: same, port: 7000}";
    node.apply("api.yaml", &service("api", "clusterIP: 10.96.0.1", ports));
    let _agent = node.agent();
    assert_eq!(answers(&web, at("10.96.0.1:80"), 40), names(["one http", "two http"]));
    assert_eq!(answers(&web, at("10.96.0.1:81"), 10), names(["one admin"]));
    assert_eq!(answers(&web, at("10.96.0.1:7000"), 40), names(["one same", "two same"]));
}

#[test]
fn headless_services_aliases_and_pod_addresses_are_left_alone() {
    let Some(world) = World::new() else { return };
    let node = world.node("a");
    let web = node.pod("shop/web").start();
    let api = Backend::start(&node, "api", "api");
    let objects = [
        service("balanced", "clusterIP: 10.96.0.1", "{port: 8080}"),
        service("headless", "clusterIP: None", "{port: 8080}"),
        manifests::service("shop/alias", "{type: ExternalName, externalName: db.example.com}"),
    ];
    node.apply("api.yaml", &manifests::documents(&objects));
    let _agent = node.agent();
    for dialled in [api.pod.addr(8080), api.pod.addr6(8080)] {
        let stream = web.tcp_connect(dialled).unwrap();
        assert_eq!(stream.peer_addr().unwrap(), dialled);
        assert_eq!(web.ask(dialled).unwrap(), "api");
    }
    assert_eq!(counter(&node, "translated"), 0);
    let frontends = node.weft_json(&["bpf", "services"]).to_string();
    assert!(frontends.contains("shop/balanced"), "{frontends}");
    assert!(!frontends.contains("headless") && !frontends.contains("alias"), "{frontends}");
}

#[test]
fn a_service_without_endpoints_refuses_at_once() {
    let Some(world) = World::new() else { return };
    let node = world.node("a");
    let web = node.pod("shop/web").start();
    let ips = "clusterIP: 10.96.0.1, clusterIPs: [10.96.0.1, \"fd96::1\"], ipFamilies: [IPv4, IPv6], ipFamilyPolicy: RequireDualStack";
    let ports = "{name: tcp, port: 80}, {name: udp, port: 53, protocol: UDP}";
    node.apply("api.yaml", &service("nobody", ips, ports));
    let _agent = node.agent();
    for to in ["10.96.0.1:80", "[fd96::1]:80", "[::ffff:10.96.0.1]:80"].map(at) {
        for request in [SocketRequest::tcp(to), SocketRequest::tcp(to).non_blocking()] {
            let start = Instant::now();
            assert_eq!(web.open(&request).unwrap_err().kind(), ErrorKind::ConnectionRefused, "{to}");
            assert!(start.elapsed() < AT_ONCE, "{to}: {:?}", start.elapsed());
        }
    }
    for to in ["10.96.0.1:53", "[fd96::1]:53", "[::ffff:10.96.0.1]:53"].map(at) {
        assert_eq!(web.udp_connect(to).unwrap_err().kind(), ErrorKind::ConnectionRefused, "{to}");
        assert_eq!(web.ask_udp(to).unwrap_err().kind(), ErrorKind::ConnectionRefused, "{to}");
    }
    assert_eq!(counter(&node, "denied_connect"), 12);
}

#[test]
fn a_pod_reaches_itself_by_its_own_service_from_its_own_address() {
    let Some(world) = World::new() else { return };
    let node = world.node("a");
    let api = node.pod("shop/api").label("app", "api").start();
    let listener = api.tcp_listen(at("0.0.0.0:8080")).unwrap();
    node.apply("api.yaml", &service("api", "clusterIP: 10.96.0.1", "{port: 80, targetPort: 8080}"));
    let _agent = node.agent();
    let client = api.tcp_connect(at("10.96.0.1:80")).unwrap();
    let (server, from) = listener.accept().unwrap();
    assert_eq!(from, client.local_addr().unwrap());
    assert_eq!(from.ip(), api.ip());
    assert_eq!(server.local_addr().unwrap(), api.addr(8080));
    assert_eq!(client.peer_addr().unwrap(), at("10.96.0.1:80"));
}

#[test]
fn only_enrolled_pods_are_balanced_unless_the_agent_is_told_to_balance_the_node() {
    let Some(world) = World::new() else { return };
    let (default, whole) = (world.node("default"), world.node("whole"));
    let _api = Backend::start(&default, "api", "api");
    world.apply("api.yaml", &service("api", "clusterIP: 10.96.0.1", "{port: 80, targetPort: 8080}"));
    // What a connection finds that nobody translates: the address is there, behind the default route.
    let [process, other] = [&default, &whole].map(|node| node.host_process("app"));
    let added = process.exec(&["ip", "addr", "add", "10.96.0.1/32", "dev", "br0"]);
    assert!(added.status.success());
    let _outside = process.serve_name(80, "outside");
    let _default = default.agent();
    let _whole = whole.spawn_agent(&["--service-scope", "node"]);
    whole.wait();
    let on = |node: &Node, enrolled| {
        let name = if enrolled { "shop/in" } else { "shop/out" };
        node.pod(&format!("{name}-{}", node.name().rsplit('-').next().unwrap())).enrolled(enrolled).start()
    };
    let pods = [&default, &whole].map(|node| [on(node, true), on(node, false)]);
    default.wait();
    whole.wait();
    let ask = |pod: &Pod| pod.ask(at("10.96.0.1:80")).unwrap();
    assert_eq!(pods.each_ref().map(|pods| pods.each_ref().map(ask)), [["api", "outside"], ["api", "api"]]);
    assert_eq!([&process, &other].map(ask), ["outside", "api"]);
    assert_eq!(peer(&other.tcp_connect(at("10.96.0.1:80")).unwrap()), "10.96.0.1:80");
}

fn service(name: &str, ips: &str, ports: &str) -> String {
    let spec = format!("{{{ips}, selector: {{app: {name}}}, ports: [{ports}]}}");
    manifests::service(&format!("shop/{name}"), &spec.replace("app: balanced", "app: api"))
}

fn peer(stream: &TcpStream) -> String {
    stream.peer_addr().unwrap().to_string()
}

/// Far from any time-out of the network, and more than a loaded machine needs.
const AT_ONCE: Duration = Duration::from_millis(200);
