//! The circuit breaker, over pods and workers: what counts, who waits, and who gets what becomes free.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use http::{Request, Response, StatusCode};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::Semaphore;
use tokio::time::timeout;
use weft_model::AppProtocol::{Detect, Http, Http2, Tcp};
use weft_model::{AppProtocol, CircuitBreaker, PortRouting, Retry, Timeouts, TrafficSettings};

use crate::mesh::{Body, Mesh, PATIENCE, empty, full, get, read, with_traffic};
use crate::server::Server;

fn limited(protocol: AppProtocol, limits: CircuitBreaker) -> PortRouting {
    with_traffic(protocol, TrafficSettings { circuit_breaker: Some(limits), ..TrafficSettings::default() })
}

fn one_connection() -> CircuitBreaker {
    CircuitBreaker { max_connections: 1, ..CircuitBreaker::default() }
}

/// A server that answers each request once it has a permit.
fn gated(mesh: &Mesh) -> (Server, Arc<Semaphore>) {
    let gate = Arc::new(Semaphore::new(0));
    let waiting = Arc::clone(&gate);
    let server = Server::http1(mesh, move |_| {
        let waiting = Arc::clone(&waiting);
        async move {
            waiting.acquire().await.unwrap().forget();
            Response::<Body>::new(full("ok"))
        }
    });
    (server, gate)
}

async fn until(mut condition: impl FnMut() -> bool) {
    let met = async {
        while !condition() {
            tokio::task::yield_now().await;
        }
    };
    timeout(PATIENCE, met).await.expect("it comes to that");
}

#[tokio::test]
async fn an_idle_connection_of_another_pod_or_worker_is_closed_for_a_request_that_waits() {
    let mesh = Mesh::start().await;
    let other = mesh.other_pod().await;
    for (http2, protocol) in [(false, Http), (true, Http2)] {
        let answer = |_| async { Response::<Body>::new(full("ok")) };
        let server = Server::start(mesh.listen(), http2, answer);
        mesh.serve(limited(protocol, one_connection()), &[server.address]);
        let mut kept = Vec::new();
        for n in 0..20_u32 {
            let asking = async {
                if http2 {
                    let mut client = if n % 2 == 0 { mesh.http2().await } else { other.http2().await };
                    let request = Request::get("http://web/").body(empty()).unwrap();
                    let answer = read(client.send_request(request).await.unwrap()).await;
                    (answer, (None, Some(client)))
                } else {
                    let mut client =
                        if n.is_multiple_of(2) { mesh.http1().await } else { other.http1().await };
                    let answer = read(client.send_request(get("/")).await.unwrap()).await;
                    (answer, (Some(client), None))
                }
            };
            // Well below the connect timeout, after which it would be refused.
            let (answer, client) = timeout(Duration::from_secs(8), asking).await.expect("nobody starves");
            assert_eq!(answer, (200, String::new(), "ok".to_owned()), "{protocol:?}, request {n}");
            // It stays connected to the proxy, as clients do.
            kept.push(client);
        }
    }
}

#[tokio::test]
async fn pods_that_ask_all_the_time_take_turns() {
    let mesh = Mesh::start().await;
    let other = mesh.other_pod().await;
    let server = Server::http1(&mesh, |_| async { Response::<Body>::new(full("ok")) });
    mesh.serve(limited(Http, one_connection()), &[server.address]);
    let asking = |n: usize| {
        let (mesh, other) = (&mesh, &other);
        async move {
            let mut client = if n.is_multiple_of(2) { mesh.http1().await } else { other.http1().await };
            for _ in 0..25 {
                client.ready().await.unwrap();
                let answer = read(client.send_request(get("/")).await.unwrap()).await;
                assert_eq!((answer.0, answer.1.as_str()), (200, ""));
            }
        }
    };
    let all = futures_util::future::join_all((0..8).map(asking));
    timeout(3 * PATIENCE, all).await.expect("nobody starves");
}

#[tokio::test]
async fn a_connection_that_does_not_come_about_or_ends_with_its_relay_lets_the_next_one_in() {
    let mesh = Mesh::start().await;
    let listener = mesh.listen();
    let to = listener.local_addr().unwrap();
    mesh.serve(limited(Tcp, one_connection()), &[to]);
    let mut first = mesh.dial().await;
    let (mut served, _) = timeout(PATIENCE, listener.accept()).await.unwrap().unwrap();
    let mut second = mesh.dial().await;
    first.write_all(b"1").await.unwrap();
    assert_eq!(timeout(PATIENCE, served.read_u8()).await.unwrap().unwrap(), b'1');
    drop(first);
    assert!(matches!(timeout(PATIENCE, served.read(&mut [0])).await.unwrap(), Ok(0)));
    drop(served);
    second.write_all(b"2").await.unwrap();
    let (mut served, _) =
        timeout(Duration::from_secs(8), listener.accept()).await.expect("it is let in").unwrap();
    assert_eq!(timeout(PATIENCE, served.read_u8()).await.unwrap().unwrap(), b'2');
    drop((second, served));
    // Nobody listens: each failure makes room for the next.
    mesh.serve(limited(Http, one_connection()), &[mesh.nobody()]);
    let clients = (0..10).map(|_| async {
        let mut client = mesh.http1().await;
        read(client.send_request(get("/")).await.unwrap()).await.1
    });
    let all = timeout(Duration::from_secs(8), futures_util::future::join_all(clients)).await;
    assert_eq!(all.expect("nobody waits for the connect timeout"), vec!["ConnectFailed"; 10]);
}

