//! Bodies that do not go on, heads that do not come, and the streams that may take their time.

use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body::Frame;
use http_body_util::BodyExt as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::{Instant, interval, timeout};
use weft_model::AppProtocol::{Http, Http2};
use weft_proxy::{Limits, Reason};

use crate::frames::{
    DATA, END_HEADERS, END_STREAM, GET, HEADERS, INITIAL_WINDOW_SIZE, RST_STREAM, Raw, WINDOW_UPDATE,
};
use crate::mesh::{Body, Mesh, PATIENCE, empty, full, plain, read};
use crate::server::Server;
use crate::streams::{raw_tunnel, written};

async fn impatient() -> Mesh {
    Mesh::with(Limits { body_time: BODY_TIME, ..Limits::default() }).await
}

#[tokio::test]
async fn a_request_body_that_stands_still_is_answered_with_408() {
    let mesh = impatient().await;
    for (http2, protocol) in [(false, Http), (true, Http2)] {
        let server = Server::start(mesh.listen(), http2, |request| async {
            // It comes to no end.
            let _ = request.into_body().collect().await;
            std::future::pending().await
        });
        mesh.serve(plain(protocol), &[server.address]);
        let mut client = mesh.dial().await;
        client.write_all(b"POST / HTTP/1.1\r\nhost: web\r\ncontent-length: 10\r\n\r\nhalf").await.unwrap();
        let mut answer = String::new();
        timeout(PATIENCE, client.read_to_string(&mut answer)).await.expect("it is answered").unwrap();
        assert!(
            answer.starts_with("HTTP/1.1 408 ") && answer.contains("x-weft-reason: SlowBody"),
            "{answer}"
        );
        assert_eq!(mesh.request().await.reason, Some(Reason::SLOW_BODY));

        let (pieces, body) = written();
        pieces.send(Frame::data(Bytes::from("half"))).await.unwrap();
        let mut client = mesh.http2().await;
        let asking = client.send_request(Request::post("http://web/").body(body).unwrap());
        let (status, reason, _) = read(timeout(PATIENCE, asking).await.unwrap().unwrap()).await;
        assert_eq!((status, reason.as_str()), (408, "SlowBody"));
        assert_eq!(mesh.request().await.reason, Some(Reason::SLOW_BODY));
    }
}

#[tokio::test]
async fn a_request_body_that_goes_on_may_take_longer_than_that() {
    let mesh = Mesh::with(Limits { body_time: Duration::from_secs(1), ..Limits::default() }).await;
    let server = Server::http1(&mesh, |request| async {
        let body = request.into_body().collect().await.unwrap().to_bytes();
        Response::new(full(body))
    });
    mesh.serve(plain(Http), &[server.address]);
    let (pieces, body) = written();
    let mut client = mesh.http1().await;
    let request = Request::post("/").header("host", "web").body(body).unwrap();
    let began = Instant::now();
    let sending = async move {
        let mut pace = interval(Duration::from_millis(50));
        while began.elapsed() < Duration::from_secs(2) {
            pace.tick().await;
            pieces.send(Frame::data(Bytes::from("x"))).await.unwrap();
        }
    };
    let (answer, ()) = tokio::join!(client.send_request(request), sending);
    assert_eq!(read(answer.unwrap()).await.0, 200);
}

#[tokio::test]
async fn a_client_that_takes_nothing_of_its_answer_is_cut_off() {
    let mesh = impatient().await;
    let server = Server::http1(&mesh, |_| async { Response::new(endless()) });
    mesh.serve(plain(Http), &[server.address]);
    let mut client = mesh.dial().await;
    client.write_all(b"GET / HTTP/1.1\r\nhost: web\r\n\r\n").await.unwrap();
    assert_eq!(mesh.request_and_refused().await, (Some(Reason::SLOW_BODY), Reason::SLOW_BODY));
    let mut answer = Vec::new();
    let end = timeout(PATIENCE, client.read_to_end(&mut answer)).await.unwrap();
    assert_eq!(end.unwrap_err().kind(), std::io::ErrorKind::ConnectionReset);
}

