//! Connections of HTTP/1 that are kept and quiet: the proxy keeps little of them, and their clients notice nothing.

use std::time::Duration;

use http::Response;
use http_body_util::BodyExt as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;
use weft_model::AppProtocol::Http;
use weft_model::{Timeouts, TrafficSettings};
use weft_proxy::account::Usage;
use weft_proxy::{Limits, Reason};

use crate::mesh::{Mesh, PATIENCE, full, plain, with_traffic};
use crate::server::Server;

const GET: &[u8] = b"GET / HTTP/1.1\r\nhost: web\r\n\r\n";

fn early() -> Limits {
    Limits { park_time: Duration::from_millis(50), ..Limits::default() }
}

/// A mesh whose server gives back what it is sent.
async fn mesh(limits: Limits) -> (Mesh, Server) {
    let mesh = Mesh::with(limits).await;
    let server = Server::http1(&mesh, |request| async {
        let body = request.into_body().collect().await.unwrap().to_bytes();
        Response::new(full(if body.is_empty() { "ok".into() } else { body }))
    });
    mesh.serve(plain(Http), &[server.address]);
    (mesh, server)
}

/// Waits until what the pod uses is so.
pub(crate) async fn until(mesh: &Mesh, what: &str, is_so: impl Fn(Usage) -> bool) {
    let wait = async {
        while !is_so(mesh.handle.report().pods[0].1) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(PATIENCE, wait).await.unwrap_or_else(|_| panic!("{what}"));
}

async fn until_parked(mesh: &Mesh, count: u32) {
    until(mesh, &format!("{count} are parked"), |usage| usage.parked == count).await;
}

/// Sends a request and reads until the answer ends so.
async fn ask(client: &mut TcpStream, request: &[u8], end: &[u8]) -> String {
    client.write_all(request).await.unwrap();
    let mut answer = Vec::new();
    while !answer.ends_with(end) {
        let read = timeout(PATIENCE, client.read_buf(&mut answer)).await.expect("it is answered").unwrap();
        assert_ne!(read, 0, "{}", String::from_utf8_lossy(&answer));
    }
    String::from_utf8(answer).unwrap()
}

#[tokio::test]
async fn a_parked_connection_answers_whatever_comes_next() {
    let (mesh, server) = mesh(early()).await;
    let mut client = mesh.dial().await;
    ask(&mut client, GET, b"ok").await;
    until_parked(&mesh, 1).await;
    // A head in two pieces.
    client.write_all(&GET[..10]).await.unwrap();
    until_parked(&mesh, 0).await;
    ask(&mut client, &GET[10..], b"ok").await;
    until_parked(&mesh, 1).await;
    // Two at once, one with a body in chunks.
    let post = b"POST / HTTP/1.1\r\nhost: web\r\ntransfer-encoding: chunked\r\n\r\n4\r\nbody\r\n0\r\n\r\n";
    let both = ask(&mut client, &[post, GET].concat(), b"ok").await;
    assert!(both.contains("body") && both.matches("HTTP/1.1 200 OK").count() == 2, "{both}");
    until_parked(&mesh, 1).await;
    // What is malformed is refused, as ever.
    ask(&mut client, b"GET / HTTP/1.1\nhost: web\r\n\r\n", b"\n").await;
    until(&mesh, "it has ended", |usage| usage.connections == 0).await;
    assert_eq!(server.heads().len(), 4);
}

#[tokio::test]
async fn what_is_under_way_is_not_parked() {
    let mesh = Mesh::with(early()).await;
    let server = Server::http1(&mesh, |request| async {
        let _ = request.into_body().collect().await;
        std::future::pending().await
    });
    mesh.serve(plain(Http), &[server.address]);
    let mut waits = mesh.dial().await;
    waits.write_all(GET).await.unwrap();
    let mut half_a_body = mesh.dial().await;
    half_a_body.write_all(b"POST / HTTP/1.1\r\nhost: web\r\ncontent-length: 9\r\n\r\nhalf").await.unwrap();
    let mut half_a_head = mesh.dial().await;
    half_a_head.write_all(&GET[..10]).await.unwrap();
    // Another one is parked meanwhile: the sweep has passed.
    let ok = Server::http1(&mesh, |_| async { Response::new(full("ok")) });
    // At the server as well: one that has no endpoint yet would go to the other.
    until(&mesh, "two are under way", |usage| usage.requests == 2 && server.heads().len() == 2).await;
    mesh.serve(plain(Http), &[ok.address]);
    let mut quiet = mesh.dial().await;
    ask(&mut quiet, GET, b"ok").await;
    until_parked(&mesh, 1).await;
    ask(&mut half_a_head, &GET[10..], b"ok").await;
    until_parked(&mesh, 2).await;
    assert_eq!(mesh.handle.report().pods[0].1.requests, 2);
}

#[tokio::test]
async fn a_client_that_leaves_a_parked_connection_is_noticed() {
    let (mesh, _server) = mesh(early()).await;
    for resets in [false, true] {
        let mut client = mesh.dial().await;
        ask(&mut client, GET, b"ok").await;
        until_parked(&mesh, 1).await;
        if resets {
            rustix::net::sockopt::set_socket_linger(&client, Some(Duration::ZERO)).unwrap();
        }
        drop(client);
        until(&mesh, "it is gone", |usage| usage.connections == 0 && usage.parked == 0).await;
        // Nothing was under way: it is no matter who sees the reset first.
        assert!(matches!(mesh.connection().await.reason, None | Some(Reason::CLIENT_GONE)));
    }
}

#[tokio::test]
async fn a_parked_connection_ends_by_the_idle_timeout_and_a_slow_head_on_it_by_its_own() {
    let limits = Limits { head_time: Duration::from_millis(100), ..early() };
    let mesh = Mesh::with(limits).await;
    let server = Server::http1(&mesh, |_| async { Response::new(full("ok")) });
    let timeouts = Timeouts { idle: Some(Duration::from_secs(3)), ..Timeouts::default() };
    let traffic = TrafficSettings { timeouts, ..TrafficSettings::default() };
    mesh.serve(with_traffic(Http, traffic), &[server.address]);
    let (mut silent, mut slow) = (mesh.dial().await, mesh.dial().await);
    ask(&mut silent, GET, b"ok").await;
    ask(&mut slow, GET, b"ok").await;
    until_parked(&mesh, 2).await;
    slow.write_all(&GET[..10]).await.unwrap();
    assert_eq!(mesh.refused().await, Reason::SLOW_HEAD);
    let end = timeout(PATIENCE, slow.read(&mut [0])).await.unwrap();
    assert_eq!(end.unwrap_err().kind(), std::io::ErrorKind::ConnectionReset);
    // In order: nothing of it was cut.
    assert_eq!(timeout(PATIENCE, silent.read(&mut [0])).await.expect("it ends").unwrap(), 0);
}

#[tokio::test]
async fn a_drained_proxy_answers_the_last_request_of_a_parked_connection_and_then_lets_it_go() {
    let limits = Limits { drain_idle: Duration::from_secs(2), ..early() };
    let (mesh, _server) = mesh(limits).await;
    let (mut asks, mut silent) = (mesh.dial().await, mesh.dial().await);
    ask(&mut asks, GET, b"ok").await;
    ask(&mut silent, GET, b"ok").await;
    until_parked(&mesh, 2).await;
    let clients = async {
        // Until its worker has been told of the drain, too.
        while !ask(&mut asks, GET, b"ok").await.contains("connection: close") {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        for client in [&mut asks, &mut silent] {
            assert_eq!(timeout(PATIENCE, client.read(&mut [0])).await.expect("it ends").unwrap(), 0);
        }
    };
    let drained = async { tokio::join!(mesh.handle.drain(Duration::from_mins(5)), clients).0 };
    timeout(PATIENCE, drained).await.expect("no parked connection holds it up").unwrap();
}
