//! What flows: large bodies, calls of gRPC, tunnels.

use std::io::ErrorKind;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt as _;
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body::Frame;
use http_body_util::{BodyExt as _, StreamBody};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::time::timeout;
use weft_model::AppProtocol::{Detect, Http, Http2};

use crate::mesh::{Body, Mesh, PATIENCE, empty, plain, read};
use crate::server::Server;

const PIECE: usize = 64 << 10;

pub(crate) type Pieces = mpsc::Sender<Frame<Bytes>>;

/// A body that a test writes piece by piece.
pub(crate) fn written() -> (Pieces, Body) {
    let (sender, receiver) = mpsc::channel(1);
    let pieces = futures_util::stream::unfold(receiver, |mut receiver| async {
        let piece = receiver.recv().await?;
        Some((Ok(piece), receiver))
    });
    (sender, Body::new(StreamBody::new(pieces)))
}

#[tokio::test]
async fn a_gigabyte_each_way_is_never_in_memory() {
    let mesh = Mesh::start().await;
    let server = Server::http1(&mesh, |request| async {
        Response::new(request.into_body().map_err(Into::into).boxed())
    });
    mesh.serve(plain(Http), &[server.address]);
    let sent = Arc::new(AtomicUsize::new(0));
    let (piece, counted) = (Bytes::from(vec![7; PIECE]), Arc::clone(&sent));
    let pieces = futures_util::stream::iter(0..(1 << 30) / PIECE).map(move |_| {
        counted.fetch_add(PIECE, SeqCst);
        Ok(Frame::data(piece.clone()))
    });
    let mut client = mesh.http1().await;
    let request = Request::post("/").header("host", "web").body(Body::new(StreamBody::new(pieces))).unwrap();
    let mut body = client.send_request(request).await.unwrap().into_body();
    let (mut received, mut most_on_the_way) = (0, 0);
    while let Some(frame) = body.frame().await {
        received += frame.unwrap().into_data().unwrap().len();
        most_on_the_way = most_on_the_way.max(sent.load(SeqCst) - received);
    }
    assert_eq!(received, 1 << 30);
    // The kernel's buffers of eight sockets (tcp_rmem, tcp_wmem), and what each reader reads at once.
    assert!(most_on_the_way < 160 << 20, "{most_on_the_way} bytes were somewhere");
}

#[tokio::test]
async fn a_server_that_does_not_read_stops_the_client() {
    let mesh = Mesh::start().await;
    for (http2, protocol) in [(false, Http), (true, Http2)] {
        let server = Server::start(mesh.listen(), http2, |request| async move {
            let _held = request;
            std::future::pending().await
        });
        mesh.serve(plain(protocol), &[server.address]);
        let (pieces, body) = written();
        let request = Request::post("http://web/").header("host", "web").body(body).unwrap();
        let mut client = mesh.http1().await;
        let asking = client.send_request(request);
        let sending = async {
            let mut sent = 0;
            let piece = Bytes::from(vec![7; 64 << 10]);
            while let Ok(Ok(())) =
                timeout(Duration::from_millis(300), pieces.send(Frame::data(piece.clone()))).await
            {
                sent += piece.len();
            }
            sent
        };
        tokio::select! {
            _ = asking => panic!("nobody answers"),
            sent = sending => assert!(sent < 32 << 20, "{sent} bytes are somewhere"),
        }
    }
}