#[tokio::test]
async fn a_stream_whose_window_stays_shut_is_reset_and_its_connection_goes_on() {
    let mesh = impatient().await;
    let server = Server::http1(&mesh, |request| async move {
        Response::new(if request.uri().path() == "/" { endless() } else { full("ok") })
    });
    mesh.serve(plain(Http), &[server.address]);
    let mut client = Raw::connect(&mesh, &[(INITIAL_WINDOW_SIZE, 1000)]).await;
    client.send(HEADERS, END_HEADERS | END_STREAM, 1, GET).await;
    client.expect(RST_STREAM, 1).await;
    assert_eq!(mesh.request().await.reason, Some(Reason::SLOW_BODY));
    // `:path` is `/index.html` in the static table.
    let other: Vec<u8> = GET.iter().map(|byte| if *byte == 0x84 { 0x85 } else { *byte }).collect();
    client.send(HEADERS, END_HEADERS | END_STREAM, 3, &other).await;
    assert_eq!(client.expect(DATA, 3).await.payload, b"ok");
}

#[tokio::test]
async fn a_stream_of_which_only_the_last_piece_is_left_is_reset_too() {
    let mesh = impatient().await;
    let server = Server::http1(&mesh, |_| async { Response::new(full(vec![7; 8000])) });
    mesh.serve(plain(Http), &[server.address]);
    let mut client = Raw::connect(&mesh, &[(INITIAL_WINDOW_SIZE, 1000)]).await;
    client.send(HEADERS, END_HEADERS | END_STREAM, 1, GET).await;
    client.expect(RST_STREAM, 1).await;
    assert_eq!(mesh.request().await.reason, Some(Reason::SLOW_BODY));
}

#[tokio::test]
async fn a_stream_whose_client_takes_the_last_piece_in_the_end_is_done() {
    let mesh = Mesh::start().await;
    let server = Server::http1(&mesh, |_| async { Response::new(full(vec![7; 8000])) });
    mesh.serve(plain(Http), &[server.address]);
    let mut client = Raw::connect(&mesh, &[(INITIAL_WINDOW_SIZE, 1000)]).await;
    client.send(HEADERS, END_HEADERS | END_STREAM, 1, GET).await;
    assert_eq!(client.expect(DATA, 1).await.payload.len(), 1000);
    // Not a byte more than it takes.
    client.send(WINDOW_UPDATE, 0, 1, &7000_u32.to_be_bytes()).await;
    let mut left = 7000;
    while left > 0 {
        left -= client.expect(DATA, 1).await.payload.len();
    }
    assert_eq!(mesh.request().await.reason, None);
}

#[tokio::test]
async fn what_waits_for_its_server_or_listens_to_it_is_no_slow_body() {
    let mesh = impatient().await;
    let (events, body) = written();
    let body = std::sync::Arc::new(std::sync::Mutex::new(Some(body)));
    let server = Server::http1(&mesh, move |_| {
        let body = body.lock().unwrap().take();
        async move { Response::new(body.unwrap_or_else(empty)) }
    });
    mesh.serve(plain(Http), &[server.address]);
    // Server-sent events, to a client that has more to say some day.
    let (more, asked) = written();
    let mut client = mesh.http2().await;
    let request = Request::post("http://web/").body(asked).unwrap();
    let mut answer = timeout(PATIENCE, client.send_request(request)).await.unwrap().unwrap().into_body();
    for _ in 0..2 {
        assert!(timeout(LONG, answer.frame()).await.is_err(), "it is not cut");
        events.send(Frame::data(Bytes::from("data: 1\n\n"))).await.unwrap();
        let event = timeout(PATIENCE, answer.frame()).await.unwrap().unwrap().unwrap();
        assert_eq!(event.into_data().unwrap(), "data: 1\n\n");
    }
    drop(events);
    assert!(timeout(PATIENCE, answer.collect()).await.unwrap().unwrap().to_bytes().is_empty());
    drop(more);
}