#[tokio::test]
async fn a_connection_of_an_unknown_protocol_waits_for_its_turn_as_well() {
    let mesh = Mesh::start().await;
    let server = Server::http1(&mesh, |_| async { Response::<Body>::new(full("ok")) });
    mesh.serve(limited(Detect, one_connection()), &[server.address]);
    let mut kept = Vec::new();
    for n in 0..6 {
        let mut client = mesh.http1().await;
        let asked = timeout(Duration::from_secs(8), client.send_request(get("/"))).await;
        assert_eq!(read(asked.expect("nobody starves").unwrap()).await.0, 200, "client {n}");
        kept.push(client);
    }
}

#[tokio::test]
async fn no_more_requests_wait_than_may() {
    let mesh = Mesh::start().await;
    let (server, gate) = gated(&mesh);
    let limits = CircuitBreaker { max_connections: 1, max_pending: 1, ..CircuitBreaker::default() };
    mesh.serve(limited(Http, limits), &[server.address]);
    let (mut one, mut two, mut three) = (mesh.http1().await, mesh.http1().await, mesh.http1().await);
    let first = one.send_request(get("/"));
    let others = async {
        until(|| server.heads().len() == 1).await;
        // One of the two waits, the other is told so: which one is theirs to decide.
        let asked = [two.send_request(get("/")), three.send_request(get("/"))].map(Box::pin);
        let (refused, _, waits) = futures_util::future::select_all(asked).await;
        let (status, reason, _) = read(refused.unwrap()).await;
        assert_eq!((status, reason.as_str()), (503, "BreakerPending"));
        gate.add_permits(2);
        for waits in waits {
            assert_eq!(read(waits.await.unwrap()).await.0, 200);
        }
    };
    let (first, ()) = timeout(PATIENCE, async { tokio::join!(first, others) }).await.unwrap();
    assert_eq!(read(first.unwrap()).await.0, 200);
}

#[tokio::test]
async fn who_waits_for_a_connection_is_told_after_the_connect_timeout() {
    let mesh = Mesh::start().await;
    let (server, gate) = gated(&mesh);
    let traffic = TrafficSettings {
        circuit_breaker: Some(one_connection()),
        timeouts: Timeouts { connect: Some(Duration::from_millis(500)), ..Timeouts::default() },
        ..TrafficSettings::default()
    };
    mesh.serve(with_traffic(Http, traffic), &[server.address]);
    let (mut one, mut two) = (mesh.http1().await, mesh.http1().await);
    let first = one.send_request(get("/"));
    let second = async {
        until(|| server.heads().len() == 1).await;
        let refused = read(two.send_request(get("/")).await.unwrap()).await;
        gate.add_permits(1);
        refused
    };
    let (first, (status, reason, _)) =
        timeout(PATIENCE, async { tokio::join!(first, second) }).await.unwrap();
    assert_eq!((status, reason.as_str()), (503, "BreakerConnections"));
    assert_eq!(read(first.unwrap()).await.0, 200);
}

#[tokio::test]
async fn no_more_retries_are_under_way_than_may_be() {
    let mesh = Mesh::start().await;
    let gate = Arc::new(Semaphore::new(0));
    let waiting = Arc::clone(&gate);
    // The first try fails at once, and so does all that is asked at /quick; the second try at /slow waits.
    let slow = Arc::new(AtomicUsize::new(0));
    let server = Server::http1(&mesh, move |request| {
        let waiting = Arc::clone(&waiting);
        let waits = request.uri().path() == "/slow" && slow.fetch_add(1, SeqCst) > 0;
        async move {
            if waits {
                waiting.acquire().await.unwrap().forget();
            }
            let mut answer = Response::<Body>::new(full("bad"));
            *answer.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
            answer
        }
    });
    let retry =
        Retry { attempts: 1, codes: vec![503], grpc_codes: vec![], backoff: Duration::from_millis(1) };
    let limits = CircuitBreaker { max_retries: 1, ..CircuitBreaker::default() };
    let traffic =
        TrafficSettings { circuit_breaker: Some(limits), retry: Some(retry), ..TrafficSettings::default() };
    mesh.serve(with_traffic(Http, traffic), &[server.address]);
    let (mut one, mut two) = (mesh.http1().await, mesh.http1().await);
    let slow = one.send_request(get("/slow"));
    let quick = async {
        until(|| server.heads().len() == 2).await;
        let (status, reason, _) = read(two.send_request(get("/quick")).await.unwrap()).await;
        assert_eq!((status, reason.as_str(), server.heads().len()), (503, "BreakerRetries", 3));
        gate.add_permits(1);
    };
    let (slow, ()) = timeout(PATIENCE, async { tokio::join!(slow, quick) }).await.unwrap();
    assert_eq!(read(slow.unwrap()).await.0, 503);
}
