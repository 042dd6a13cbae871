//! How connections come to the proxy: what the app notices of it, and who may not.

use std::collections::BTreeSet;
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::SocketAddr;
use std::thread;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use rustix::net::sockopt::set_socket_linger;
use weft_tests::{HttpClient, Pod, SocketRequest, Suspended, soon};

use crate::shop::{FRONT, Shop};

#[test]
fn the_app_sees_the_address_that_it_dialled_and_its_own() {
    let Some(shop) = Shop::open() else { return };
    let stream = shop.web.tcp_connect(FRONT).unwrap();
    assert_eq!(stream.peer_addr().unwrap(), FRONT);
    assert_eq!(stream.local_addr().unwrap().ip(), shop.web.ip());
    let answer = HttpClient::over(stream).ask(("GET", "/"), &[], &[]).unwrap();
    assert_eq!(answer.seen().server, "v1");
}

#[test]
fn sockets_bound_to_an_address_or_a_device_come_through() {
    let Some(shop) = Shop::open() else { return };
    let own = SocketAddr::new(shop.web.ip().into(), 0);
    for request in [
        SocketRequest::tcp(FRONT).from(own),
        SocketRequest::tcp(FRONT).device("eth0"),
        // The connect hook sees a socket without a port.
        SocketRequest::tcp(FRONT).from(own).port_at_connect(),
        SocketRequest::tcp(FRONT).from(own).port_at_connect().device("eth0"),
    ] {
        let stream = std::net::TcpStream::from(shop.web.open(&request).unwrap());
        assert_eq!(stream.peer_addr().unwrap(), FRONT);
        let local = stream.local_addr().unwrap();
        assert_eq!((local.ip(), local.port() == 0), (own.ip(), false));
        let answer = HttpClient::over(stream).ask(("GET", "/"), &[], &[]).unwrap();
        assert_eq!(answer.seen().peer.ip(), shop.web.ip());
    }
}

#[test]
fn fifty_thousand_short_connections_all_have_their_origin_and_leave_none_behind() {
    let Some(shop) = Shop::open() else { return };
    thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                for n in 0..CONNECTIONS / THREADS {
                    let mut client = shop.web.http(FRONT).unwrap();
                    // Every tenth carries a request: the others are only made and ended.
                    if n % 10 == 0 {
                        assert_eq!(client.ask(("GET", "/"), &[], &[]).unwrap().status, 200);
                    }
                    set_socket_linger(client.stream(), Some(Duration::ZERO)).unwrap();
                }
            });
        }
    });
    soon(|| shop.node.map_entries("weft_origin") == 0);
    assert_eq!(shop.node.stat("origins_lost"), 0);
}

#[test]
fn a_connection_that_is_refused_or_reset_leaves_no_origin_and_one_that_waits_keeps_it() {
    let Some(mut shop) = Shop::open() else { return };
    let origins = || shop.node.map_entries("weft_origin");
    soon(|| origins() == 0);
    let proxy = shop.node.proxy_pid();
    let suspended = Suspended::new(proxy);
    // Accepted by the kernel, but not by the proxy. What it has sent may still be carried.
    let mut closed = shop.web.tcp_connect(FRONT).unwrap();
    closed.write_all(b"GET / HTTP/1.1\r\nHost: front\r\n\r\n").unwrap();
    drop(closed);
    let reset = shop.web.tcp_connect(FRONT).unwrap();
    assert_eq!(origins(), 2);
    set_socket_linger(&reset, Some(Duration::ZERO)).unwrap();
    drop(reset);
    soon(|| origins() == 1);
    drop(suspended);
    soon(|| origins() == 0);
    shop.agent.kill();
    kill(Pid::from_raw(proxy), Signal::SIGKILL).unwrap();
    // Once they are gone nobody holds the listener any more; the lease has not run out.
    soon(|| shop.web.exec(&["ss", "-Htln"]).stdout.is_empty());
    for _ in 0..10 {
        let refused = shop.web.tcp_connect(FRONT).map(drop).map_err(|error| error.kind());
        assert_eq!(refused, Err(ErrorKind::ConnectionRefused));
    }
    assert_eq!(shop.node.map_entries("weft_origin"), 0);
}

#[test]
fn whoever_takes_the_port_of_a_connection_that_was_reset_before_it_was_accepted_is_served() {
    let Some(shop) = Shop::open() else { return };
    let request = SocketRequest::tcp(FRONT).from(SocketAddr::new(shop.web.ip().into(), 40_000));
    let connect = || shop.web.tcp_to_reset(&request).unwrap();
    for round in 0..10 {
        let suspended = Suspended::new(shop.node.proxy_pid());
        for _ in 0..3 {
            drop(connect());
        }
        let next = connect();
        drop(suspended);
        let answer = HttpClient::over(next).ask(("GET", "/"), &[], &[]);
        assert_eq!(answer.map(|answer| answer.status).ok(), Some(200), "round {round}");
    }
}

#[test]
fn the_same_source_port_in_two_pods_is_two_connections() {
    let Some(shop) = Shop::open() else { return };
    let other = shop.node.pod("shop/other").start();
    shop.node.wait();
    let clients = [&shop.web, &other].map(|pod| {
        let request = SocketRequest::tcp(FRONT).from(SocketAddr::new(pod.ip().into(), 40_000));
        HttpClient::over(std::net::TcpStream::from(pod.open(&request).unwrap()))
    });
    let peers: BTreeSet<_> = clients
        .into_iter()
        .map(|mut client| client.ask(("GET", "/"), &[], &[]).unwrap().seen().peer.ip())
        .collect();
    assert_eq!(peers, BTreeSet::from([shop.web.ip().into(), other.ip().into()]));
}

#[test]
fn nobody_uses_a_pods_listener_directly() {
    let Some(shop) = Shop::open() else { return };
    let outsider = shop.node.pod("shop/outsider").outsider().start();
    let listeners = listening(&shop.web).map(|port| SocketAddr::new(shop.web.ip().into(), port));
    for (stranger, listener) in
        [&outsider, &shop.v1].into_iter().flat_map(|pod| listeners.map(|at| (pod, at)))
    {
        let refused = stranger.tcp_connect(listener).map(drop).map_err(|error| error.kind());
        assert_eq!(refused, Err(ErrorKind::ConnectionRefused));
    }
    // The pod itself reaches that of its own connections, and is not served.
    let ([Ok(mut own), Err(_)] | [Err(_), Ok(mut own)]) = listeners.map(|at| shop.web.tcp_connect(at)) else {
        panic!("nobody comes to the other one")
    };
    let _ = own.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n");
    let mut bytes = Vec::new();
    let end = own.read_to_end(&mut bytes);
    assert!(
        matches!(end.map_err(|error| error.kind()), Err(ErrorKind::ConnectionReset) | Ok(0)),
        "{bytes:?}"
    );
    assert_eq!(shop.web.get(FRONT, "/", &[]).unwrap().status, 200, "and it goes on");
}

/// The two ports that a pod without servers listens on: for its own connections, and for those made to it.
fn listening(pod: &Pod) -> [u16; 2] {
    let output = pod.exec(&["ss", "-Htln"]);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let port = |line: &str| line.split_whitespace().nth(3)?.rsplit(':').next()?.parse().ok();
    let ports: BTreeSet<u16> = text.lines().filter_map(port).collect();
    Vec::from_iter(ports).try_into().unwrap_or_else(|ports| panic!("{ports:?}: {text:?}"))
}

const CONNECTIONS: usize = 50_000;
const THREADS: usize = 4;