#[tokio::test]
async fn a_call_streams_both_ways_at_once_and_ends_with_trailers() {
    let mesh = Mesh::start().await;
    let server = Server::http2(&mesh, |request| async move {
        let trailers = HeaderMap::from_iter([("grpc-status".parse().unwrap(), "0".parse().unwrap())]);
        let ended = async move { Some(Ok(Frame::trailers(trailers))) };
        let echoed = http_body_util::BodyDataStream::new(request.into_body());
        let echoed = echoed.map(|data| data.map(Frame::data).map_err(Into::into));
        let body = echoed.chain(futures_util::stream::once(ended).filter_map(|frame| async { frame }));
        Response::new(Body::new(StreamBody::new(Box::pin(body))))
    });
    for protocol in [Http2, Detect, Http] {
        mesh.serve(plain(protocol), &[server.address]);
        let mut client = mesh.http2().await;
        let (pieces, body) = written();
        let call = Request::post("http://web/a.B/C")
            .header("content-type", "application/grpc")
            .header("te", "trailers");
        let answer = timeout(PATIENCE, client.send_request(call.body(body).unwrap())).await.unwrap().unwrap();
        let mut answer = answer.into_body();
        for n in 0..5_u8 {
            pieces.send(Frame::data(Bytes::from(vec![n; 10]))).await.unwrap();
            let frame = timeout(PATIENCE, answer.frame()).await.unwrap().unwrap().unwrap();
            assert_eq!(frame.into_data().unwrap(), vec![n; 10]);
        }
        drop(pieces);
        let trailers = timeout(PATIENCE, answer.frame()).await.unwrap().unwrap().unwrap();
        assert_eq!(trailers.into_trailers().unwrap()["grpc-status"], "0");
    }
    assert_eq!(server.heads()[0].headers["te"], "trailers");
}

/// A server that agrees to a WebSocket and echoes what comes.
fn echoing(mesh: &Mesh, http2: bool) -> Server {
    Server::start(mesh.listen(), http2, move |mut request| async move {
        assert_eq!(request.headers().contains_key("sec-websocket-key"), !http2);
        let upgrade = hyper::upgrade::on(&mut request);
        tokio::task::spawn(async move {
            let (mut read, mut write) = tokio::io::split(TokioIo::new(upgrade.await.unwrap()));
            tokio::io::copy(&mut read, &mut write).await.unwrap();
            write.shutdown().await.unwrap();
        });
        let mut answer = Response::new(empty());
        if http2 {
            return answer;
        }
        *answer.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        answer.headers_mut().insert("connection", "upgrade".parse().unwrap());
        answer.headers_mut().insert("upgrade", "websocket".parse().unwrap());
        answer.headers_mut().insert("sec-websocket-accept", "x".parse().unwrap());
        answer
    })
}

async fn echoes(tunnel: hyper::upgrade::Upgraded) {
    let mut tunnel = TokioIo::new(tunnel);
    for text in ["one", "two"] {
        tunnel.write_all(text.as_bytes()).await.unwrap();
        let mut bytes = [0; 3];
        timeout(PATIENCE, tunnel.read_exact(&mut bytes)).await.unwrap().unwrap();
        assert_eq!(&bytes, text.as_bytes());
    }
    tunnel.shutdown().await.unwrap();
    assert_eq!(timeout(PATIENCE, tunnel.read(&mut [0])).await.unwrap().unwrap(), 0);
}

/// The two ends of a WebSocket over HTTP/1 that has just switched: the client's, and the server's.
pub(crate) async fn raw_tunnel(mesh: &Mesh) -> (TcpStream, TcpStream) {
    let listener = mesh.listen();
    mesh.serve(plain(Http), &[listener.local_addr().unwrap()]);
    let mut client = mesh.dial().await;
    let upgrade = "connection: upgrade\r\nupgrade: websocket\r\n";
    let asked = "sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\nsec-websocket-version: 13\r\n";
    let head = format!("GET / HTTP/1.1\r\nhost: web\r\n{upgrade}{asked}\r\n");
    client.write_all(head.as_bytes()).await.unwrap();
    let (mut server, _) = timeout(PATIENCE, listener.accept()).await.unwrap().unwrap();
    until_the_head_ends(&mut server).await;
    let accepted = format!("HTTP/1.1 101 Switching Protocols\r\n{upgrade}sec-websocket-accept: x\r\n\r\n");
    server.write_all(accepted.as_bytes()).await.unwrap();
    (client, server)
}

async fn until_the_head_ends(stream: &mut TcpStream) {
    let mut seen = Vec::new();
    while !seen.ends_with(b"\r\n\r\n") {
        assert_ne!(timeout(PATIENCE, stream.read_buf(&mut seen)).await.unwrap().unwrap(), 0);
    }
}

