//! Clients of HTTP/2 that send much and ask for nothing, and servers that answer nothing.

use http::{Request, Response};
use http_body_util::BodyExt as _;
use tokio::io::AsyncWriteExt as _;
use tokio::time::timeout;
use weft_model::AppProtocol::{Http, Http2};
use weft_proxy::{Limits, Reason};

use crate::frames::{
    CONTINUATION, DATA, END_HEADERS, END_STREAM, End, GET, HEADERS, PING, POST, PRIORITY, RST_STREAM, Raw,
    SETTINGS, WINDOW_UPDATE, frame,
};
use crate::mesh::{Mesh, PATIENCE, empty, full, get, plain, read};
use crate::server::Server;

/// What comes first, and what is repeated without end; `number` counts.
struct Flood {
    name: &'static str,
    first: fn() -> Vec<u8>,
    each: fn(u32) -> Vec<u8>,
    /// Of a server: whether its answer has begun.
    answers: bool,
}

#[tokio::test]
async fn a_flood_ends_its_connection_after_few_bytes_and_no_other_connection() {
    let mesh = Mesh::start().await;
    let server = Server::http1(&mesh, |request| async move {
        match request.method().as_str() {
            "GET" => Response::new(full("ok")),
            _ => std::future::pending().await,
        }
    });
    mesh.serve(plain(Http), &[server.address]);
    let mut other = mesh.http1().await;
    for flood in FLOODS {
        let before = received(&mesh);
        let end = send(&mesh, flood).await;
        // ENHANCE_YOUR_CALM, or a reset.
        assert!(matches!(end, End::Goaway(11) | End::Closed), "{}: {end:?}", flood.name);
        assert_eq!(mesh.refused().await, Reason::FLOOD, "{}", flood.name);
        let taken = received(&mesh) - before;
        assert!(taken < MOST, "{}: {taken} bytes were taken in", flood.name);
        other.ready().await.unwrap();
        let answer = timeout(PATIENCE, other.send_request(get("/"))).await.unwrap().unwrap();
        assert_eq!(read(answer).await.0, 200, "after {}", flood.name);
    }
}

#[tokio::test]
async fn fields_without_a_name_end_the_connection_before_anything_is_kept_of_them() {
    let mesh = Mesh::start().await;
    let server = Server::http1(&mesh, |_| async { Response::new(full("ok")) });
    mesh.serve(plain(Http), &[server.address]);
    // CVE-2019-9516: each costs 32 bytes where it is kept, and one where it is sent.
    let block = [GET, &b"\x00\x00\x00".repeat(2_000)].concat();
    let mut client = Raw::connect(&mesh, &[]).await;
    client.send(HEADERS, END_HEADERS | END_STREAM, 1, &block).await;
    let end = timeout(PATIENCE, client.reader.end()).await.expect("the proxy ends it");
    // PROTOCOL_ERROR, or a reset.
    assert!(matches!(end, End::Goaway(1) | End::Closed), "{end:?}");
    assert!(server.heads().is_empty());
}

#[tokio::test]
async fn frames_that_go_with_answers_are_no_flood() {
    let mesh = Mesh::with(Limits { h2_frames: 20, ..Limits::default() }).await;
    let server = Server::http1(&mesh, |_| async { Response::new(full("ok")) });
    mesh.serve(plain(Http), &[server.address]);
    let mut client = Raw::connect(&mesh, &[]).await;
    for number in 0..100 {
        let stream = 2 * number + 1;
        client.send(HEADERS, END_HEADERS | END_STREAM, stream, GET).await;
        client.expect(DATA, stream).await;
        for _ in 0..5 {
            client.send(PING, 0, 0, &[0; 8]).await;
            client.send(WINDOW_UPDATE, 0, 0, &1_u32.to_be_bytes()).await;
        }
    }
    assert_eq!(server.heads().len(), 100);
}

#[tokio::test]
async fn bodies_that_come_after_early_answers_are_no_flood() {
    let mesh = Mesh::start().await;
    let server = Server::http1(&mesh, |_| async { Response::new(full("no need")) });
    mesh.serve(plain(Http), &[server.address]);
    let mut client = Raw::connect(&mesh, &[]).await;
    let streams = (0..300).map(|number| 2 * number + 1);
    for stream in streams.clone() {
        client.send(HEADERS, END_HEADERS, stream, POST).await;
        // The answer is over, and nobody reads the body.
        client.expect(RST_STREAM, stream).await;
    }
    // Of most streams nobody knows any more.
    for stream in streams {
        client.send(DATA, END_STREAM, stream, b"late").await;
    }
    client.send(HEADERS, END_HEADERS | END_STREAM, 1001, GET).await;
    client.expect(DATA, 1001).await;
}

/// Sends a flood until the proxy ends the connection, and says how it ended.
async fn send(mesh: &Mesh, flood: &Flood) -> End {
    let Raw { mut reader, mut writer } = Raw::connect(mesh, &[]).await;
    let flooding = async move {
        let mut bytes = (flood.first)();
        for number in 0.. {
            bytes.extend((flood.each)(number));
            // Not a whole buffer at once: the proxy is to see it grow.
            if bytes.len() >= 1 << 10 {
                if writer.write_all(&bytes).await.is_err() {
                    break;
                }
                bytes.clear();
            }
        }
    };
    let ended = timeout(PATIENCE, async { tokio::join!(flooding, reader.end()) }).await;
    ended.unwrap_or_else(|_| panic!("{} is let through", flood.name)).1
}

