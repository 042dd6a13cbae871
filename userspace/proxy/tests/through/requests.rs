//! What HTTP is, from the client to the server and back.

use crate::mesh::{Body, Mesh, PATIENCE, empty, full, get, plain, read, routed, rule};
use crate::parked::until;
use crate::server::Server;
use http_body_util::BodyExt as _;
use hyper::{Request, Response, body::Incoming};
use rustix::net::sockopt::set_socket_linger;
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::timeout;
use weft_model::AppProtocol::{Detect, Http, Http2};
use weft_proxy::Reason;

async fn echo(request: Request<Incoming>) -> Response<Body> {
    let (parts, body) = request.into_parts();
    let body = body.collect().await.unwrap();
    let trailers = body.trailers().cloned();
    let text = [format!("{} {} ", parts.method, parts.uri).into_bytes(), body.to_bytes().to_vec()].concat();
    let mut answer = Response::new(full(text));
    if let Some(trailers) = trailers {
        let said = trailers.get("x-sum").map(|value| value.to_str().unwrap().to_owned());
        answer.headers_mut().insert("x-trailer", said.unwrap_or_default().parse().unwrap());
    }
    answer
}

#[tokio::test]
async fn one_connection_carries_request_after_request() {
    let mesh = Mesh::start().await;
    let server = Server::http1(&mesh, echo);
    mesh.serve(plain(Http), &[server.address]);
    let mut client = mesh.http1().await;
    for n in 0..10 {
        client.ready().await.unwrap();
        let answer = client.send_request(get(&format!("/{n}"))).await.unwrap();
        assert_eq!(read(answer).await, (200, String::new(), format!("GET /{n} ")));
    }
    assert_eq!(server.accepted(), 1, "the upstream connection is kept");
    let head = &server.heads()[0];
    assert_eq!(head.headers["host"], "web");
    assert_eq!(head.headers["x-request-id"].len(), 36);
}

#[tokio::test]
async fn what_says_which_trace_a_request_is_of_reaches_the_server_as_it_came() {
    // W3C Trace Context, B3 in one header and in several, and the id that somebody has given it before.
    let told = [
        ("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"),
        ("tracestate", "a=1,b=2"),
        ("b3", "80f198ee56343ba864fe8b2a57d3eff7-e457b5a2e4d86bd1-1-05e3ac9a4f6e3b90"),
        ("x-b3-traceid", "80f198ee56343ba864fe8b2a57d3eff7"),
        ("x-b3-spanid", "e457b5a2e4d86bd1"),
        ("x-b3-parentspanid", "05e3ac9a4f6e3b90"),
        ("x-b3-sampled", "1"),
        ("x-b3-flags", "1"),
        ("x-request-id", "given-before"),
    ];
    let mesh = Mesh::start().await;
    let (one, two) = (Server::http1(&mesh, echo), Server::http2(&mesh, echo));
    for (spoken, server) in [(Http, &one), (Http2, &two)] {
        mesh.serve(plain(spoken), &[server.address]);
        let mut client = mesh.http1().await;
        let mut request = get("/");
        for (name, value) in told {
            request.headers_mut().insert(name, value.parse().unwrap());
        }
        assert_eq!(read(client.send_request(request).await.unwrap()).await.0, 200);
        let head = &server.heads()[0];
        for (name, value) in told {
            let values: Vec<_> = head.headers.get_all(name).iter().collect();
            assert_eq!(values, [value], "{name}, {spoken:?}");
        }
    }
}

#[tokio::test]
async fn without_an_origin_a_connection_is_reset() {
    let mesh = Mesh::start().await;
    let server = Server::http1(&mesh, echo);
    mesh.serve(plain(Http), &[server.address]);
    // The reset may be there before connect has returned.
    let connecting = async { mesh.try_dial(false).await?.read(&mut [0]).await };
    let read = timeout(PATIENCE, connecting).await.unwrap();
    assert_eq!(read.unwrap_err().kind(), std::io::ErrorKind::ConnectionReset);
    assert_eq!(mesh.connection().await.reason, Some(Reason::NO_ORIGIN));
    assert_eq!(mesh.handle.report().pods[0].1.refused, 1);
    assert_eq!(server.accepted(), 0);
}

