//! Ways to connect that are not a plain connect(2).

use std::io::{ErrorKind, Read as _};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{SendFlags, connect, connect_unspec, sendto, sockopt::socket_error};
use weft_tests::{Agent, Node, Pod, SocketRequest, World, manifests};

use crate::backends::{Backend, at, counter};

#[test]
fn data_of_tcp_fast_open_is_delivered_once_to_the_backend() {
    let Some(world) = World::new() else { return };
    let Shop { node, web, api, .. } = &Shop::open(&world);
    // Servers accept data with the SYN without asking for it by a socket option.
    let sysctl = api.exec(&["sh", "-c", "echo 1027 > /proc/sys/net/ipv4/tcp_fastopen"]);
    assert!(sysctl.status.success());
    let listener = api.tcp_listen(at("0.0.0.0:7000")).unwrap();
    for round in 1..=3 {
        let socket = web.socket(libc::AF_INET, libc::SOCK_STREAM, 0).unwrap();
        let flags = SendFlags::from_bits_retain(libc::MSG_FASTOPEN.cast_unsigned());
        assert_eq!(sendto(&socket, b"once", flags, &at("10.96.0.1:70")).unwrap(), 4);
        let (mut server, from) = listener.accept().unwrap();
        assert_eq!(from.ip(), web.ip());
        let client = TcpStream::from(socket);
        assert_eq!(client.peer_addr().unwrap(), at("10.96.0.1:70"));
        drop(client);
        let mut text = String::new();
        server.read_to_string(&mut text).unwrap();
        assert_eq!(text, "once", "round {round}");
    }
    // The first SYN asks for a cookie, the others carry the data.
    assert_eq!(netstat(web, "TCPFastOpenActive"), 2);
    assert_eq!(netstat(api, "TCPFastOpenPassive"), 2);
    assert_eq!(counter(node, "translated"), 3);
}

#[test]
fn an_mptcp_socket_is_balanced() {
    let Some(world) = World::new() else { return };
    let Shop { web, .. } = &Shop::open(&world);
    for to in ["10.96.0.1:80", "[::ffff:10.96.0.1]:80"].map(at) {
        let mut stream = match web.open(&SocketRequest::mptcp(to)) {
            Ok(socket) => TcpStream::from(socket),
            // A kernel that has none says so to everybody.
            Err(error) => return assert_eq!(error.raw_os_error(), without_mptcp(web)),
        };
        let mut name = [0; 4];
        stream.read_exact(&mut name).unwrap();
        assert_eq!(&name, b"api\n");
        assert_eq!(stream.peer_addr().unwrap(), to);
    }
}

#[test]
fn a_non_blocking_connect_becomes_writable_without_an_error() {
    let Some(world) = World::new() else { return };
    let Shop { web, .. } = &Shop::open(&world);
    let socket = web.open(&SocketRequest::tcp(at("10.96.0.1:80")).non_blocking()).unwrap();
    let mut waiting = [PollFd::new(&socket, PollFlags::OUT)];
    let limit = Timespec { tv_sec: 5, tv_nsec: 0 };
    assert_eq!(poll(&mut waiting, Some(&limit)).unwrap(), 1);
    assert_eq!(waiting[0].revents(), PollFlags::OUT);
    assert_eq!(socket_error(&socket).unwrap(), Ok(()));
    assert_eq!(TcpStream::from(socket).peer_addr().unwrap(), at("10.96.0.1:80"));
}

#[test]
fn a_socket_that_is_connected_again_shows_its_second_peer() {
    let Some(world) = World::new() else { return };
    let Shop { web, api, .. } = &Shop::open(&world);
    let mut socket = web.open(&SocketRequest::tcp(at("10.96.0.1:80"))).unwrap();
    let own = api.addr(8080);
    for (to, answer) in [(at("10.96.0.2:80"), "db\n"), (own, "api\n"), (at("10.96.0.1:80"), "api\n")] {
        let (answered, peer);
        (socket, answered, peer) = reconnect(socket, to);
        assert_eq!((answered.as_str(), peer), (answer, to));
    }
    // The backend's own address, where the socket has just been by the Service's.
    let (socket, _, peer) = reconnect(socket, own);
    assert_eq!(peer, own);
    // One that never came about leaves nothing either.
    connect_unspec(&socket).unwrap();
    let refused = connect(&socket, &at("10.96.0.9:80")).unwrap_err();
    assert_eq!(refused, rustix::io::Errno::CONNREFUSED);
    let (_, _, peer) = reconnect(socket, own);
    assert_eq!(peer, own);
}

