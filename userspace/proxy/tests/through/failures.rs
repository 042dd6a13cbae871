//! What goes wrong, and what a client sees of it.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use http::{Request, Response, StatusCode};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::Notify;
use tokio::time::{Instant, timeout};
use weft_model::AppProtocol::{Http, Http2};
use weft_model::{CircuitBreaker, Retry, Timeouts, TrafficSettings};
use weft_proxy::Limits;

use crate::mesh::{Body, Mesh, PATIENCE, empty, full, get, plain, read, routed, rule, with_traffic};
use crate::server::Server;

const MS: Duration = Duration::from_millis(1);

fn retry(attempts: u32) -> Retry {
    Retry { attempts, codes: vec![503], grpc_codes: vec![14], backoff: MS }
}

fn answer(status: u16) -> Response<Body> {
    let mut answer = Response::new(full("body"));
    *answer.status_mut() = StatusCode::from_u16(status).unwrap();
    answer
}

#[tokio::test]
async fn an_endpoint_that_is_not_there_is_followed_by_another() {
    let mesh = Mesh::start().await;
    let server = Server::http1(&mesh, |_| async { answer(200) });
    mesh.serve(plain(Http), &[mesh.nobody(), server.address]);
    // No more than the retry budget lets a quiet backend have.
    for _ in 0..10 {
        let mut client = mesh.http1().await;
        let request = Request::post("/").header("host", "web").body(full("not idempotent")).unwrap();
        assert_eq!(read(client.send_request(request).await.unwrap()).await.0, 200);
    }
}

#[tokio::test]
async fn a_policy_tries_again_with_the_whole_body() {
    let mesh = Mesh::start().await;
    let tries = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&tries);
    let server = Server::http1(&mesh, move |request| {
        let counted = Arc::clone(&counted);
        async move {
            use http_body_util::BodyExt as _;
            let body = request.into_body().collect().await.unwrap().to_bytes();
            if counted.fetch_add(1, SeqCst) < 2 { answer(503) } else { Response::new(full(body)) }
        }
    });
    let mut retried = rule("/", &[("web", 1)]);
    retried.retry = Some(retry(2));
    mesh.serve(routed(Http, vec![retried]), &[server.address]);
    let mut client = mesh.http1().await;
    let body = "x".repeat(60_000);
    let request = Request::post("/").header("host", "web").body(full(body.clone())).unwrap();
    let (status, _, got) = read(client.send_request(request).await.unwrap()).await;
    assert_eq!((status, got == body, tries.load(SeqCst)), (200, true, 3));
    // More than is kept: one try, and its answer.
    tries.store(0, SeqCst);
    client.ready().await.unwrap();
    let request = Request::post("/").header("host", "web").body(full("x".repeat(70_000))).unwrap();
    assert_eq!(read(client.send_request(request).await.unwrap()).await.0, 503);
    assert_eq!(tries.load(SeqCst), 1);
}

#[tokio::test]
async fn a_request_and_a_try_have_a_time() {
    let mesh = Mesh::start().await;
    let server = Server::http1(&mesh, |_| std::future::pending());
    let mut request_timed = rule("/request", &[("web", 1)]);
    request_timed.timeouts = Timeouts { request: Some(50 * MS), ..Timeouts::default() };
    let mut try_timed = rule("/try", &[("web", 1)]);
    try_timed.timeouts = Timeouts { backend_request: Some(50 * MS), ..Timeouts::default() };
    try_timed.retry = Some(retry(1));
    mesh.serve(routed(Http, vec![request_timed, try_timed]), &[server.address]);
    for (path, reason, tries) in [("/request", "RequestTimeout", 1), ("/try", "BackendTimeout", 2)] {
        server.seen.lock().unwrap().clear();
        let mut client = mesh.http1().await;
        let began = Instant::now();
        let (status, got, _) = read(client.send_request(get(path)).await.unwrap()).await;
        assert_eq!((status, got.as_str()), (504, reason));
        assert!(began.elapsed() >= 50 * MS);
        assert_eq!(server.heads().len(), tries, "{path}");
    }
}