#[tokio::test]
async fn of_a_client_that_was_reset_before_it_was_accepted_nothing_is_told() {
    let mesh = Mesh::start().await;
    let server = Server::http1(&mesh, echo);
    mesh.serve(plain(Http), &[server.address]);
    mesh.handle.remove_pod(mesh.cookie()).await.unwrap();
    let waiting = mesh.try_dial(false).await.unwrap();
    set_socket_linger(&waiting, Some(Duration::ZERO)).unwrap();
    drop(waiting);
    mesh.handle.add_pod(mesh.pod()).await.unwrap();
    until(&mesh, "accepted", |usage| usage.connections_total > 0).await;
    let mut client = mesh.http1().await;
    assert_eq!(read(client.send_request(get("/")).await.unwrap()).await.0, 200);
    drop(client);
    assert!(mesh.connection().await.dialled.is_some(), "the first that is told");
    assert_eq!(mesh.handle.report().pods[0].1.refused, 0);
}

#[tokio::test]
async fn a_client_that_goes_without_a_word_was_refused_nothing() {
    let mesh = Mesh::start().await;
    let server = Server::http1(&mesh, echo);
    for protocol in [Http, Detect] {
        mesh.serve(plain(protocol), &[server.address]);
        for resets in [false, true] {
            let before = mesh.handle.report().pods[0].1.connections_total;
            let client = mesh.dial().await;
            until(&mesh, "accepted", |usage| usage.connections_total > before).await;
            if resets {
                set_socket_linger(&client, Some(Duration::ZERO)).unwrap();
            }
            drop(client);
            assert_eq!(mesh.connection().await.reason, None, "{protocol:?}, reset: {resets}");
        }
    }
    assert_eq!(mesh.handle.report().pods[0].1.refused, 0);
}

#[tokio::test]
async fn malformed_framing_is_answered_and_nothing_of_it_is_forwarded() {
    let mesh = Mesh::start().await;
    let server = Server::http1(&mesh, echo);
    mesh.serve(plain(Detect), &[server.address]);
    let mut stream = mesh.dial().await;
    let smuggling =
        b"POST / HTTP/1.1\r\nhost: web\r\ncontent-length: 3\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n";
    stream.write_all(smuggling).await.unwrap();
    let mut answer = String::new();
    timeout(PATIENCE, stream.read_to_string(&mut answer)).await.unwrap().unwrap();
    assert!(
        answer.starts_with("HTTP/1.1 400 ") && answer.contains("x-weft-reason: LengthAndEncoding"),
        "{answer}"
    );
    assert!(server.heads().is_empty());
}

#[tokio::test]
async fn pipelined_requests_are_answered_in_order() {
    let mesh = Mesh::start().await;
    let server = Server::http1(&mesh, echo);
    mesh.serve(plain(Http), &[server.address]);
    let mut stream = mesh.dial().await;
    let requests = "GET /1 HTTP/1.1\r\nhost: web\r\n\r\nGET /2 HTTP/1.1\r\nhost: web\r\n\r\nGET /3 HTTP/1.1\r\nhost: web\r\nconnection: close\r\n\r\n";
    stream.write_all(requests.as_bytes()).await.unwrap();
    let mut answers = String::new();
    timeout(PATIENCE, stream.read_to_string(&mut answers)).await.unwrap().unwrap();
    let places: Vec<_> = (1..=3).map(|n| answers.find(&format!("GET /{n}")).unwrap()).collect();
    assert!(places.is_sorted(), "{answers}");
}

#[tokio::test]
async fn a_chunked_body_and_its_trailers_arrive() {
    let mesh = Mesh::start().await;
    let server = Server::http1(&mesh, echo);
    mesh.serve(plain(Http), &[server.address]);
    let mut stream = mesh.dial().await;
    let request = "POST /up HTTP/1.1\r\nhost: web\r\ntransfer-encoding: chunked\r\ntrailer: x-sum\r\nconnection: close\r\n\r\n4\r\nabcd\r\n3\r\nefg\r\n0\r\nx-sum: 7\r\n\r\n";
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    timeout(PATIENCE, stream.read_to_string(&mut answer)).await.unwrap().unwrap();
    assert!(answer.contains("x-trailer: 7") && answer.ends_with("POST /up abcdefg"), "{answer}");
}

