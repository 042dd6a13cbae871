//! Real sockets in real network namespaces. Needs root.
#![expect(clippy::unwrap_used, reason = "a failed step fails the test")]

#[path = "support/namespace.rs"]
mod namespace;

use std::collections::HashSet;
use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsFd;
use std::time::Duration;

use namespace::namespace;
use weft_transport::{
    Diag, Error, Netns, Protocol, Query, Socket, State, States, netns_cookie, socket_cookie,
};

#[test]
fn work_runs_inside_the_namespace_and_the_caller_stays_outside() {
    let outside = Netns::current().unwrap();
    let inside = namespace();
    let seen = inside.run(|| Netns::current().unwrap().id()).unwrap();
    assert_eq!(seen, inside.id());
    assert_ne!(seen, outside.id());
    assert_eq!(Netns::current().unwrap().id(), outside.id());
}

#[test]
fn a_socket_made_inside_carries_the_cookie_of_the_namespace() {
    let inside = namespace();
    let udp = inside.run(|| UdpSocket::bind("127.0.0.1:0")).unwrap().unwrap();
    assert_eq!(netns_cookie(udp.as_fd()), Ok(inside.cookie().unwrap()));
    assert_ne!(inside.cookie().unwrap(), Netns::current().unwrap().cookie().unwrap());
}

#[test]
fn a_file_that_is_no_network_namespace_is_refused() {
    for path in ["/dev/null", "/proc/self/ns/mnt"] {
        assert!(matches!(Netns::open(path), Err(Error::NotANetns { .. })), "{path}");
    }
    assert!(matches!(Netns::open("/run/netns/there-is-none"), Err(Error::Open { .. })));
}

#[test]
fn both_ends_of_a_connection_are_listed_with_cookie_and_addresses() {
    for host in ["127.0.0.1", "[::1]"] {
        let inside = namespace();
        let (client, server) = connection(&inside, host);
        let sockets = Diag::open(&inside).unwrap().sockets(&Query::tcp(States::LIVE)).unwrap();
        assert_eq!(sockets.len(), 2, "{sockets:?}");
        for end in [&client, &server] {
            let listed = find(&sockets, end);
            assert_eq!(listed.local, end.local_addr().unwrap());
            assert_eq!(listed.remote, end.peer_addr().unwrap());
            assert_eq!((listed.protocol, listed.state), (Protocol::Tcp, State::Established));
            assert_ne!((listed.inode, listed.cgroup), (0, 0));
        }
    }
}

#[test]
fn another_namespace_is_not_listed() {
    let (inside, other) = (namespace(), namespace());
    let _connection = connection(&inside, "127.0.0.1");
    assert_eq!(Diag::open(&other).unwrap().sockets(&Query::tcp(States::LIVE)).unwrap(), []);
}

