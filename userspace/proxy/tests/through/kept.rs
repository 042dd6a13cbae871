//! Connections that are kept, and turn out to be closed: the proxy's own affair, not the client's or the endpoint's.

use std::sync::Arc;
use std::time::Duration;

use http::Request;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;
use weft_model::AppProtocol::{Http, Http2};
use weft_model::{OutlierDetection, Retry, RetryBudget, TrafficSettings};

use crate::mesh::{Mesh, PATIENCE, full, get, plain, read, with_traffic};
use crate::server::Server;

const OK: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
const UNAVAILABLE: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 2\r\n\r\nno";

/// Retries are not what is scarce here.
fn plenty() -> TrafficSettings {
    let retry_budget = Some(RetryBudget { min_retries: 100_000, ..RetryBudget::default() });
    TrafficSettings { retry_budget, ..TrafficSettings::default() }
}

/// Answers one request on each connection and closes it, without having said so.
async fn close_after_each(listener: TcpListener) {
    while let Ok((mut stream, _)) = listener.accept().await {
        tokio::task::spawn(async move {
            if stream.read(&mut [0; 4096]).await.is_ok_and(|read| read > 0) {
                let _ = stream.write_all(OK).await;
            }
        });
    }
}

#[tokio::test]
async fn a_server_that_closes_behind_each_answer_fails_no_request() {
    let mesh = Mesh::of(1, weft_proxy::Limits::default()).await;
    let listener = mesh.listen();
    mesh.serve(with_traffic(Http, plenty()), &[listener.local_addr().unwrap()]);
    tokio::task::spawn(close_after_each(listener));
    // Many at once, so that the worker finds the end of a connection and the next request in one go.
    let clients = (0..32).map(|_| async {
        let mut client = mesh.http1().await;
        for n in 0..25 {
            client.ready().await.unwrap();
            let answer = timeout(PATIENCE, client.send_request(get("/"))).await.unwrap().unwrap();
            assert_eq!(read(answer).await, (200, String::new(), "ok".into()), "request {n}");
        }
    });
    futures_util::future::join_all(clients).await;
}

#[tokio::test]
async fn a_closed_connection_is_not_held_against_its_endpoint() {
    let mesh = Mesh::start().await;
    let listener = mesh.listen();
    let other = Server::http1(&mesh, |_| async { http::Response::new(full("other")) });
    let outlier_detection = Some(OutlierDetection {
        consecutive_local_failures: 1,
        max_ejection_percent: 100,
        ..OutlierDetection::default()
    });
    let traffic = TrafficSettings { outlier_detection, ..plenty() };
    mesh.serve(with_traffic(Http, traffic), &[listener.local_addr().unwrap(), other.address]);
    // It resets a kept connection when the next request comes.
    tokio::task::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::task::spawn(async move {
                if stream.read(&mut [0; 4096]).await.is_ok_and(|read| read > 0) {
                    let _ = stream.write_all(OK).await;
                    let _ = stream.readable().await;
                }
            });
        }
    });
    let mut client = mesh.http1().await;
    let mut closing = 0;
    for _ in 0..100 {
        client.ready().await.unwrap();
        let answer = timeout(PATIENCE, client.send_request(get("/"))).await.unwrap().unwrap();
        let (status, _, body) = read(answer).await;
        assert_eq!(status, 200);
        closing += usize::from(body == "ok");
    }
    // By chance fewer than this once in 10^10 runs.
    assert!(closing > 20, "{closing} of 100");
}

#[tokio::test]
async fn a_kept_connection_that_was_closed_takes_none_of_the_policys_attempts() {
    let mesh = Mesh::start().await;
    let listener = mesh.listen();
    let retry =
        Retry { attempts: 1, codes: vec![503], grpc_codes: vec![], backoff: Duration::from_millis(1) };
    mesh.serve(
        with_traffic(Http, TrafficSettings { retry: Some(retry), ..TrafficSettings::default() }),
        &[listener.local_addr().unwrap()],
    );
    tokio::task::spawn(async move {
        let (mut first, _) = listener.accept().await.unwrap();
        assert_ne!(first.read(&mut [0; 4096]).await.unwrap(), 0);
        first.write_all(OK).await.unwrap();
        // The request is in the socket, unread: the close is a reset.
        first.readable().await.unwrap();
        drop(first);
        for answer in [UNAVAILABLE, OK] {
            let (mut next, _) = listener.accept().await.unwrap();
            assert_ne!(next.read(&mut [0; 4096]).await.unwrap(), 0);
            next.write_all(answer).await.unwrap();
        }
    });
    let mut client = mesh.http1().await;
    for n in 0..2 {
        client.ready().await.unwrap();
        let answer = timeout(PATIENCE, client.send_request(get("/"))).await.unwrap().unwrap();
        assert_eq!(read(answer).await.0, 200, "request {n}");
    }
}

#[tokio::test]
async fn a_stream_beyond_a_goaway_goes_to_a_new_connection_whatever_its_method() {
    let mesh = Mesh::start().await;
    let listener = mesh.listen();
    mesh.serve(plain(Http2), &[listener.local_addr().unwrap()]);
    let goes_away = Arc::new(listener);
    tokio::task::spawn(async move {
        loop {
            let (stream, _) = goes_away.accept().await.unwrap();
            tokio::task::spawn(answer_one_and_go_away(stream));
        }
    });
    let mut client = mesh.http2().await;
    for n in 0..8 {
        let request = Request::post("http://web/").body(full("not idempotent")).unwrap();
        let answer = timeout(PATIENCE, client.send_request(request)).await.unwrap().unwrap();
        assert_eq!(read(answer).await.0, 200, "request {n}");
    }
}

const HEADERS: u8 = 1;
const SETTINGS: u8 = 4;
const GOAWAY: u8 = 7;

/// A server of HTTP/2 that answers stream 1, and to any later one says that stream 1 was the last.
async fn answer_one_and_go_away(mut stream: TcpStream) {
    let mut preface = [0; 24];
    stream.read_exact(&mut preface).await.unwrap();
    stream.write_all(&frame(SETTINGS, 0, 0, &[])).await.unwrap();
    let mut head = [0; 9];
    while stream.read_exact(&mut head).await.is_ok() {
        let [_, a, b, kind, flags, ..] = head;
        let number = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
        let mut payload = vec![0; usize::from(a) << 8 | usize::from(b)];
        if stream.read_exact(&mut payload).await.is_err() {
            return;
        }
        match (kind, number) {
            (SETTINGS, _) if flags == 0 => stream.write_all(&frame(SETTINGS, 1, 0, &[])).await.unwrap(),
            // `:status: 200` of the static table, and the end of stream and head.
            (HEADERS, 1) => stream.write_all(&frame(HEADERS, 5, 1, &[0x88])).await.unwrap(),
            (HEADERS, _) => {
                let last_and_no_error = [0, 0, 0, 1, 0, 0, 0, 0];
                stream.write_all(&frame(GOAWAY, 0, 0, &last_and_no_error)).await.unwrap();
            }
            _ => {}
        }
    }
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u8::try_from(payload.len()).unwrap();
    let mut frame = vec![0, 0, length, kind, flags];
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}
