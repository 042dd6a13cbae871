//! Services.

use weft_tests::{World, manifests};

#[test]
fn a_client_reaches_the_backend_of_a_service_by_its_cluster_ip() {
    let Some(world) = World::new() else { return };
    let node = world.node("a");
    node.apply("ns.yaml", &manifests::namespace("shop", true));
    let web = node.pod("shop/web").start();
    let api = node.pod("shop/api").label("app", "api").start();
    let _api = api.serve_name(8080, "api");
    node.apply(
        "api.yaml",
        &manifests::service(
            "shop/api",
            "{clusterIP: 10.96.0.1, selector: {app: api}, ports: [{port: 80, targetPort: 8080}]}",
        ),
    );
    let _agent = node.agent();
    assert_eq!(web.ask("10.96.0.1:80".parse().unwrap()).unwrap(), "api");
    let stream = web.tcp_connect("10.96.0.1:80".parse().unwrap()).unwrap();
    assert_eq!(stream.peer_addr().unwrap(), "10.96.0.1:80".parse().unwrap());
    let out = node.weft(&["status"]);
    println!("{}", String::from_utf8_lossy(&out.stdout));
    let out = node.weft(&["observe", "--last", "20"]);
    println!("{}{}", String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr));
}
