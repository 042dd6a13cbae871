//! A request that is refused for its token, wherever one would look for it.

use std::{error::Error, net::SocketAddr};

use bytes::Bytes;
use http_body::Body as _;
use http_body_util::Empty;
use hyper::{Request, Response, body::Incoming, client};
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::{Value, json};
use weft_tests::{Pod, manifests, soon};

use crate::stage::{READERS, Stage};

#[test]
fn a_refused_token_is_counted_logged_and_observed_with_its_reason() {
    let Some(stage) = Stage::open(Some(READERS)) else { return };
    let log = "{targetRefs: [{kind: Pod, selector: {}}], accessLog: {mode: Enabled}}";
    stage.node.apply_and_wait("log.yaml", &manifests::telemetry_policy("shop/log", log));
    stage.gets(&stage.web, Some(&stage.key.token(&json!({"realm": {"groups": "readers"}}))), (200, ""));
    let counted = |code: &str, flag: &str| {
        let labels = [format!("response_code=\"{code}\""), format!("response_flags=\"{flag}\"")];
        let of_api = ["destination_workload=\"api\"", "source_workload=\"web\"", &labels[0], &labels[1]];
        stage.node.metric("istio_requests_total", &of_api)
    };
    let rejected = |reason: &str| {
        let labels = ["namespace=\"shop\"", "pod=\"api\"", &*format!("reason=\"{reason}\"")];
        stage.node.metric("weft_proxy_rejected_total", &labels)
    };
    for (token, status, reason) in [
        (stage.key.token(&json!({"aud": "bank"})), 401, "TokenAudience"),
        ("not.a.token".to_owned(), 401, "TokenMalformed"),
        (stage.key.token(&json!({})), 403, "NotAllowed"),
    ] {
        let answer = stage.gets(&stage.web, Some(&token), (status, reason));
        assert_eq!(answer.headers.contains_key("www-authenticate"), status == 401, "{reason}");
        soon(|| counted(&status.to_string(), "UAEX") >= 1.0 && rejected(reason) >= 1.0);
        let is_it = |line: &Value| line["reason"] == reason && line["status"] == status;
        soon(|| stage.logged().iter().any(|line| is_it(line) && line["response_flags"] == "UAEX"));
        let refused = |flow: &Value| {
            flow["verdict"] == "DENIED"
                && flow["reason"] == reason
                && flow["http"]["status"] == status
                && flow["source"]["pod"] == "web"
                && flow["destination"]["pod"] == "api"
        };
        soon(|| stage.node.flows(&[]).iter().any(refused));
    }
    let tokens = stage.logged().iter().any(|line| line.to_string().contains("not.a.token"));
    assert!(!tokens && !stage.agent.log().contains("not.a.token"), "no token is written anywhere");
}

#[test]
fn a_call_with_a_bad_token_is_unauthenticated_and_has_no_body() {
    let Some(stage) = Stage::open(Some(READERS)) else { return };
    stage.gets(&stage.web, Some("not.a.token"), (401, "TokenMalformed"));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let local = tokio::task::LocalSet::new();
    for (token, code, reason) in [
        ("not.a.token".to_owned(), "16", "TokenMalformed"),
        (stage.key.token(&json!({"exp": 1_000_000_000})), "16", "TokenExpired"),
        (stage.key.token(&json!({})), "7", "NotAllowed"),
    ] {
        let answer = local.block_on(&runtime, call(&stage.web, stage.api.addr(8080), &token)).unwrap();
        assert_eq!(answer.status(), 200, "{reason}: gRPC says it in its own status");
        let headers = answer.headers();
        assert_eq!(
            (&headers["grpc-status"], &headers["x-weft-reason"]),
            (&code.parse().unwrap(), &reason.parse().unwrap())
        );
        assert_eq!(headers["content-type"], "application/grpc");
        assert!(answer.body().is_end_stream(), "{reason}: the headers are the trailers");
    }
    let counted = |status: &str| {
        let labels = ["request_protocol=\"grpc\"", &*format!("grpc_response_status=\"{status}\"")];
        stage.node.metric("istio_requests_total", &labels)
    };
    soon(|| counted("16") >= 2.0 && counted("7") >= 1.0);
}

async fn call(from: &Pod, to: SocketAddr, token: &str) -> Result<Response<Incoming>, Box<dyn Error>> {
    let stream = from.tcp_connect(to)?;
    stream.set_nonblocking(true)?;
    let io = TokioIo::new(tokio::net::TcpStream::from_std(stream)?);
    let (mut sender, connection) = client::conn::http2::handshake(TokioExecutor::new(), io).await?;
    tokio::task::spawn_local(connection);
    let request = Request::post("http://api.shop/shop.Items/List").header("content-type", "application/grpc");
    let request = request.header("authorization", format!("Bearer {token}"));
    Ok(sender.send_request(request.body(Empty::<Bytes>::new())?).await?)
}