#[tokio::test]
async fn expect_continue_is_answered_here_and_ends_here() {
    let mesh = Mesh::start().await;
    let server = Server::http1(&mesh, echo);
    mesh.serve(plain(Http), &[server.address]);
    let mut stream = mesh.dial().await;
    stream
        .write_all(b"PUT / HTTP/1.1\r\nhost: web\r\ncontent-length: 2\r\nexpect: 100-continue\r\nconnection: close\r\n\r\n")
        .await
        .unwrap();
    let mut interim = [0; 25];
    timeout(PATIENCE, stream.read_exact(&mut interim)).await.unwrap().unwrap();
    assert_eq!(&interim, b"HTTP/1.1 100 Continue\r\n\r\n");
    stream.write_all(b"ok").await.unwrap();
    let mut answer = String::new();
    timeout(PATIENCE, stream.read_to_string(&mut answer)).await.unwrap().unwrap();
    assert!(answer.ends_with("PUT / ok"), "{answer}");
    assert!(!server.heads()[0].headers.contains_key("expect"));
}

#[tokio::test]
async fn head_has_the_length_and_no_body_and_the_connection_goes_on() {
    let mesh = Mesh::start().await;
    let server = Server::http1(&mesh, |_| async { Response::new(full("12345")) });
    mesh.serve(plain(Http), &[server.address]);
    let mut client = mesh.http1().await;
    for _ in 0..2 {
        client.ready().await.unwrap();
        let request = Request::head("/").header("host", "web").body(empty()).unwrap();
        let answer = client.send_request(request).await.unwrap();
        assert_eq!(answer.headers()["content-length"], "5");
        assert_eq!(read(answer).await.2, "");
    }
    assert_eq!(server.accepted(), 1);
}

#[tokio::test]
async fn http2_with_prior_knowledge_reaches_a_server_of_either_version() {
    let mesh = Mesh::start().await;
    let (one, two) = (Server::http1(&mesh, echo), Server::http2(&mesh, echo));
    for (protocol, server) in [(Http, &one), (Http2, &two)] {
        mesh.serve(plain(protocol), &[server.address]);
        let mut client = mesh.http2().await;
        let request = Request::post("http://web/x?y=1")
            .header("cookie", "a=1")
            .header("cookie", "b=2")
            .body(full("body"))
            .unwrap();
        let (status, _, body) = read(client.send_request(request).await.unwrap()).await;
        assert_eq!(status, 200);
        assert!(body.starts_with("POST ") && body.ends_with("/x?y=1 body"), "{body}");
    }
    let head = &one.heads()[0];
    assert_eq!((head.headers["host"].to_str().unwrap(), head.uri.to_string()), ("web", "/x?y=1".to_owned()));
    assert_eq!(head.headers["cookie"], "a=1; b=2");
    assert_eq!(two.heads()[0].uri.to_string(), "http://web/x?y=1");
}

#[tokio::test]
async fn http1_reaches_a_server_of_http2() {
    let mesh = Mesh::start().await;
    let server = Server::http2(&mesh, echo);
    mesh.serve(plain(Http2), &[server.address]);
    let mut client = mesh.http1().await;
    let request =
        Request::post("/x").header("host", "web:80").header("connection", "x-hop").header("x-hop", "1");
    let answer = client.send_request(request.body(full("body")).unwrap()).await.unwrap();
    assert_eq!(read(answer).await, (200, String::new(), "POST http://web:80/x body".to_owned()));
    assert!(!server.heads()[0].headers.contains_key("x-hop"));
}

#[tokio::test]
async fn a_request_takes_the_rule_that_matches_or_none() {
    let mesh = Mesh::start().await;
    let (a, b) = (Server::http1(&mesh, echo), Server::http1(&mesh, echo));
    let rules = vec![rule("/a", &[("a", 1)]), rule("/b", &[("b", 1)]), rule("/none", &[("gone", 1)])];
    mesh.serve_all(
        routed(Http, rules),
        &[],
        &[("a", None, &[a.address]), ("b", None, &[b.address]), ("gone", None, &[])],
    );
    let mut client = mesh.http1().await;
    for (path, status, reason) in [
        ("/a/1", 200, ""),
        ("/b", 200, ""),
        ("/c", 404, "NoRule"),
        ("/none", 503, "NoEndpoints"),
        ("/a/%00", 400, "PathInvalid"),
    ] {
        client.ready().await.unwrap();
        let (got, why, _) = read(client.send_request(get(path)).await.unwrap()).await;
        assert_eq!((got, why.as_str()), (status, reason), "{path}");
    }
    assert_eq!((a.heads().len(), b.heads().len()), (1, 1));
}
