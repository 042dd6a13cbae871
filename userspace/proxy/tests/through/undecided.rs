//! Ports of which nobody says what they speak: whoever speaks first does.

use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;
use weft_model::AppProtocol::{Detect, Http, Tcp, Tls};
use weft_model::{Backend, BackendTarget, ObjectName, PortRouting, RouteSet, TlsRoute};
use weft_proxy::{Limits, Reason};

use crate::mesh::{Mesh, PATIENCE, full, get, plain, read, routed, rule};
use crate::server::Server;

/// Serves one connection after the other.
async fn accept(listener: &TcpListener) -> TcpStream {
    timeout(PATIENCE, listener.accept()).await.expect("the proxy connects").unwrap().0
}

async fn expect(stream: &mut TcpStream, text: &str) {
    let mut bytes = vec![0; text.len()];
    timeout(PATIENCE, stream.read_exact(&mut bytes)).await.expect("it arrives").unwrap();
    assert_eq!(bytes, text.as_bytes());
}

#[tokio::test]
async fn a_server_that_speaks_first_is_heard_before_the_client_says_a_word() {
    let mesh = Mesh::start().await;
    let listener = mesh.listen();
    let rules = vec![rule("/", &[("gone", 1)])];
    for routing in [plain(Detect), plain(Tcp), routed(Detect, rules)] {
        mesh.serve(routing, &[listener.local_addr().unwrap()]);
        let mut client = mesh.dial().await;
        let mut server = accept(&listener).await;
        server.write_all(b"220 mail ready\r\n").await.unwrap();
        expect(&mut client, "220 mail ready\r\n").await;
        client.write_all(b"EHLO client\r\n").await.unwrap();
        expect(&mut server, "EHLO client\r\n").await;
        server.shutdown().await.unwrap();
        assert_eq!(timeout(PATIENCE, client.read(&mut [0])).await.unwrap().unwrap(), 0);
    }
}

#[tokio::test]
async fn a_client_of_another_protocol_that_speaks_first_is_relayed() {
    let mesh = Mesh::start().await;
    let listener = mesh.listen();
    mesh.serve(plain(Detect), &[listener.local_addr().unwrap()]);
    for first in ["*1\r\n$4\r\nPING\r\n", "\0\x03\0\0", "GET me some bytes\r\n"] {
        let mut client = mesh.dial().await;
        client.write_all(first.as_bytes()).await.unwrap();
        let mut server = accept(&listener).await;
        expect(&mut server, first).await;
        server.write_all(b"+PONG\r\n").await.unwrap();
        expect(&mut client, "+PONG\r\n").await;
    }
}

#[tokio::test]
async fn the_connection_that_was_made_early_carries_the_first_request() {
    let mesh = Mesh::start().await;
    let listener = mesh.listen();
    mesh.serve(plain(Detect), &[listener.local_addr().unwrap()]);
    let mut client = mesh.dial().await;
    let mut server = accept(&listener).await;
    client.write_all(b"GET / HTTP/1.1\r\nhost: web\r\nx-request-id: 1\r\n\r\n").await.unwrap();
    let client = client.local_addr().unwrap().ip();
    let head = format!("GET / HTTP/1.1\r\nhost: web\r\nx-request-id: 1\r\nx-forwarded-for: {client}\r\n\r\n");
    expect(&mut server, &head).await;
}