#[tokio::test]
async fn a_call_of_grpc_has_its_own_time_and_its_own_answers() {
    let mesh = Mesh::start().await;
    let server = Server::http2(&mesh, |_| std::future::pending());
    mesh.serve(routed(Http2, vec![rule("/a.B", &[("web", 1)])]), &[server.address]);
    let mut client = mesh.http2().await;
    for (path, timeout, code, reason) in [
        ("/a.B/C", "50m", "4", "RequestTimeout"),
        ("/x.Y/Z", "1S", "12", "NoRule"),
        ("/a.B/C", "soon", "13", "GrpcTimeoutInvalid"),
    ] {
        let request = Request::post(format!("http://web{path}"))
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .header("grpc-timeout", timeout);
        let answer = client.send_request(request.body(empty()).unwrap()).await.unwrap();
        assert_eq!(answer.status(), 200);
        assert_eq!(answer.headers()["grpc-status"], code, "{path} {timeout}");
        assert_eq!(answer.headers()["x-weft-reason"], reason);
    }
}

#[tokio::test]
async fn each_try_of_a_call_is_told_what_is_left_of_its_time() {
    let mesh = Mesh::start().await;
    let server = Server::http2(&mesh, |_| async {
        let unavailable = Response::builder().header("content-type", "application/grpc");
        unavailable.header("grpc-status", "14").body(empty()).unwrap()
    });
    let mut retried = rule("/a.B", &[("web", 1)]);
    retried.retry = Some(retry(2));
    mesh.serve(routed(Http2, vec![retried]), &[server.address]);
    let call = Request::post("http://web/a.B/C").header("content-type", "application/grpc");
    let call = call.header("grpc-timeout", "60S").body(empty()).unwrap();
    let answer = mesh.http2().await.send_request(call).await.unwrap();
    assert_eq!(answer.headers()["grpc-status"], "14");
    let told = |head: &http::request::Parts| {
        weft_proxy::route::grpc::parse_timeout(head.headers["grpc-timeout"].to_str().unwrap()).unwrap()
    };
    let told: Vec<_> = server.heads().iter().map(told).collect();
    assert_eq!(told.len(), 3);
    assert!(told[0] <= 60_000 * MS && told[1] < told[0] && told[2] < told[1], "{told:?}");
}

#[tokio::test]
async fn a_kept_connection_that_the_server_has_closed_is_not_the_clients_trouble() {
    let mesh = Mesh::start().await;
    let listener = mesh.listen();
    mesh.serve(plain(Http), &[listener.local_addr().unwrap()]);
    // It answers one request on each connection, and resets it when the second one comes.
    let served = tokio::task::spawn(async move {
        let mut connections = 0;
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            connections += 1;
            let mut bytes = [0; 4096];
            assert_ne!(stream.read(&mut bytes).await.unwrap(), 0);
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await.unwrap();
            if connections == 3 {
                return;
            }
            // The request is in the socket, unread: the close is a reset.
            stream.readable().await.unwrap();
        }
    });
    let mut client = mesh.http1().await;
    for n in 0..3 {
        client.ready().await.unwrap();
        let answer = timeout(PATIENCE, client.send_request(get("/"))).await.unwrap().unwrap();
        assert_eq!(read(answer).await, (200, String::new(), "ok".into()), "request {n}");
    }
    served.await.unwrap();
}

