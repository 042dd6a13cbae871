//! `sessionAffinity: ClientIP` of datagrams and over IPv6; that of TCP over IPv4 stands with the algorithms.

use std::collections::BTreeSet;
use std::thread;
use std::time::Duration;

use weft_tests::{Pod, World, manifests};

use crate::backends::{Backend, at};

/// How a client asks a Service: which endpoint answers.
type Ask = fn(&Pod) -> String;

/// By TCP and UDP, which are two ports of a Service, over IPv4 and IPv6, which are two addresses.
const WAYS: [(&str, Ask); 5] = [
    ("TCP over IPv6", |client| client.ask(at("[fd96::1]:80")).unwrap()),
    ("UDP over IPv4", |client| client.ask_udp(at("10.96.0.1:53")).unwrap().0),
    ("UDP over IPv6", |client| client.ask_udp(at("[fd96::1]:53")).unwrap().0),
    ("connected UDP over IPv4", |client| connected(client, "10.96.0.1:53")),
    ("connected UDP over IPv6", |client| connected(client, "[fd96::1]:53")),
];

#[test]
fn client_ip_affinity_holds_for_datagrams_and_over_ipv6_until_the_client_was_silent() {
    let Some(world) = World::new() else { return };
    let node = world.node("a");
    let clients: Vec<_> = (1..=7).map(|i| node.pod(&format!("shop/web-{i}")).start()).collect();
    let _api = Backend::several(&node, "api", 5);
    node.apply("api.yaml", &service());
    let _agent = node.agent();
    // Each answer is a socket of its own: without affinity, one of five endpoints at random.
    let homes = |ask: Ask| clients.iter().map(ask).collect::<Vec<_>>();
    let first = WAYS.map(|(way, ask)| {
        let first = homes(ask);
        assert!(BTreeSet::from_iter(&first).len() > 1, "{way}: seven clients at one of five endpoints");
        for _ in 0..5 {
            assert_eq!(homes(ask), first, "{way}");
        }
        first
    });
    // Silence is what is tested.
    thread::sleep(TIMEOUT + Duration::from_millis(200));
    for ((way, ask), first) in WAYS.into_iter().zip(first) {
        let second = homes(ask);
        assert_ne!(second, first, "{way}: none of seven clients was given another endpoint");
        assert_eq!(homes(ask), second, "{way}");
    }
}

fn connected(client: &Pod, to: &str) -> String {
    let socket = client.udp_connect(at(to)).unwrap();
    socket.send(b"?").unwrap();
    let mut name = [0; 64];
    let len = socket.recv(&mut name).unwrap();
    String::from_utf8_lossy(&name[..len]).into_owned()
}

/// Of both families.
fn service() -> String {
    let ports =
        "[{name: http, port: 80, targetPort: 8080}, {name: dns, port: 53, protocol: UDP, targetPort: 5353}]";
    let affinity = "sessionAffinity: ClientIP, sessionAffinityConfig: {clientIP: {timeoutSeconds: 5}}";
    let spec = format!(
        "{{clusterIP: 10.96.0.1, clusterIPs: [10.96.0.1, \"fd96::1\"], ipFamilies: [IPv4, IPv6], \
          ipFamilyPolicy: RequireDualStack, selector: {{app: api}}, ports: {ports}, {affinity}}}"
    );
    manifests::service("shop/api", &spec)
}

const TIMEOUT: Duration = Duration::from_secs(5);
