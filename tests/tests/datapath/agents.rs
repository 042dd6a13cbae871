//! Several agents on one machine.

use weft_abi::SCHEMA;
use weft_tests::{World, manifests, while_connecting};

use crate::lifecycle::{entries, pins};
use crate::market::{self, API, assert_not_balanced};

#[test]
fn agents_side_by_side_touch_only_their_own_pods() {
    let Some(world) = World::new() else { return };
    world.apply("namespace.yaml", &manifests::namespace("shop", true));
    let (one, two) = (world.node("one"), world.node("two"));
    let pods = [&one, &two].map(|node| {
        let short = node.name().rsplit('-').next().unwrap().to_owned();
        let client = node.pod(&format!("shop/client-{short}")).start();
        let server = node.pod(&format!("shop/server-{short}")).label("app", "api").start();
        let serving = server.serve_name(8080, &short);
        (client, server, serving)
    });
    // The same address means another backend on each node.
    for (node, (_, server, _)) in [&one, &two].into_iter().zip(&pods) {
        node.apply(
            "service.yaml",
            &manifests::service("shop/api", "{clusterIP: 10.96.0.1, ports: [{port: 80, targetPort: 8080}]}"),
        );
        let endpoint = format!("[{{addresses: [{}]}}]", server.ip());
        node.apply(
            "slice.yaml",
            &manifests::endpoint_slice("shop/api", "x", "IPv4", "[{port: 8080}]", &endpoint),
        );
    }
    let (mut agent_one, agent_two) = (one.agent(), two.agent());
    let [(client_one, ..), (client_two, ..)] = &pods;
    assert_eq!(client_one.ask(API).unwrap(), "one");
    assert_eq!(client_two.ask(API).unwrap(), "two");
    for (node, (client, server, _)) in [&one, &two].into_iter().zip(&pods) {
        let own = [client, server].map(|pod| pod.netns().cookie().unwrap().to_string());
        assert_eq!(entries(&pins(node).join(format!("v{SCHEMA}/netns"))), own.into(), "{}", node.name());
    }

    let before = two.traces();
    let tally = while_connecting(client_two, API, || {
        agent_one.kill();
        agent_one.restart();
        agent_one.cleanup();
    });
    assert_eq!((tally.failures, tally.misnamed), (Vec::new(), 0), "one node's end is nothing to the other");
    assert_eq!(two.traces(), before);
    assert_eq!(one.traces(), Vec::<String>::new());
    assert_not_balanced(client_one, API);
    drop(agent_two);
}

#[test]
fn pods_of_two_nodes_meet_with_the_policy_of_the_destinations_node() {
    let Some(world) = World::new() else { return };
    world.apply("namespace.yaml", &manifests::namespace("shop", true));
    world.apply("service.yaml", &market::service("10.96.0.1"));
    let (one, two) = (world.node("one"), world.node("two"));
    let client = one.pod("shop/client").service_account("client").start();
    let api = two.pod("shop/api").label("app", "api").start();
    let _server = api.serve_name(8080, "api");
    let _agents = [one.agent(), two.agent()];
    assert_eq!(client.ask(API).unwrap(), "api");

    let cidr = |network: &str| {
        format!(
            "{{targetRefs: [{{group: \"\", kind: Service, name: api}}], action: DENY, \
             rules: [{{sources: [{{type: CIDR, cidr: {network}}}]}}]}}"
        )
    };
    world.apply(
        "policy.yaml",
        &manifests::authorization_policy("shop/deny", &cidr(&format!("{}/32", client.ip()))),
    );
    two.wait();
    let refused = client.tcp_connect(API).map(drop).map_err(|error| error.raw_os_error());
    assert_eq!(refused, Err(Some(libc::ECONNREFUSED)));
}