#[test]
fn a_socket_bound_to_an_address_or_a_device_is_balanced() {
    let Some(world) = World::new() else { return };
    let Shop { web, .. } = &Shop::open(&world);
    let to = SocketRequest::tcp(at("10.96.0.1:80"));
    for request in
        [to.clone().from((web.ip(), 0).into()), to.clone().from((web.ip(), 45_678).into()), to.device("eth0")]
    {
        let stream = TcpStream::from(web.open(&request).unwrap());
        assert_eq!(stream.local_addr().unwrap().ip(), web.ip());
        assert_eq!(stream.peer_addr().unwrap(), at("10.96.0.1:80"));
    }
}

#[test]
fn what_no_service_has_behaves_as_without_a_mesh() {
    let Some(world) = World::new() else { return };
    let Shop { web, api, .. } = &Shop::open(&world);
    // A port that nobody listens on, by the Service's address and by the pod's.
    for to in [at("10.96.0.1:81"), api.addr(81)] {
        assert_eq!(web.tcp_connect(to).unwrap_err().kind(), ErrorKind::ConnectionRefused, "{to}");
    }
}

/// Services `api`, `db` and `nobody` (10.96.0.1, .2 and .9).
struct Shop {
    node: Node,
    web: Pod,
    api: Pod,
    _backends: [weft_tests::Server; 2],
    _agent: Agent,
    _db: Backend,
}

impl Shop {
    fn open(world: &World) -> Self {
        let node = world.node("a");
        let web = node.pod("shop/web").start();
        let api = node.pod("shop/api").label("app", "api").start();
        let servers = [api.serve_name(8080, "api"), api.serve_name(8088, "api")];
        let db = Backend::start(&node, "db", "db");
        let service = |name: &str, spec: &str| manifests::service(&format!("shop/{name}"), spec);
        let ports = "{name: http, port: 80, targetPort: 8080}, {name: fast, port: 70, targetPort: 7000}, {name: closed, port: 81}";
        let objects = [
            service("api", &format!("{{clusterIP: 10.96.0.1, selector: {{app: api}}, ports: [{ports}]}}")),
            service(
                "db",
                "{clusterIP: 10.96.0.2, selector: {app: db}, ports: [{port: 80, targetPort: 8080}]}",
            ),
            service("nobody", "{clusterIP: 10.96.0.9, ports: [{port: 80}]}"),
        ];
        node.apply("services.yaml", &manifests::documents(&objects));
        let agent = node.agent();
        Self { node, web, api, _backends: servers, _agent: agent, _db: db }
    }
}

/// Disconnects by `AF_UNSPEC` and connects to `to`: who answers, and what the peer is called.
fn reconnect(socket: OwnedFd, to: SocketAddr) -> (OwnedFd, String, SocketAddr) {
    connect_unspec(&socket).unwrap();
    connect(&socket, &to).unwrap();
    let mut stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    let mut answer = [0; 16];
    let len = stream.read(&mut answer).unwrap();
    let answer = String::from_utf8_lossy(&answer[..len]).into_owned();
    let peer = stream.peer_addr().unwrap();
    (stream.into(), answer, peer)
}

/// What a kernel without MPTCP says to `socket(2)`, where this is one.
fn without_mptcp(pod: &Pod) -> Option<i32> {
    let off = pod.exec(&["test", "-e", "/proc/sys/net/mptcp/enabled"]).status.code() == Some(1);
    off.then_some(libc::EPROTONOSUPPORT)
}

/// A counter of `TcpExt`.
fn netstat(pod: &Pod, name: &str) -> u64 {
    let page = pod.exec(&["cat", "/proc/net/netstat"]).stdout;
    let page = String::from_utf8(page).unwrap();
    let mut rows = page.lines().filter(|line| line.starts_with("TcpExt:"));
    let (names, values) = (rows.next().unwrap(), rows.next().unwrap());
    let mut pairs = names.split(' ').zip(values.split(' '));
    pairs.find(|(found, _)| *found == name).unwrap().1.parse().unwrap()
}
