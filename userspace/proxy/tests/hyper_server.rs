//! The guard under hyper's server, on real sockets: who is answered, with what, and what hyper gets to see.
#![expect(clippy::unwrap_used, reason = "a failed step fails the test")]

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use weft_proxy::http1::{Guarded, Limits, Malformed};

/// Serves one connection. Returns what was refused.
struct Server {
    address: SocketAddr,
    seen: Arc<Mutex<Vec<String>>>,
    served: JoinHandle<Option<Malformed>>,
}

impl Server {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let seen = Arc::default();
        let served = tokio::task::spawn_local(serve(listener, Arc::clone(&seen)));
        Self { address, seen, served }
    }

    fn seen(&self) -> Vec<String> {
        self.seen.lock().unwrap().clone()
    }
}

async fn serve(listener: TcpListener, seen: Arc<Mutex<Vec<String>>>) -> Option<Malformed> {
    let (stream, _) = listener.accept().await.unwrap();
    let guarded = Guarded::server(stream, Limits::default());
    let refusal = guarded.refusal();
    let service = service_fn(move |request| answer(request, Arc::clone(&seen)));
    let connection =
        hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(guarded), service);
    // Whether hyper calls it an error does not matter: the refusal tells.
    let _ = connection.with_upgrades().await;
    refusal.malformed()
}

async fn answer(
    mut request: Request<Incoming>,
    seen: Arc<Mutex<Vec<String>>>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let target = request.uri().to_string();
    if request.headers().contains_key("upgrade") && target == "/switch" {
        let upgrade = hyper::upgrade::on(&mut request);
        tokio::task::spawn_local(async move {
            let mut tunnel = TokioIo::new(upgrade.await.unwrap());
            let mut bytes = [0; 4];
            tunnel.read_exact(&mut bytes).await.unwrap();
            tunnel.write_all(&bytes).await.unwrap();
            tunnel.shutdown().await.unwrap();
        });
        let response = Response::builder().status(101).header("connection", "upgrade").header("upgrade", "x");
        return Ok(response.body(Full::default()).unwrap());
    }
    match request.into_body().collect().await {
        Ok(body) => {
            let body = body.to_bytes();
            seen.lock().unwrap().push(format!("{target} {}", body.escape_ascii()));
            // The next request is in the socket while this one is under way.
            tokio::task::yield_now().await;
            Ok(Response::new(Full::from(format!("saw {target}"))))
        }
        Err(error) => {
            let why = Malformed::of(&error).expect("nothing else goes wrong here");
            let response =
                Response::builder().status(why.status()).header("x-weft-reason", why.reason().word());
            Ok(response.body(Full::default()).unwrap())
        }
    }
}

/// Sends `bytes` in one go, then reads to the end.
async fn exchange(address: SocketAddr, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(bytes).await.unwrap();
    let mut answer = Vec::new();
    timeout(PATIENCE, stream.read_to_end(&mut answer))
        .await
        .expect("the server ends the connection")
        .unwrap();
    String::from_utf8(answer).unwrap()
}

fn local<F: Future>(test: impl FnOnce() -> F) -> F::Output {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    tokio::task::LocalSet::new().block_on(&runtime, test())
}

fn statuses(answer: &str) -> Vec<StatusCode> {
    answer.split("HTTP/1.1 ").skip(1).map(|answer| answer[..3].parse().unwrap()).collect()
}

#[test]
fn a_malformed_head_is_answered_and_never_seen() {
    local(|| async {
        let server = Server::start().await;
        let answer = exchange(server.address, b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n").await;
        assert!(answer.starts_with("HTTP/1.1 400 Bad Request\r\nconnection: close\r\n"), "{answer}");
        assert!(answer.contains("x-weft-reason: HostRepeated\r\n"), "{answer}");
        assert_eq!(server.seen(), Vec::<String>::new());
        assert_eq!(server.served.await.unwrap(), Some(Malformed::HostRepeated));
    });
}

#[test]
fn a_head_that_is_too_large_is_answered_before_it_ends() {
    local(|| async {
        let server = Server::start().await;
        let endless = format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}", "a".repeat(9_000));
        assert_eq!(statuses(&exchange(server.address, endless.as_bytes()).await), [431]);
        let server = Server::start().await;
        let endless = format!("GET /{}", "a".repeat(9_000));
        assert_eq!(statuses(&exchange(server.address, endless.as_bytes()).await), [414]);
    });
}

#[test]
fn the_requests_before_a_malformed_one_are_answered_first() {
    local(|| async {
        let server = Server::start().await;
        let bytes = "GET /1 HTTP/1.1\r\nHost: a\r\n\r\nPOST /2 HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi\
                     GET /3 HTTP/1.1\r\nHost : a\r\n\r\nGET /4 HTTP/1.1\r\nHost: a\r\n\r\n";
        let answer = exchange(server.address, bytes.as_bytes()).await;
        assert_eq!(statuses(&answer), [200, 200, 400], "{answer}");
        assert!(answer.contains("saw /1") && answer.contains("saw /2"), "{answer}");
        assert_eq!(server.seen(), ["/1 ", "/2 hi"]);
        assert_eq!(server.served.await.unwrap(), Some(Malformed::SpaceBeforeColon));
    });
}

#[test]
fn a_body_that_is_malformed_reaches_the_service_as_an_error_and_is_answered_once() {
    local(|| async {
        let server = Server::start().await;
        let bytes = b"GET /1 HTTP/1.1\r\nHost: a\r\n\r\n\
            POST /2 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0x1\r\na\r\n0\r\n\r\n";
        let answer = exchange(server.address, bytes).await;
        assert_eq!(statuses(&answer), [200, 400], "{answer}");
        assert!(answer.contains("x-weft-reason: ChunkSize\r\n"), "{answer}");
        assert_eq!(server.seen(), ["/1 "]);
        assert_eq!(server.served.await.unwrap(), Some(Malformed::ChunkSize));
    });
}

#[test]
fn the_answer_arrives_though_the_client_goes_on_sending() {
    local(|| async {
        let server = Server::start().await;
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        stream.write_all(b"\0").await.unwrap();
        // More than fits the buffers of both sockets, so part of it is not read when the server is done.
        let (mut reads, mut writes) = stream.split();
        let mut answer = Vec::new();
        let flood = vec![b'a'; 512 << 10];
        let (_, read) = tokio::join!(writes.write_all(&flood), reads.read_to_end(&mut answer));
        read.unwrap();
        assert_eq!(statuses(&String::from_utf8(answer).unwrap()), [400]);
    });
}

#[test]
fn after_a_switch_of_protocols_bytes_are_no_requests_any_more() {
    local(|| async {
        let server = Server::start().await;
        let head = b"GET /switch HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n\0\r\n\x01";
        let answer = exchange(server.address, head).await;
        assert_eq!(statuses(&answer), [101], "{answer}");
        assert!(answer.ends_with("\r\n\r\n\0\r\n\x01"), "{answer:?}");
        assert_eq!(server.served.await.unwrap(), None);
    });
}

#[test]
fn where_the_switch_is_declined_bytes_are_requests() {
    local(|| async {
        let server = Server::start().await;
        let bytes = b"GET /stay HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n\
            GET /next HTTP/1.1\r\nHost: a\r\n\r\nGET /last HTTP/1.1\r\nHost:\r\n\r\n";
        let answer = exchange(server.address, bytes).await;
        assert_eq!(statuses(&answer), [200, 200, 400], "{answer}");
        assert_eq!(server.seen(), ["/stay ", "/next "]);
    });
}

const PATIENCE: Duration = Duration::from_secs(10);