#[tokio::test]
async fn an_endpoint_that_left_gets_nothing_more_and_its_idle_connections_are_closed() {
    let mesh = Mesh::start().await;
    let listener = mesh.listen();
    let next = Server::http1(&mesh, |_| async { answer(200) });
    mesh.serve(plain(Http), &[listener.local_addr().unwrap()]);
    let mut client = mesh.http1().await;
    let asking = client.send_request(get("/"));
    let serving = async {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut bytes = [0; 4096];
        assert_ne!(stream.read(&mut bytes).await.unwrap(), 0);
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await.unwrap();
        stream
    };
    let (answered, mut kept) = tokio::join!(asking, serving);
    assert_eq!(read(answered.unwrap()).await.2, "ok");
    let left = Instant::now();
    mesh.serve(plain(Http), &[next.address]);
    client.ready().await.unwrap();
    assert_eq!(read(client.send_request(get("/")).await.unwrap()).await.2, "body");
    let closed = timeout(PATIENCE, kept.read(&mut [0])).await.unwrap().unwrap();
    assert_eq!((closed, next.heads().len()), (0, 1));
    assert!(left.elapsed() < Duration::from_millis(500), "not by the sweep alone");
}

#[tokio::test]
async fn a_client_that_leaves_takes_its_request_with_it() {
    let mesh = Mesh::start().await;
    let listener = mesh.listen();
    mesh.serve(plain(Http), &[listener.local_addr().unwrap()]);
    let mut client = mesh.dial().await;
    client.write_all(b"GET / HTTP/1.1\r\nhost: web\r\n\r\n").await.unwrap();
    let (mut server, _) = timeout(PATIENCE, listener.accept()).await.unwrap().unwrap();
    assert_ne!(server.read(&mut [0; 4096]).await.unwrap(), 0);
    rustix::net::sockopt::set_socket_linger(&client, Some(Duration::ZERO)).unwrap();
    drop(client);
    let end = timeout(PATIENCE, server.read(&mut [0])).await.expect("the upstream connection ends");
    assert!(matches!(end, Ok(0) | Err(_)));
}

#[tokio::test]
async fn a_client_that_closes_takes_its_request_with_it_but_one_that_has_only_finished_sending_does_not() {
    let mesh = Mesh::start().await;
    let listener = mesh.listen();
    mesh.serve(plain(Http), &[listener.local_addr().unwrap()]);
    for leaves in [false, true] {
        let mut client = mesh.dial().await;
        client.write_all(b"GET / HTTP/1.1\r\nhost: web\r\nconnection: close\r\n\r\n").await.unwrap();
        let (mut server, _) = timeout(PATIENCE, listener.accept()).await.unwrap().unwrap();
        assert_ne!(server.read(&mut [0; 4096]).await.unwrap(), 0);
        if leaves {
            drop(client);
            let end = timeout(PATIENCE, server.read(&mut [0])).await.expect("the upstream connection ends");
            assert!(matches!(end, Ok(0) | Err(_)));
        } else {
            client.shutdown().await.unwrap();
            let early = timeout(Duration::from_millis(300), server.read(&mut [0])).await;
            assert!(early.is_err(), "it is still awaited");
            server.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await.unwrap();
            let mut answer = String::new();
            timeout(PATIENCE, client.read_to_string(&mut answer)).await.unwrap().unwrap();
            assert!(answer.ends_with("\r\n\r\nok"), "{answer}");
        }
    }
}

#[tokio::test]
async fn a_goaway_moves_what_comes_next_to_another_connection() {
    let mesh = Mesh::start().await;
    let listener = mesh.listen();
    mesh.serve(plain(Http2), &[listener.local_addr().unwrap()]);
    let connections = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&connections);
    tokio::task::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            counted.fetch_add(1, SeqCst);
            tokio::task::spawn(async move {
                let mut connection = h2::server::handshake(stream).await.unwrap();
                while let Some(Ok((_, mut respond))) = connection.accept().await {
                    respond.send_response(Response::new(()), true).unwrap();
                    connection.graceful_shutdown();
                }
            });
        }
    });
    let mut client = mesh.http2().await;
    for n in 0..10 {
        let request = Request::get("http://web/").body(empty()).unwrap();
        let answer = timeout(PATIENCE, client.send_request(request)).await.unwrap().unwrap();
        assert_eq!(answer.status(), 200, "request {n}");
    }
    assert!(connections.load(SeqCst) > 1);
}