#[tokio::test]
async fn a_server_that_floods_is_cut_off_and_its_client_told_why() {
    let mesh = Mesh::start().await;
    let listener = mesh.listen();
    mesh.serve(plain(Http2), &[listener.local_addr().unwrap()]);
    let mut client = mesh.http2().await;
    for flood in SERVER_FLOODS {
        let flooding = async {
            let Raw { mut writer, .. } = Raw::accept(&listener).await;
            let mut bytes = (flood.first)();
            while writer.write_all(&bytes).await.is_ok() {
                bytes = (0..32).flat_map(flood.each).collect();
            }
        };
        let request = Request::get("http://web/").body(empty()).unwrap();
        let asked = async { tokio::join!(client.send_request(request), flooding).0 };
        let answer =
            timeout(PATIENCE, asked).await.unwrap_or_else(|_| panic!("{} is let through", flood.name));
        match answer {
            Ok(answer) if flood.answers => drop(answer.into_body().collect().await.unwrap_err()),
            Ok(answer) => assert_eq!(read(answer).await.1, "Flood", "{}", flood.name),
            // The answer's head was not on its way yet.
            Err(_) => assert!(flood.answers, "{}", flood.name),
        }
        assert_eq!(mesh.request().await.reason, Some(Reason::FLOOD), "{}", flood.name);
    }
}

#[tokio::test]
async fn a_server_that_answers_much_may_ping_as_it_does_so() {
    let mesh = Mesh::with(Limits { h2_frames: 20, ..Limits::default() }).await;
    let listener = mesh.listen();
    mesh.serve(plain(Http2), &[listener.local_addr().unwrap()]);
    let answering = async {
        let mut server = Raw::accept(&listener).await;
        // `:status: 200` of the static table.
        server.send(HEADERS, END_HEADERS, 1, &[0x88]).await;
        for number in 0..200 {
            let last = if number == 199 { END_STREAM } else { 0 };
            server.send(PING, 0, 0, &[7; 8]).await;
            server.send(DATA, last, 1, b"x").await;
        }
        server
    };
    let mut client = mesh.http2().await;
    let asking = async {
        let request = Request::get("http://web/").body(empty()).unwrap();
        read(client.send_request(request).await.unwrap()).await
    };
    let (answer, _server) = timeout(PATIENCE, async { tokio::join!(asking, answering) }).await.unwrap();
    assert_eq!((answer.0, answer.2.len()), (200, 200));
}

/// Bytes that the proxy has read from the pod.
fn received(mesh: &Mesh) -> u64 {
    mesh.handle.report().pods[0].1.received
}

fn nothing() -> Vec<u8> {
    Vec::new()
}

fn head(number: u32, flags: u8, block: &[u8]) -> Vec<u8> {
    frame(HEADERS, flags, 2 * number + 1, block)
}

const FLOODS: &[Flood] = &[
    Flood { name: "SETTINGS", first: nothing, each: |_| frame(SETTINGS, 0, 0, &[]), answers: false },
    Flood { name: "PING", first: nothing, each: |_| frame(PING, 0, 0, &[7; 8]), answers: false },
    Flood {
        name: "WINDOW_UPDATE",
        first: nothing,
        each: |_| frame(WINDOW_UPDATE, 0, 0, &1_u32.to_be_bytes()),
        answers: false,
    },
    Flood {
        name: "PRIORITY",
        first: nothing,
        each: |_| frame(PRIORITY, 0, 1, &[0, 0, 0, 3, 7]),
        answers: false,
    },
    Flood { name: "unknown frames", first: nothing, each: |_| frame(0x42, 0, 0, &[]), answers: false },
    Flood {
        name: "empty DATA",
        first: || head(0, END_HEADERS, POST),
        each: |_| frame(DATA, 0, 1, &[]),
        answers: false,
    },
    Flood {
        name: "empty CONTINUATION (CVE-2024-27316)",
        first: || head(0, END_STREAM, GET),
        each: |_| frame(CONTINUATION, 0, 1, &[]),
        answers: false,
    },
    Flood {
        name: "CONTINUATION with fields",
        first: || head(0, END_STREAM, GET),
        // A literal without indexing: `a: b`.
        each: |_| frame(CONTINUATION, 0, 1, b"\x00\x01a\x01b"),
        answers: false,
    },
    Flood {
        name: "resets (CVE-2023-44487)",
        first: nothing,
        each: |number| {
            let cancel = frame(RST_STREAM, 0, 2 * number + 1, &8_u32.to_be_bytes());
            [head(number, END_HEADERS | END_STREAM, POST), cancel].concat()
        },
        answers: false,
    },
];

const SERVER_FLOODS: &[Flood] = &[
    Flood { name: "SETTINGS", first: nothing, each: |_| frame(SETTINGS, 0, 0, &[]), answers: false },
    Flood { name: "PING", first: nothing, each: |_| frame(PING, 0, 0, &[7; 8]), answers: false },
    Flood {
        name: "WINDOW_UPDATE",
        first: nothing,
        each: |_| frame(WINDOW_UPDATE, 0, 0, &1_u32.to_be_bytes()),
        answers: false,
    },
    Flood { name: "unknown frames", first: nothing, each: |_| frame(0x42, 0, 0, &[]), answers: false },
    Flood {
        name: "empty DATA",
        first: || frame(HEADERS, END_HEADERS, 1, &[0x88]),
        each: |_| frame(DATA, 0, 1, &[]),
        answers: true,
    },
    Flood {
        name: "CONTINUATION",
        first: || frame(HEADERS, 0, 1, &[0x88]),
        each: |_| frame(CONTINUATION, 0, 1, b"\x00\x01a\x01b"),
        answers: false,
    },
];

/// Bytes that the proxy may read before it has had enough: the largest, CONTINUATION with fields, needs a head's 64 KiB.
const MOST: u64 = 256 << 10;