#[tokio::test]
async fn a_call_of_grpc_may_be_silent_before_it_is_answered() {
    let mesh = impatient().await;
    // It answers when the client has said something.
    let server = Server::http2(&mesh, |request| async {
        let mut body = request.into_body();
        let first = body.frame().await.unwrap().unwrap();
        Response::new(full(first.into_data().unwrap()))
    });
    mesh.serve(plain(Http2), &[server.address]);
    let (pieces, body) = written();
    let mut client = mesh.http2().await;
    let call = Request::post("http://web/a.B/C").header("content-type", "application/grpc");
    let mut asking = std::pin::pin!(client.send_request(call.body(body).unwrap()));
    assert!(timeout(LONG, asking.as_mut()).await.is_err(), "it is not cut");
    pieces.send(Frame::data(Bytes::from("hello"))).await.unwrap();
    let mut answer = timeout(PATIENCE, asking).await.unwrap().unwrap().into_body();
    assert_eq!(answer.frame().await.unwrap().unwrap().into_data().unwrap(), "hello");
}

#[tokio::test]
async fn a_tunnel_whose_client_does_not_read_lasts() {
    let mesh = impatient().await;
    let (mut client, mut server) = raw_tunnel(&mesh).await;
    // Until every buffer on the way is full, and for longer than an answer would be waited for.
    let (piece, mut sent) = (vec![7; 64 << 10], 0);
    while let Ok(written) = timeout(LONG, server.write(&piece)).await {
        sent += written.unwrap();
    }
    let mut taken = vec![0; sent];
    timeout(PATIENCE, client.read_exact(&mut taken)).await.expect("it goes on").unwrap();
}

#[tokio::test]
async fn a_second_head_that_trickles_behind_a_request_is_a_slow_head() {
    let mesh = Mesh::with(Limits { head_time: Duration::from_millis(500), ..Limits::default() }).await;
    let server = Server::http1(&mesh, |_| async { Response::new(full("first")) });
    mesh.serve(plain(Http), &[server.address]);
    for trickles in [false, true] {
        let mut client = mesh.dial().await;
        client
            .write_all(b"GET / HTTP/1.1\r\nhost: web\r\n\r\nGET /second HTTP/1.1\r\nx-slow: ")
            .await
            .unwrap();
        let (mut reader, mut writer) = client.into_split();
        let trickling = async {
            let mut pace = interval(Duration::from_millis(50));
            loop {
                if !trickles {
                    return Ok::<_, std::io::Error>(());
                }
                writer.write_all(b"x").await?;
                pace.tick().await;
            }
        };
        let mut answers = Vec::new();
        let ended = timeout(PATIENCE, async { tokio::join!(reader.read_to_end(&mut answers), trickling) });
        let (read, written) = ended.await.expect("it is cut off");
        // The kernel tells of a reset once: whoever of the two asks first hears of it.
        let told = [read.err(), written.err()];
        let mut told = told.iter().flatten().map(std::io::Error::kind);
        assert!(told.any(|kind| kind == std::io::ErrorKind::ConnectionReset));
        assert!(answers.ends_with(b"first"), "the first request is answered");
        assert_eq!(mesh.refused().await, Reason::SLOW_HEAD);
    }
    assert_eq!(server.heads().len(), 2);
}

/// A body that goes on as fast as it is read.
fn endless() -> Body {
    let pieces = futures_util::stream::repeat_with(|| Ok(Frame::data(Bytes::from_static(&[7; 16 << 10]))));
    Body::new(http_body_util::StreamBody::new(pieces))
}

const BODY_TIME: Duration = Duration::from_millis(300);
/// Longer than the proxy waits for a slow body, its sweep included.
const LONG: Duration = Duration::from_millis(1500);