#[tokio::test]
async fn what_a_server_answers_malformed_is_not_passed_on() {
    let mesh = Mesh::start().await;
    let listener = mesh.listen();
    mesh.serve(plain(Http), &[listener.local_addr().unwrap()]);
    let serving = async {
        let (mut stream, _) = listener.accept().await.unwrap();
        assert_ne!(stream.read(&mut [0; 4096]).await.unwrap(), 0);
        stream
            .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 3\r\n\r\nok")
            .await
            .unwrap();
        stream
    };
    let mut client = mesh.http1().await;
    let (answer, _stream) = tokio::join!(client.send_request(get("/")), serving);
    let (status, reason, _) = read(answer.unwrap()).await;
    assert_eq!((status, reason.as_str()), (502, "UpstreamMalformed"));
}

#[tokio::test]
async fn the_circuit_breaker_says_which_of_its_limits_is_reached() {
    let limits = CircuitBreaker { max_requests: 1, ..CircuitBreaker::default() };
    let connections = CircuitBreaker { max_connections: 1, max_pending: 0, ..CircuitBreaker::default() };
    for (limits, expected) in [(limits, "BreakerRequests"), (connections, "BreakerConnections")] {
        // Each has a mesh of its own: a connection that the first one kept would count for the second.
        let mesh = Mesh::start().await;
        let (entered, go) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        let (telling, waiting) = (Arc::clone(&entered), Arc::clone(&go));
        let server = Server::http1(&mesh, move |_| {
            let (telling, waiting) = (Arc::clone(&telling), Arc::clone(&waiting));
            async move {
                telling.notify_one();
                waiting.notified().await;
                answer(200)
            }
        });
        let traffic = TrafficSettings { circuit_breaker: Some(limits), ..TrafficSettings::default() };
        mesh.serve(with_traffic(Http, traffic), &[server.address]);
        let (mut one, mut other) = (mesh.http1().await, mesh.http1().await);
        let first = one.send_request(get("/"));
        let second = async {
            entered.notified().await;
            let refused = read(other.send_request(get("/")).await.unwrap()).await;
            go.notify_one();
            refused
        };
        let (first, (status, reason, _)) = tokio::join!(first, second);
        assert_eq!((status, reason.as_str()), (503, expected));
        assert_eq!(read(first.unwrap()).await.0, 200);
        let mut told =
            [mesh.request().await, mesh.request().await].map(|record| (record.status, record.tries));
        told.sort_unstable();
        assert_eq!(told, [(200, 1), (503, 0)], "no server has seen the one that was refused");
    }
}

#[tokio::test]
async fn a_request_over_the_connection_limit_waits_for_the_connection_of_another() {
    // One worker: all clients can use the same connection.
    let mesh = Mesh::of(1, Limits::default()).await;
    for (http2, protocol) in [(false, Http), (true, Http2)] {
        let server = Server::start(mesh.listen(), http2, |_| async {
            tokio::task::yield_now().await;
            answer(200)
        });
        let limits = CircuitBreaker { max_connections: 1, ..CircuitBreaker::default() };
        let traffic = TrafficSettings { circuit_breaker: Some(limits), ..TrafficSettings::default() };
        mesh.serve(with_traffic(protocol, traffic), &[server.address]);
        let mut clients = Vec::new();
        for _ in 0..20 {
            let mut client = mesh.http1().await;
            clients.push(tokio::task::spawn(async move {
                read(client.send_request(get("/")).await.unwrap()).await
            }));
        }
        for client in clients {
            assert_eq!(
                timeout(PATIENCE, client).await.unwrap().unwrap(),
                (200, String::new(), "body".to_owned())
            );
        }
        assert_eq!(server.accepted(), 1);
    }
}
