//! Where an endpoint runs, seen from the client's node.

use std::io::ErrorKind;
use std::net::SocketAddr;

use weft_tests::{Agent, Node, Pod, World, manifests};

use crate::backends::{Backend, answers, names};

#[test]
fn an_internal_traffic_policy_of_local_stays_on_the_node_or_is_refused() {
    let Some(world) = World::new() else { return };
    let Mesh { nodes, clients, mut api, _agents } = Mesh::open(&world, "internalTrafficPolicy: Local");
    assert_eq!(answers(&clients[0], VIP, 20), names(["api-a"]));
    assert_eq!(answers(&clients[1], VIP, 20), names(["api-c"]));
    api.remove(2).pod.forget();
    nodes[2].wait();
    assert_eq!(clients[1].tcp_connect(VIP).unwrap_err().kind(), ErrorKind::ConnectionRefused);
    assert_eq!(answers(&clients[0], VIP, 20), names(["api-a"]));
}

#[test]
fn prefer_same_zone_leaves_the_zone_only_when_nothing_in_it_is_ready() {
    let Some(world) = World::new() else { return };
    let Mesh { nodes, clients, api, _agents } = Mesh::open(&world, "trafficDistribution: PreferSameZone");
    assert_eq!(answers(&clients[0], VIP, 40), names(["api-a", "api-b"]));
    assert_eq!(answers(&clients[1], VIP, 20), names(["api-c"]));
    api[2].pod.update(|pod| pod.ready = false);
    nodes[2].wait();
    assert_eq!(answers(&clients[1], VIP, 40), names(["api-a", "api-b"]));
    api[2].pod.update(|pod| pod.ready = true);
    nodes[2].wait();
    assert_eq!(answers(&clients[1], VIP, 20), names(["api-c"]));
    // A node that moves takes its pods and its clients with it.
    nodes[2].zone("east");
    nodes.iter().for_each(Node::wait);
    assert_eq!(answers(&clients[0], VIP, 60), names(["api-a", "api-b", "api-c"]));
    assert_eq!(answers(&clients[1], VIP, 60), names(["api-a", "api-b", "api-c"]));
}

#[test]
fn prefer_same_node_goes_to_the_zone_and_then_anywhere() {
    let Some(world) = World::new() else { return };
    let Mesh { nodes, clients, api, _agents } = Mesh::open(&world, "trafficDistribution: PreferSameNode");
    assert_eq!(answers(&clients[0], VIP, 20), names(["api-a"]));
    assert_eq!(answers(&clients[1], VIP, 20), names(["api-c"]));
    api[0].pod.update(|pod| pod.ready = false);
    nodes[0].wait();
    assert_eq!(answers(&clients[0], VIP, 20), names(["api-b"]));
    api[1].pod.update(|pod| pod.ready = false);
    nodes[0].wait();
    assert_eq!(answers(&clients[0], VIP, 20), names(["api-c"]));
}

/// Nodes a and b in zone east, c in zone west, each with a pod of `api`; clients on a and on c.
struct Mesh {
    nodes: [Node; 3],
    clients: [Pod; 2],
    api: Vec<Backend>,
    _agents: [Agent; 3],
}

impl Mesh {
    fn open(world: &World, spec: &str) -> Self {
        let nodes = [("a", "east"), ("b", "east"), ("c", "west")].map(|(name, zone)| {
            let node = world.node(name);
            node.zone(zone);
            node
        });
        let api = nodes.iter().zip(["api-a", "api-b", "api-c"]);
        let api = api.map(|(node, name)| Backend::start(node, "api", name)).collect();
        let clients = [nodes[0].pod("shop/web-a").start(), nodes[2].pod("shop/web-c").start()];
        let spec =
            format!("{{clusterIP: 10.96.0.1, selector: {{app: api}}, ports: [{{port: 8080}}], {spec}}}");
        world.apply("api.yaml", &manifests::service("shop/api", &spec));
        let agents = nodes.each_ref().map(Node::agent);
        Self { nodes, clients, api, _agents: agents }
    }
}

const VIP: SocketAddr =
    SocketAddr::V4(std::net::SocketAddrV4::new(std::net::Ipv4Addr::new(10, 96, 0, 1), 8080));