#[tokio::test]
async fn a_tunnel_that_one_end_resets_is_reset_at_the_other() {
    let mesh = Mesh::start().await;
    for by_client in [true, false] {
        let (mut client, server) = raw_tunnel(&mesh).await;
        until_the_head_ends(&mut client).await;
        let (resets, mut other) = if by_client { (client, server) } else { (server, client) };
        rustix::net::sockopt::set_socket_linger(&resets, Some(Duration::ZERO)).unwrap();
        drop(resets);
        let end = timeout(PATIENCE, other.read(&mut [0])).await.unwrap();
        let end = end.map_err(|error| error.kind());
        assert_eq!(end, Err(ErrorKind::ConnectionReset), "what was cut must not look complete: {by_client}");
    }
}

#[tokio::test]
async fn a_websocket_over_http1_reaches_a_server_of_either_version() {
    let mesh = Mesh::start().await;
    for (http2, protocol, proof) in [(false, Http, "x"), (true, Http2, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=")] {
        let server = echoing(&mesh, http2);
        mesh.serve(plain(protocol), &[server.address]);
        let mut client = mesh.http1().await;
        let request = Request::get("/chat")
            .header("host", "web")
            .header("connection", "keep-alive, Upgrade")
            .header("upgrade", "websocket")
            .header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==")
            .header("sec-websocket-version", "13");
        let answer = client.send_request(request.body(empty()).unwrap()).await.unwrap();
        assert_eq!(answer.status(), 101);
        assert_eq!(answer.headers()["sec-websocket-accept"], proof);
        echoes(hyper::upgrade::on(answer).await.unwrap()).await;
    }
}

/// A WebSocket as HTTP/2 asks for it.
fn websocket() -> Request<Body> {
    let mut request = Request::new(empty());
    *request.method_mut() = Method::CONNECT;
    *request.uri_mut() = "http://web/chat".parse().unwrap();
    request.extensions_mut().insert(hyper::ext::Protocol::from_static("websocket"));
    request.headers_mut().insert("sec-websocket-version", "13".parse().unwrap());
    request
}

#[tokio::test]
async fn a_websocket_over_http2_reaches_a_server_of_either_version() {
    let mesh = Mesh::start().await;
    for (http2, protocol, method) in [(false, Http, Method::GET), (true, Http2, Method::CONNECT)] {
        let server = echoing(&mesh, http2);
        mesh.serve(plain(protocol), &[server.address]);
        let mut client = mesh.http2().await;
        let answer = timeout(PATIENCE, client.send_request(websocket())).await.unwrap().unwrap();
        assert_eq!(answer.status(), 200);
        assert!(!answer.headers().contains_key("sec-websocket-accept"));
        echoes(hyper::upgrade::on(answer).await.unwrap()).await;
        let head = server.heads().pop().unwrap();
        assert_eq!((head.method, head.uri.path()), (method, "/chat"));
    }
}

#[tokio::test]
async fn a_websocket_over_http2_that_a_server_does_not_take_is_not_taken_for_open() {
    let mesh = Mesh::start().await;
    let plainly = |_| async { Response::new(empty()) };
    let deaf = Server::http1(&mesh, plainly);
    let without = Server::http2_without_tunnels(&mesh, plainly);
    for (protocol, server, asked) in [(Http, &deaf, 1), (Http2, &without, 0)] {
        mesh.serve(plain(protocol), &[server.address]);
        let mut client = mesh.http2().await;
        let answer = timeout(PATIENCE, client.send_request(websocket())).await.unwrap().unwrap();
        let (status, reason, _) = read(answer).await;
        assert_eq!((status, reason.as_str()), (501, "UpgradeUnsupported"), "{protocol:?}");
        assert_eq!(server.heads().len(), asked, "{protocol:?}");
    }
}

#[tokio::test]
async fn a_websocket_that_a_server_declines_by_a_status_gets_that_status() {
    let mesh = Mesh::start().await;
    let server = Server::http1(&mesh, |_| async {
        let mut answer = Response::new(empty());
        *answer.status_mut() = StatusCode::FORBIDDEN;
        answer
    });
    mesh.serve(plain(Http), &[server.address]);
    let answer = timeout(PATIENCE, mesh.http2().await.send_request(websocket())).await.unwrap().unwrap();
    assert_eq!(answer.status(), 403);
}