#[tokio::test]
async fn a_route_that_leads_elsewhere_closes_the_early_connection() {
    let mesh = Mesh::start().await;
    let plain_listener = mesh.listen();
    let server = Server::http1(&mesh, |_| async { http::Response::new(full("routed")) });
    let routing = routed(Detect, vec![rule("/", &[("other", 1)])]);
    let early = plain_listener.local_addr().unwrap();
    mesh.serve_all(routing, &[early], &[("other", Some("http"), &[server.address])]);
    let mut client = mesh.dial().await;
    let mut early = accept(&plain_listener).await;
    client.write_all(b"GET / HTTP/1.1\r\nhost: web\r\nconnection: close\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    timeout(PATIENCE, client.read_to_string(&mut answer)).await.unwrap().unwrap();
    assert!(answer.ends_with("routed"), "{answer}");
    assert_eq!(timeout(PATIENCE, early.read(&mut [0])).await.unwrap().unwrap(), 0, "closed unused");
}

#[tokio::test]
async fn a_client_that_begins_like_http_and_stops_is_relayed_in_the_end() {
    let limits = Limits { detect_time: Duration::from_millis(50), ..Default::default() };
    let mesh = Mesh::with(limits).await;
    let listener = mesh.listen();
    mesh.serve(plain(Detect), &[listener.local_addr().unwrap()]);
    let mut client = mesh.dial().await;
    client.write_all(b"GE").await.unwrap();
    let mut server = accept(&listener).await;
    expect(&mut server, "GE").await;
}

#[tokio::test]
async fn nobody_behind_the_service_is_told_in_the_clients_own_protocol() {
    let mesh = Mesh::start().await;
    for (routing, endpoints, reason) in [
        (plain(Detect), vec![mesh.nobody()], "ConnectFailed"),
        (plain(Http), vec![mesh.nobody()], "ConnectFailed"),
        (plain(Http), vec![], "NoEndpoints"),
        (plain(Detect), vec![], "NoEndpoints"),
    ] {
        mesh.serve(routing, &endpoints);
        let mut client = mesh.http1().await;
        let (status, got, _) = read(client.send_request(get("/")).await.unwrap()).await;
        assert_eq!((status, got.as_str()), (503, reason));
    }
    let mut client = mesh.dial().await;
    client.write_all(b"*1\r\n").await.unwrap();
    let end = timeout(PATIENCE, client.read(&mut [0])).await.unwrap();
    assert_eq!(end.unwrap_err().kind(), std::io::ErrorKind::ConnectionReset);
}

#[tokio::test]
async fn a_client_of_tls_goes_where_its_server_name_says() {
    // For `Reviews.shop.example`, as `openssl s_client` sends it.
    const HELLO: &[u8] = include_bytes!("../../src/route/tls/openssl-hello.bin");
    let mesh = Mesh::start().await;
    let (own, other) = (mesh.listen(), mesh.listen());
    let target = BackendTarget::Service { name: ObjectName::new("shop", "other"), port: 80 };
    let backend = Backend { target, weight: 1, filters: Vec::new() };
    for (protocol, hostname, reaches) in
        [(Tls, "*.shop.example", true), (Detect, "reviews.shop.example", true), (Tls, "shop.example", false)]
    {
        let route = TlsRoute {
            name: ObjectName::new("shop", "by-name"),
            hostnames: vec![hostname.into()],
            backends: vec![backend.clone()],
        };
        let producer = RouteSet::Tls(vec![Arc::new(route)]);
        let routing = PortRouting { protocol, producer, ..PortRouting::default() };
        let (own, endpoint) = (own.local_addr().unwrap(), other.local_addr().unwrap());
        mesh.serve_all(routing, &[own], &[("other", None, &[endpoint])]);
        let mut client = mesh.dial().await;
        let (first, rest) = HELLO.split_at(100);
        client.write_all(first).await.unwrap();
        client.write_all(rest).await.unwrap();
        if reaches {
            let mut server = accept(&other).await;
            let mut seen = vec![0; HELLO.len()];
            timeout(PATIENCE, server.read_exact(&mut seen)).await.unwrap().unwrap();
            assert_eq!(seen, HELLO);
        } else {
            let end = timeout(PATIENCE, client.read(&mut [0])).await.unwrap();
            assert_eq!(end.unwrap_err().kind(), std::io::ErrorKind::ConnectionReset);
            assert_eq!(mesh.refused().await, Reason::NO_TLS_ROUTE);
        }
    }
}

#[tokio::test]
async fn a_client_that_is_silent_at_first_has_its_whole_time_when_it_speaks() {
    let time = Duration::from_millis(500);
    let mesh = Mesh::with(Limits { head_time: time, detect_time: time, ..Limits::default() }).await;
    let server = Server::http1(&mesh, |_| async { http::Response::new(full("ok")) });
    let elsewhere = routed(Detect, vec![rule("/", &[("other", 1)])]);
    let other: [(&str, Option<&str>, &[_]); 1] = [("other", Some("http"), &[server.address])];
    // What the bytes alone decide; what a server could decide, and one that is not there.
    for (routing, endpoints) in
        [(plain(Http), vec![server.address]), (plain(Detect), vec![server.address]), (elsewhere, vec![])]
    {
        mesh.serve_all(routing, &endpoints, &other);
        let mut client = mesh.dial().await;
        assert!(timeout(time * 2, client.read(&mut [0])).await.is_err(), "it is not cut");
        // As an HTTP/1 head begins, and HTTP/2's.
        client.write_all(b"P").await.unwrap();
        assert!(timeout(time / 10, client.read(&mut [0])).await.is_err(), "it is not cut");
        client.write_all(b"UT / HTTP/1.1\r\nhost: web\r\nconnection: close\r\n\r\n").await.unwrap();
        let mut answer = String::new();
        timeout(PATIENCE, client.read_to_string(&mut answer)).await.unwrap().unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    }
}

#[tokio::test]
async fn a_client_that_never_says_a_word_is_let_go_when_it_is_idle() {
    let mesh = Mesh::with(Limits { idle: Duration::from_millis(300), ..Limits::default() }).await;
    let listener = mesh.listen();
    for protocol in [Http, Detect] {
        mesh.serve(plain(protocol), &[listener.local_addr().unwrap()]);
        let mut client = mesh.dial().await;
        assert_eq!(timeout(PATIENCE, client.read(&mut [0])).await.expect("it ends").unwrap(), 0);
        assert_eq!(mesh.refused().await, Reason::IDLE);
    }
}
