//! Policy over UDP.

use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::time::Duration;

use weft_tests::packet::send_datagram;
use weft_tests::{Pod, manifests, soon, throughout};

use super::stage::{NOBODY, Stage, assert_eacces, from, from_block, policy};

#[test]
fn answers_to_what_a_pod_sent_come_in_under_deny_all_and_nothing_else() {
    let Some(stage) = Stage::open() else { return };
    let Stage { front, api, node, .. } = &stage;
    let resolver = node.pod("x/resolver").outsider().start();
    let _dns = [resolver.serve_udp_name(53, "answer"), api.serve_udp_name(53, "answer")];
    node.apply("policy.yaml", &policy("web/front", "ALLOW", NOBODY));
    let _agent = node.agent();
    for to in [resolver.addr(53), resolver.addr6(53), api.addr(53)] {
        assert_eq!(front.ask_udp(to).unwrap().0, "answer", "by an unconnected socket");
        let connected = front.udp_connect(to).unwrap();
        connected.send(b"?").unwrap();
        assert_eq!(connected.recv(&mut [0; 16]).unwrap(), 6, "by a connected socket");
    }

    let socket = any_port(front);
    let here: SocketAddr = (front.ip(), socket.local_addr().unwrap().port()).into();
    socket.send_to(b"?", resolver.addr(53)).unwrap();
    assert_eq!(socket.recv(&mut [0; 16]).unwrap(), 6);
    let stranger = any_port(&resolver);
    for _ in 0..3 {
        stranger.send_to(b"unasked", here).unwrap();
    }
    assert_silent(&socket, "another port of the same server");
    assert_eacces(any_port(api).send_to(b"unasked", here));
    assert_eq!(node.stat("denied_lookup"), 3);
}

#[test]
fn an_unconnected_sender_of_this_node_is_proven() {
    let Some(stage) = Stage::open() else { return };
    let Stage { front, cron, api, node, world } = &stage;
    let _server = api.serve_udp_name(8080, "api");
    let far = world.node("b").pod("web/far").service_account("front").start();
    node.apply("policy.yaml", &policy("shop/api", "ALLOW", &from("web/front")));
    let _agent = node.agent();
    assert_eq!(front.ask_udp(api.addr(8080)).unwrap().0, "api");
    assert_eq!(front.ask_udp(api.addr6(8080)).unwrap().0, "api");
    assert_eacces(cron.ask_udp(api.addr(8080)));
    let sender = any_port(&far);
    sender.send_to(b"?", api.addr(8080)).unwrap();
    assert_silent(&sender, "an identity of another node does not allow");
    soon(|| node.refusals().len() == 2);
    assert_eq!(node.refusals()[1]["reason"], "IdentityUnproven");
}

#[test]
fn a_connected_sender_is_allowed_by_its_address_only_and_status_says_so() {
    let Some(stage) = Stage::open() else { return };
    let Stage { front, api, node, .. } = &stage;
    let _server = api.serve_udp_name(8080, "api");
    let port = "{port: 80, targetPort: 8080, protocol: UDP}";
    let service = format!("{{clusterIP: 10.96.0.1, selector: {{app: api}}, ports: [{port}]}}");
    node.apply("service.yaml", &manifests::service("shop/api", &service));
    let protect = |rules: &str| {
        let target = "{group: \"\", kind: Service, name: api}";
        let spec = format!("{{targetRefs: [{target}], action: ALLOW, rules: {rules}}}");
        node.apply("service-policy.yaml", &manifests::authorization_policy("shop/behind", &spec));
    };
    protect(&from("web/front"));
    let _agent = node.agent();
    assert_eq!(front.ask_udp(api.addr(8080)).unwrap().0, "api", "unconnected, as it is");
    assert_eacces(front.udp_connect(api.addr(8080)));
    let told = || node.degradations().iter().any(|line| line.starts_with("identity of connected UDP"));
    assert!(told());

    protect(&from_block(&format!("{}/32", front.ip())));
    node.wait();
    let connected = front.udp_connect(api.addr(8080)).unwrap();
    connected.send(b"?").unwrap();
    assert_eq!(connected.recv(&mut [0; 16]).unwrap(), 3);
    assert!(!told());

    stage.protect("DENY", &from("web/front"));
    assert_eacces(front.udp_connect(api.addr(8080)));
}

#[test]
fn a_forged_datagram_is_not_proven_by_what_its_victim_sent_before() {
    let Some(stage) = Stage::open() else { return };
    let Stage { front, cron, api, node, .. } = &stage;
    let server = api.udp((Ipv4Addr::UNSPECIFIED, 8080).into()).unwrap();
    node.apply("policy.yaml", &policy("shop/api", "ALLOW", &from("web/front")));
    let _agent = node.agent();
    let victim = any_port(front);
    let source = (front.ip(), victim.local_addr().unwrap().port()).into();
    victim.send_to(b"true", api.addr(8080)).unwrap();
    assert_eq!(server.recv(&mut [0; 8]).unwrap(), 4);

    // What one datagram proves, it proves for as long as it may be on its way.
    let forge = || send_datagram(cron, source, api.addr(8080), b"forged").unwrap();
    soon(|| {
        forge();
        server.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
        server.recv(&mut [0; 8]).is_err()
    });
    forge();
    assert_silent(&server, "the victim has not sent for a while");
    victim.send_to(b"true", api.addr(8080)).unwrap();
    server.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
    assert_eq!(server.recv(&mut [0; 8]).unwrap(), 4);
}

fn any_port(pod: &Pod) -> UdpSocket {
    pod.udp((Ipv4Addr::UNSPECIFIED, 0).into()).unwrap()
}

/// Nothing comes in for a while.
#[track_caller]
fn assert_silent(socket: &UdpSocket, why: &str) {
    socket.set_nonblocking(true).unwrap();
    throughout(Duration::from_millis(100), || {
        let error = socket.recv(&mut [0; 64]).expect_err(why);
        error.kind() == ErrorKind::WouldBlock
    });
    socket.set_nonblocking(false).unwrap();
}
