//! Connections of enrolled pods that missed the mesh: listed and counted, each with its reason.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::time::Duration;

use serde_json::Value;
use weft_tests::foreign::{Foreign, Sharing};
use weft_tests::{Node, Pod, eventually, manifests};

use super::stage::Stage;

#[test]
fn a_connection_is_unprotected_when_it_is_older_than_enrolment_and_not_once_it_is_made_anew() {
    let Some(stage) = Stage::open() else { return };
    let Stage { front, api, node, .. } = &stage;
    let _server = api.serve_echo(8080);
    front.update(|manifest| manifest.enrol_as("disabled"));
    api.update(|manifest| manifest.enrol_as("disabled"));
    let _agent = node.agent();
    let older = echoing(front, api.addr(8080));
    front.update(|manifest| manifest.enrol(true));
    api.update(|manifest| manifest.enrol(true));
    node.wait();
    let newer = echoing(front, api.addr(8080));
    assert_eq!(
        unprotected(node),
        [("OlderThanEnrolment".to_owned(), port(&older))],
        "once, by its client's end"
    );
    assert_counted(node, "OlderThanEnrolment", 1);
    let page = node.weft(&["get", "connections", "--unprotected"]);
    let page = weft_tests::text(&page);
    assert!(page.contains("UNPROTECTED") && page.contains("OlderThanEnrolment"), "{page}");
    assert!(!page.contains(&format!(":{}", port(&newer))), "{page}");
    drop(older);
    let _anew = echoing(front, api.addr(8080));
    eventually(SOON, || unprotected(node).is_empty());
    assert_counted(node, "OlderThanEnrolment", 0);
}

#[test]
fn a_process_that_enters_a_pods_network_from_the_host_takes_the_host_path() {
    let Some(stage) = Stage::open() else { return };
    let Stage { front, api, node, .. } = &stage;
    let _server = api.serve_echo(8080);
    let _agent = node.agent();
    // This very process: its cgroup is not the node's.
    let entered = front.netns().run(|| TcpStream::connect(api.addr(8080))).unwrap().unwrap();
    exchange(&entered);
    let _own = echoing(front, api.addr(8080));
    let listed = unprotected(node);
    assert!(listed.contains(&("HostPath".to_owned(), port(&entered))), "{listed:?}");
    assert_eq!(listed.len(), 1, "{listed:?}");
    assert_counted(node, "HostPath", 1);
}

#[test]
fn a_connection_that_a_foreign_program_sends_elsewhere_missed_the_mesh() {
    let Some(stage) = Stage::open() else { return };
    let Stage { front, api, node, .. } = &stage;
    let _server = api.serve_echo(8080);
    let _elsewhere = api.serve_echo(9999);
    let spec = "{clusterIP: 10.96.0.1, selector: {app: api}, ports: [{port: 80, targetPort: 8080}]}";
    node.apply("api.yaml", &manifests::service("shop/api", spec));
    let _agent = node.agent();
    let service: SocketAddr = "10.96.0.1:80".parse().unwrap();
    let well = echoing(front, service);
    let foreign = Foreign::redirecting_connect4(node.cgroup(), Sharing::Multi, 9999).unwrap();
    let astray = echoing(front, service);
    drop(foreign);
    assert_eq!(unprotected(node), [("ForeignHook".to_owned(), port(&astray))]);
    assert_counted(node, "ForeignHook", 1);
    drop((well, astray));
}

#[test]
fn a_connection_that_began_while_another_program_held_the_hook_alone_missed_the_mesh() {
    let Some(stage) = Stage::open() else { return };
    let Stage { front, api, node, .. } = &stage;
    let _server = api.serve_echo(8080);
    let foreign = Foreign::sock_ops(node.cgroup(), Sharing::Exclusive).unwrap();
    let _agent = node.agent();
    assert!(node.degradations().iter().any(|line| line.contains("weft_sock_ops")), "status names the hook");
    let astray = echoing(front, api.addr(8080));
    assert_eq!(unprotected(node), [("ForeignHook".to_owned(), port(&astray))]);
    assert_counted(node, "ForeignHook", 1);
    drop(foreign);
    // The hook is tried again every 5 s.
    eventually(SOON, || node.degradations().is_empty());
    drop(astray);
    let _well = echoing(front, api.addr(8080));
    eventually(SOON, || unprotected(node).is_empty());
    assert_counted(node, "ForeignHook", 0);
}

#[test]
fn a_connection_of_a_pod_that_could_not_be_enrolled_is_unmanaged_until_it_can() {
    let Some(stage) = Stage::open() else { return };
    let Stage { front, cron, api, node, .. } = &stage;
    let _server = api.serve_echo(8080);
    cron.update(|manifest| manifest.enrol_as("disabled"));
    let _agent = node.spawn_agent(&["--map-size", "weft_pod=2"]);
    node.wait();
    cron.update(|manifest| manifest.enrol(true));
    eventually(SOON, || !node.weft(&["status", "--wait", "100ms"]).status.success());
    let (unmanaged, managed) = (echoing(cron, api.addr(8080)), echoing(front, api.addr(8080)));
    assert_eq!(unprotected(node), [("Unmanaged".to_owned(), port(&unmanaged))]);
    assert_counted(node, "Unmanaged", 1);
    front.update(|manifest| manifest.enrol_as("disabled"));
    node.wait();
    drop(unmanaged);
    let newer = echoing(cron, api.addr(8080));
    let left = ("ClientOutside".to_owned(), port(&managed));
    eventually(SOON, || unprotected(node) == std::slice::from_ref(&left));
    drop((managed, newer));
}

