//! TCP sockets that are made in a pod's namespace by a thread outside of it. Needs root.
#![expect(clippy::unwrap_used, reason = "a failed step fails the test")]

#[path = "support/namespace.rs"]
mod namespace;

use std::fs;
use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::os::fd::AsFd;
use std::thread;

use namespace::namespace;
use rustix::io::{FdFlags, fcntl_getfd};
use weft_transport::{Error, Netns, netns_cookie};

const ANY: SocketAddr = SocketAddr::new(IpAddr::V6(Ipv6Addr::UNSPECIFIED), 0);
const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

#[test]
fn a_listener_is_inside_and_the_thread_stays_outside() {
    let (inside, outside) = (namespace(), Netns::current().unwrap().id());
    let listener = inside.listen(ANY).unwrap();
    assert_eq!(Netns::current().unwrap().id(), outside);
    assert_eq!(netns_cookie(listener.as_fd()), Ok(inside.cookie().unwrap()));
    assert_ne!(listener.local_addr().unwrap().port(), 0);
    assert_eq!(listener.accept().unwrap_err().kind(), ErrorKind::WouldBlock);
    assert!(fcntl_getfd(&listener).unwrap().contains(FdFlags::CLOEXEC));
}

#[test]
fn the_wildcard_takes_both_families_and_an_address_only_its_own() {
    let inside = namespace();
    let connects = |to: IpAddr, port| inside.run(|| TcpStream::connect((to, port)).is_ok()).unwrap();
    let loopback6 = IpAddr::V6(Ipv6Addr::LOCALHOST);
    for (listen, v4, v6) in [(ANY.ip(), true, true), (LOOPBACK, true, false), (loopback6, false, true)] {
        let listener = inside.listen((listen, 0).into()).unwrap();
        let port = listener.local_addr().unwrap().port();
        assert_eq!((connects(LOOPBACK, port), connects(loopback6, port)), (v4, v6), "{listen}");
    }
}

#[test]
fn an_address_that_the_pod_does_not_have_is_named_in_the_error() {
    let inside = namespace();
    let error = inside.listen("192.0.2.1:0".parse().unwrap()).unwrap_err();
    assert!(matches!(error, Error::Listen { .. }) && error.to_string().contains("192.0.2.1"), "{error}");
    let to = "192.0.2.2:80".parse().unwrap();
    let error = inside.outgoing(to, Some([192, 0, 2, 1].into())).unwrap_err();
    assert!(matches!(error, Error::Outgoing { .. }), "{error}");
    let text = error.to_string();
    assert!(text.contains("from 192.0.2.1 to 192.0.2.2:80"), "{text}");
}

#[tokio::test]
async fn a_connection_comes_from_the_address_that_was_asked_for() {
    let inside = namespace();
    for (to, from) in [("127.0.0.1", Some("127.0.0.5")), ("127.0.0.1", None), ("::1", Some("::1"))] {
        let [to, from] = [Some(to), from].map(|address| address.map(|text| text.parse::<IpAddr>().unwrap()));
        let to = to.unwrap();
        let listener = inside.listen((to, 0).into()).unwrap();
        let listener = tokio::net::TcpListener::from_std(listener).unwrap();
        let to = listener.local_addr().unwrap();
        let socket = inside.outgoing(to, from).unwrap();
        let (client, server) = tokio::join!(socket.connect(to), listener.accept());
        let client = client.unwrap();
        assert_eq!(server.unwrap().1, client.local_addr().unwrap());
        assert_eq!(client.local_addr().unwrap().ip(), from.unwrap_or(LOOPBACK));
        assert!(client.nodelay().unwrap());
    }
}

#[tokio::test]
async fn two_source_ports_are_enough_for_many_destinations() {
    let inside = namespace();
    let range = || fs::write("/proc/sys/net/ipv4/ip_local_port_range", "40000 40001").unwrap();
    inside.run(range).unwrap();
    let from = Some(IpAddr::from([127, 0, 0, 5]));
    let mut connections = Vec::new();
    for port in 20_000..20_006 {
        let listener = inside.listen((LOOPBACK, port).into()).unwrap();
        let to = listener.local_addr().unwrap();
        connections.push((inside.outgoing(to, from).unwrap().connect(to).await.unwrap(), listener));
    }
}

#[test]
fn two_threads_that_visit_two_namespaces_in_turns_never_mix_them_up() {
    let (one, other) = (namespace(), namespace());
    let pods = [(&one, one.cookie().unwrap()), (&other, other.cookie().unwrap())];
    let visits = || {
        let own = Netns::current().unwrap().id();
        for (netns, cookie) in pods.iter().cycle().take(400) {
            let listener = netns.listen(ANY).unwrap();
            assert_eq!(netns_cookie(listener.as_fd()), Ok(*cookie));
            assert_eq!(Netns::current().unwrap().id(), own);
        }
    };
    thread::scope(|scope| [(); 2].map(|()| scope.spawn(visits)).map(|thread| thread.join().unwrap()));
}