#[test]
fn a_v4_mapped_connection_is_shown_as_ipv4_and_either_end_can_be_ended() {
    let connect = || {
        let listener = TcpListener::bind("[::]:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let client = TcpStream::connect(format!("[::ffff:127.0.0.1]:{port}")).unwrap();
        [client, listener.accept().unwrap().0]
    };
    for end in [0, 1] {
        let inside = namespace();
        let ends = inside.run(connect).unwrap();
        assert!(ends[end].local_addr().unwrap().is_ipv6());
        let mut diag = Diag::open(&inside).unwrap();
        let sockets = diag.sockets(&Query::tcp(States::LIVE)).unwrap();
        let listed = find(&sockets, &ends[end]);
        assert_eq!(listed.local.ip(), IpAddr::from([127, 0, 0, 1]));
        assert!(diag.destroy(listed).unwrap());
    }
}

#[test]
fn listeners_are_listed_only_when_asked_for() {
    let inside = namespace();
    let listener = inside.run(|| TcpListener::bind("127.0.0.1:0")).unwrap().unwrap();
    let mut diag = Diag::open(&inside).unwrap();
    assert_eq!(diag.sockets(&Query::tcp(States::LIVE)).unwrap(), []);
    let listed = diag.sockets(&Query::tcp(States::of(&[State::Listen]))).unwrap();
    assert_eq!(listed.len(), 1);
    assert_eq!(listed[0].local, listener.local_addr().unwrap());
}

#[test]
fn info_counts_the_bytes_of_both_directions() {
    let inside = namespace();
    let (mut client, mut server) = connection(&inside, "127.0.0.1");
    client.write_all(&[0; 5000]).unwrap();
    server.read_exact(&mut [0; 5000]).unwrap();
    server.write_all(&[0; 70]).unwrap();
    client.read_exact(&mut [0; 70]).unwrap();
    let sockets = Diag::open(&inside).unwrap().sockets(&Query::tcp(States::LIVE).with_info()).unwrap();
    let info = find(&sockets, &client).info.unwrap();
    assert_eq!((info.bytes_sent, info.bytes_received), (5000, 70));
    assert!(info.rtt > Duration::ZERO && info.rtt < Duration::from_secs(1), "{info:?}");
    assert_eq!(info.retransmits, 0);
}

#[test]
fn a_destroyed_connection_ends_on_both_sides_and_its_neighbour_lives() {
    for host in ["127.0.0.1", "[::1]"] {
        let inside = namespace();
        let (mut client, mut server) = connection(&inside, host);
        let (mut other, mut other_server) = connection(&inside, host);
        let mut diag = Diag::open(&inside).unwrap();
        let sockets = diag.sockets(&Query::tcp(States::LIVE)).unwrap();
        assert!(diag.destroy(find(&sockets, &server)).unwrap());
        assert_eq!(server.read(&mut [0]).unwrap_err().kind(), ErrorKind::ConnectionAborted);
        assert_eq!(client.read(&mut [0]).unwrap_err().kind(), ErrorKind::ConnectionReset);
        other.write_all(b"x").unwrap();
        assert_eq!(other_server.read(&mut [0]).unwrap(), 1);
    }
}

#[test]
fn destroying_what_is_gone_says_no_and_is_no_error() {
    let inside = namespace();
    let (client, server) = connection(&inside, "127.0.0.1");
    let mut diag = Diag::open(&inside).unwrap();
    let sockets = diag.sockets(&Query::tcp(States::LIVE)).unwrap();
    let gone = find(&sockets, &client).clone();
    assert!(diag.destroy(&gone).unwrap());
    drop((client, server));
    assert!(!diag.destroy(&gone).unwrap());
}

#[test]
fn a_socket_that_took_over_the_addresses_is_left_alone() {
    let inside = namespace();
    let (client, _server) = connection(&inside, "127.0.0.1");
    let mut diag = Diag::open(&inside).unwrap();
    let sockets = diag.sockets(&Query::tcp(States::LIVE)).unwrap();
    let mut former = find(&sockets, &client).clone();
    former.cookie += 1_000_000;
    assert!(!diag.destroy(&former).unwrap());
    assert_eq!(diag.sockets(&Query::tcp(States::LIVE)).unwrap().len(), 2);
}

#[test]
fn connected_and_unconnected_udp_are_listed_apart_and_the_one_can_be_ended() {
    for host in ["127.0.0.1", "[::1]"] {
        let inside = namespace();
        let (connected, unconnected) = inside
            .run(|| {
                let server = UdpSocket::bind(format!("{host}:0")).unwrap();
                let connected = UdpSocket::bind(format!("{host}:0")).unwrap();
                connected.connect(server.local_addr().unwrap()).unwrap();
                (connected, server)
            })
            .unwrap();
        connected.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        let mut diag = Diag::open(&inside).unwrap();
        let sockets = diag.sockets(&Query::connected_udp()).unwrap();
        assert_eq!(sockets.len(), 1, "{sockets:?}");
        assert_eq!(Ok(sockets[0].cookie), socket_cookie(connected.as_fd()));
        let others = diag.sockets(&Query::unconnected_udp()).unwrap();
        assert_eq!(others.len(), 1, "{others:?}");
        assert_eq!(Ok(others[0].cookie), socket_cookie(unconnected.as_fd()));
        assert_eq!(others[0].local, unconnected.local_addr().unwrap());
        assert!(diag.destroy(&sockets[0]).unwrap());
        assert_eq!(connected.recv(&mut [0]).unwrap_err().kind(), ErrorKind::ConnectionAborted);
        assert_eq!(diag.sockets(&Query::connected_udp()).unwrap(), []);
    }
}

#[test]
fn a_dump_that_takes_many_messages_has_every_socket_once() {
    let inside = namespace();
    let server = inside.run(|| UdpSocket::bind("127.0.0.1:0")).unwrap().unwrap();
    let to: SocketAddr = server.local_addr().unwrap();
    let clients: Vec<UdpSocket> = inside
        .run(|| {
            let connect = |_| {
                let client = UdpSocket::bind("127.0.0.1:0").unwrap();
                client.connect(to).unwrap();
                client
            };
            (0..900).map(connect).collect()
        })
        .unwrap();
    let made: HashSet<u64> = clients.iter().map(|client| socket_cookie(client.as_fd()).unwrap()).collect();
    let mut diag = Diag::open(&inside).unwrap();
    for _ in 0..3 {
        let sockets = diag.sockets(&Query::connected_udp()).unwrap();
        assert_eq!(sockets.len(), made.len());
        assert_eq!(sockets.iter().map(|socket| socket.cookie).collect::<HashSet<_>>(), made);
    }
}

fn connection(netns: &Netns, host: &str) -> (TcpStream, TcpStream) {
    let connect = || {
        let listener = TcpListener::bind(format!("{host}:0")).unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        (client, listener.accept().unwrap().0)
    };
    let (client, server) = netns.run(connect).unwrap();
    for end in [&client, &server] {
        end.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    }
    (client, server)
}

fn find<'a>(sockets: &'a [Socket], end: &TcpStream) -> &'a Socket {
    let cookie = socket_cookie(end.as_fd()).unwrap();
    sockets.iter().find(|socket| socket.cookie == cookie).expect("the socket is listed")
}
