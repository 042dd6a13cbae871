//! Which endpoints of a Service take connections.

use std::net::SocketAddr;

use weft_tests::{Node, World, manifests};

use crate::backends::{Backend, answers, at, names};

#[test]
fn ready_pods_take_connections_and_others_only_where_the_service_publishes_them() {
    let Some(world) = World::new() else { return };
    let node = world.node("a");
    let web = node.pod("shop/web").start();
    let api = Backend::several(&node, "api", 3);
    api[2].pod.update(|pod| pod.ready = false);
    node.apply(
        "api.yaml",
        &service("api", "{clusterIP: 10.96.0.1, selector: {app: api}, ports: [{port: 8080}]}"),
    );
    node.apply(
        "all.yaml",
        &service(
            "all",
            "{clusterIP: 10.96.0.2, publishNotReadyAddresses: true, selector: {app: api}, ports: [{port: 8080}]}",
        ),
    );
    let _agent = node.agent();
    assert_eq!(answers(&web, VIP, 40), names(["api-1", "api-2"]));
    assert_eq!(answers(&web, at("10.96.0.2:8080"), 60), names(["api-1", "api-2", "api-3"]));

    api[0].pod.update(|pod| pod.ready = false);
    api[2].pod.update(|pod| pod.ready = true);
    node.wait();
    assert_eq!(answers(&web, VIP, 40), names(["api-2", "api-3"]));
}

#[test]
fn terminating_endpoints_that_still_serve_are_used_while_there_is_no_other() {
    let Some(world) = World::new() else { return };
    let node = world.node("a");
    let web = node.pod("shop/web").start();
    let api = Backend::several(&node, "api", 3);
    let spec = "{clusterIP: 10.96.0.1, selector: {app: api}, ports: [{port: 8080}]}";
    node.apply("api.yaml", &service("api", spec));
    for backend in &api[..2] {
        backend.pod.update(|pod| pod.terminating = true);
    }
    api[2].pod.update(|pod| pod.ready = false);
    let _agent = node.agent();
    assert_eq!(answers(&web, VIP, 40), names(["api-1", "api-2"]));

    api[2].pod.update(|pod| pod.ready = true);
    node.wait();
    assert_eq!(answers(&web, VIP, 40), names(["api-3"]));

    api[2].pod.update(|pod| pod.terminating = true);
    api[0].pod.update(|pod| pod.ready = false);
    node.wait();
    assert_eq!(answers(&web, VIP, 40), names(["api-2", "api-3"]));
}

#[test]
fn slices_count_and_not_the_selector_where_a_service_has_slices() {
    let Some(world) = World::new() else { return };
    let node = world.node("a");
    let web = node.pod("shop/web").start();
    let api = Backend::several(&node, "api", 3);
    let spec = "{clusterIP: 10.96.0.1, selector: {app: api}, ports: [{port: 8080}]}";
    node.apply("api.yaml", &service("api", spec));
    slice(&node, "one", &format!("[{{addresses: [{}]}}]", api[0].pod.ip()));
    slice(
        &node,
        "two",
        &format!(
            "[{{addresses: [{}], conditions: {{ready: false}}}}, {{addresses: [{}], conditions: {{ready: true}}}}]",
            api[1].pod.ip(),
            api[2].pod.ip()
        ),
    );
    let _agent = node.agent();
    assert_eq!(answers(&web, VIP, 40), names(["api-1", "api-3"]));

    let drains = "conditions: {ready: false, serving: true, terminating: true}";
    slice(&node, "one", &format!("[{{addresses: [{}], {drains}}}]", api[0].pod.ip()));
    node.wait();
    assert_eq!(answers(&web, VIP, 20), names(["api-3"]));

    node.remove("slice-two.yaml");
    node.wait();
    assert_eq!(answers(&web, VIP, 20), names(["api-1"]));

    node.remove("slice-one.yaml");
    node.wait();
    assert_eq!(answers(&web, VIP, 60), names(["api-1", "api-2", "api-3"]));
}

fn service(name: &str, spec: &str) -> String {
    manifests::service(&format!("shop/{name}"), spec)
}

fn slice(node: &Node, name: &str, endpoints: &str) {
    let yaml = manifests::endpoint_slice("shop/api", name, "IPv4", "[{port: 8080}]", endpoints);
    node.apply(&format!("slice-{name}.yaml"), &yaml);
}

const VIP: SocketAddr =
    SocketAddr::V4(std::net::SocketAddrV4::new(std::net::Ipv4Addr::new(10, 96, 0, 1), 8080));
