//! Clients that mean no good.

use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::timeout;
use weft_model::AppProtocol::{Http, Http2};

use crate::mesh::{Mesh, PATIENCE, full, get, plain, read};
use crate::server::Server;

#[tokio::test]
async fn a_malformed_body_is_answered_and_the_server_never_gets_a_whole_one() {
    let mesh = Mesh::start().await;
    let listener = mesh.listen();
    mesh.serve(plain(Http), &[listener.local_addr().unwrap()]);
    let mut client = mesh.dial().await;
    client
        .write_all(b"POST / HTTP/1.1\r\nhost: web\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n")
        .await
        .unwrap();
    let (mut server, _) = timeout(PATIENCE, listener.accept()).await.unwrap().unwrap();
    let mut seen = Vec::new();
    while !seen.ends_with(b"2\r\nok\r\n") {
        assert_ne!(timeout(PATIENCE, server.read_buf(&mut seen)).await.unwrap().unwrap(), 0);
    }
    client.write_all(b"0x2\r\nGET /admin HTTP/1.1\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    timeout(PATIENCE, client.read_to_string(&mut answer)).await.unwrap().unwrap();
    assert!(answer.starts_with("HTTP/1.1 400 ") && answer.contains("x-weft-reason: ChunkSize"), "{answer}");
    // A reset or an end, and no last chunk before it.
    let _ = timeout(PATIENCE, server.read_to_end(&mut seen)).await.unwrap();
    assert!(seen.ends_with(b"2\r\nok\r\n"), "{}", seen.escape_ascii());
}

#[tokio::test]
async fn rapid_resets_end_the_connection_and_leave_the_server_in_peace() {
    let mesh = Mesh::start().await;
    let server = Server::http2(&mesh, |_| std::future::pending());
    mesh.serve(plain(Http2), &[server.address]);
    let (mut client, connection) = h2::client::handshake(mesh.dial().await).await.unwrap();
    let ended = tokio::task::spawn(connection);
    let mut sent = 0;
    let resetting = async {
        while let Ok(ready) = client.clone().ready().await {
            client = ready;
            let request = Request::get("http://web/").body(()).unwrap();
            let Ok((_, mut stream)) = client.send_request(request, true) else { break };
            stream.send_reset(h2::Reason::CANCEL);
            sent += 1;
            if sent % 50 == 0 {
                tokio::task::yield_now().await;
            }
        }
    };
    timeout(PATIENCE, resetting).await.expect("the proxy ends it");
    // ENHANCE_YOUR_CALM, or a broken pipe where that came too late for it.
    timeout(PATIENCE, ended).await.unwrap().unwrap().unwrap_err();
    assert!(sent < 10_000, "{sent} were let through");
    let mut other = mesh.http1().await;
    let answered = timeout(Duration::from_millis(100), other.send_request(get("/"))).await;
    assert!(answered.is_err(), "the server does not answer, but it is asked");
}

#[tokio::test]
async fn a_head_that_is_too_large_is_refused_in_either_version() {
    let mesh = Mesh::start().await;
    let server = Server::http1(&mesh, |_| async { Response::new(full("ok")) });
    mesh.serve(plain(Http), &[server.address]);
    let large = "x".repeat(7 << 10);
    let ask = || {
        let mut request = Request::get("http://web/").header("host", "web");
        for n in 0..12 {
            request = request.header(format!("x-{n}"), large.clone());
        }
        request.body(full(Bytes::new())).unwrap()
    };
    let (status, reason, _) = read(mesh.http1().await.send_request(ask()).await.unwrap()).await;
    assert_eq!((status, reason.as_str()), (431, "HeadTooLarge"));
    let answer = mesh.http2().await.send_request(ask()).await;
    assert!(answer.map_or(true, |answer| answer.status() == 431));
    assert!(server.heads().is_empty());
}