#[test]
fn a_connected_udp_socket_is_unprotected_when_it_is_older_than_enrolment_and_not_after_a_restart() {
    let Some(stage) = Stage::open() else { return };
    let Stage { front, cron, api, node, .. } = &stage;
    let _server = api.serve_udp_echo(5353);
    front.update(|manifest| manifest.enrol_as("disabled"));
    let mut agent = node.agent();
    let older = asking(front, api.addr(5353));
    let well = asking(cron, api.addr(5353));
    front.update(|manifest| manifest.enrol(true));
    node.wait();
    let newer = asking(front, api.addr(5353));
    // This very process: its cgroup is not the node's.
    let entered = front.netns().run(|| UdpSocket::bind(front.addr(0))).unwrap().unwrap();
    entered.connect(api.addr(5353)).unwrap();
    let [older_port, entered_port] = [&older, &entered].map(udp_port);
    let host = ("HostPath".to_owned(), entered_port);
    let mut expected = vec![("OlderThanEnrolment".to_owned(), older_port), host.clone()];
    expected.sort();
    let listed = || {
        let mut listed = unprotected(node);
        listed.sort();
        listed
    };
    assert_eq!(listed(), expected);
    assert_counted(node, "OlderThanEnrolment", 1);
    let first = &node.weft_json(&["get", "connections", "--unprotected"])[0];
    assert_eq!((&first["protocol"], &first["managed"]), (&"UDP".into(), &false.into()), "{first}");
    assert_eq!((&first["source"]["pod"], &first["destination"]["pod"]), (&"front".into(), &"api".into()));
    // The kernel does not tell what hooks have seen of UDP, and this agent was not there.
    agent.restart();
    assert_eq!(listed(), [host]);
    drop((older, well, newer));
}

#[test]
fn a_client_that_is_no_enrolled_pod_is_outside_and_a_probe_is_not_counted() {
    let Some(stage) = Stage::open() else { return };
    let Stage { api, node, .. } = &stage;
    let outsider = node.pod("x/outsider").outsider().start();
    let plain = node.pod("x/plain").enrolled(false).start();
    let kubelet = node.host_process("kubelet");
    let _server = api.serve_echo(8080);
    let _agent = node.spawn_agent(&["--probe-cgroup", &kubelet.cgroup().display().to_string()]);
    node.wait();
    let streams = [&outsider, &plain].map(|client| echoing(client, api.addr(8080)));
    // Nobody asks for policies here, so a probe is no other than any process of the host; under a policy it is one.
    stage.protect("ALLOW", "[{sources: [{type: CIDR, cidr: 10.77.0.0/16}]}]");
    let _probe = echoing(&kubelet, api.addr(8080));
    let mut listed = unprotected(node);
    listed.sort();
    let mut expected: Vec<_> =
        streams.iter().map(|stream| ("ClientOutside".to_owned(), port(stream))).collect();
    expected.sort();
    assert_eq!(listed, expected);
    assert_counted(node, "ClientOutside", 2);
}

#[test]
fn only_connections_are_unprotected() {
    let Some(stage) = Stage::open() else { return };
    let _agent = stage.node.agent();
    let answer = stage.node.weft(&["get", "services", "--unprotected"]);
    assert_eq!(answer.status.code(), Some(2), "{}", weft_tests::text(&answer));
}

/// The unprotected connections: why, and the client's port.
fn unprotected(node: &Node) -> Vec<(String, u16)> {
    let all = node.weft_json(&["get", "connections", "--unprotected"]);
    let one = |view: &Value| {
        let port = view["source"]["port"].as_u64().unwrap();
        (view["unprotected"].as_str().unwrap().to_owned(), u16::try_from(port).unwrap())
    };
    all.as_array().unwrap().iter().map(one).collect()
}

#[track_caller]
fn assert_counted(node: &Node, why: &str, count: u16) {
    let label = format!("reason=\"{why}\"");
    let counted = || node.metric("weft_unprotected_connections", &[&label]);
    eventually(SOON, || (counted() - f64::from(count)).abs() < 0.5);
}

/// A connection on which a byte went there and back.
fn echoing(client: &Pod, to: SocketAddr) -> TcpStream {
    let stream = client.tcp_connect(to).unwrap();
    exchange(&stream);
    stream
}

fn exchange(mut stream: &TcpStream) {
    stream.write_all(b"?").unwrap();
    stream.read_exact(&mut [0]).unwrap();
}

/// A connected socket on which a datagram went there and back.
fn asking(client: &Pod, to: SocketAddr) -> UdpSocket {
    let socket = client.udp_connect(to).unwrap();
    socket.send(b"?").unwrap();
    socket.recv(&mut [0]).unwrap();
    socket
}

fn udp_port(socket: &UdpSocket) -> u16 {
    socket.local_addr().unwrap().port()
}

fn port(stream: &TcpStream) -> u16 {
    stream.local_addr().unwrap().port()
}

/// Counted every 5 s.
const SOON: Duration = Duration::from_secs(20);
