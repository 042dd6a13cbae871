//! Calls and streams of HTTP/2.

use std::{convert::Infallible, error::Error, net::SocketAddr, time::Duration};

use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use http_body_util::{BodyExt as _, Empty, StreamBody};
use hyper::{Request, Response, body::Frame, body::Incoming, client, server, service::service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::time::{Instant, timeout};
use weft_tests::Pod;

use crate::stage::Stage;

const NO_SECRETS: &str =
    "action: DENY, rules: [{httpAttributes: {paths: [{type: PathPrefix, value: /shop.Secrets}]}}]";
const NO_LIST: &str =
    "action: DENY, rules: [{httpAttributes: {paths: [{type: Exact, value: /shop.Items/List}]}}]";
const PORT: u16 = 9090;
const PATIENCE: Duration = Duration::from_secs(30);

type Sender = client::conn::http2::SendRequest<Empty<Bytes>>;

#[test]
fn a_denied_call_is_permission_denied_and_a_change_ends_only_the_calls_that_it_forbids() {
    let Some(stage) = Stage::open(NO_SECRETS) else { return };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let local = tokio::task::LocalSet::new();
    local.block_on(&runtime, async {
        let listener = stage.api.tcp_listen(([0, 0, 0, 0], PORT).into()).unwrap();
        listener.set_nonblocking(true).unwrap();
        tokio::task::spawn_local(serve(tokio::net::TcpListener::from_std(listener).unwrap()));
        let mut sender = connect(&stage.web, stage.api.addr(PORT)).await.unwrap();
        let refused = call(&mut sender, "/shop.Secrets/Get").await;
        assert_eq!(refused.status(), 200, "a call is refused inside gRPC");
        assert_eq!(refused.headers()["grpc-status"], "7");
        assert_eq!(refused.headers()["x-weft-reason"], "PolicyDenied");
        let mut forbidden = call(&mut sender, "/shop.Items/List").await.into_body();
        let mut allowed = call(&mut sender, "/shop.Items/Watch").await.into_body();
        assert!(next(&mut forbidden).await && next(&mut allowed).await);
        stage.apply(NO_LIST);
        let enforced = Instant::now();
        while next(&mut forbidden).await {}
        assert!(enforced.elapsed() < Duration::from_secs(1), "{:?}", enforced.elapsed());
        for _ in 0..20 {
            assert!(next(&mut allowed).await, "another stream of the same connection goes on");
        }
        let now = call(&mut sender, "/shop.Secrets/Get").await;
        assert!(!now.headers().contains_key("x-weft-reason"), "nothing forbids it any more");
    });
}

async fn connect(from: &Pod, to: SocketAddr) -> Result<Sender, Box<dyn Error>> {
    let stream = from.tcp_connect(to)?;
    stream.set_nonblocking(true)?;
    let io = TokioIo::new(tokio::net::TcpStream::from_std(stream)?);
    let (sender, connection) = client::conn::http2::handshake(TokioExecutor::new(), io).await?;
    tokio::task::spawn_local(connection);
    Ok(sender)
}

async fn call(sender: &mut Sender, path: &str) -> Response<Incoming> {
    let request = Request::post(format!("http://api.shop{path}")).header("content-type", "application/grpc");
    let answer = sender.send_request(request.body(Empty::new()).unwrap());
    timeout(PATIENCE, answer).await.expect("it is answered").unwrap()
}

/// Whether one more piece comes.
async fn next(body: &mut Incoming) -> bool {
    let frame = timeout(PATIENCE, body.frame()).await.expect("the stream goes on or ends");
    matches!(frame, Some(Ok(_)))
}

/// Answers every call without end.
async fn serve(listener: tokio::net::TcpListener) {
    while let Ok((stream, _)) = listener.accept().await {
        let service = service_fn(|_: Request<Incoming>| async {
            let pieces = stream::unfold((), |()| async {
                tokio::time::sleep(Duration::from_millis(10)).await; // a stream that goes on, not a flood
                Some((Ok::<_, Infallible>(Frame::data(Bytes::from_static(&[0, 0, 0, 0, 1, 7]))), ()))
            });
            let mut answer = Response::new(StreamBody::new(pieces.boxed()));
            answer.headers_mut().insert("content-type", "application/grpc".parse().expect("a value"));
            Ok::<_, Infallible>(answer)
        });
        let server = server::conn::http2::Builder::new(TokioExecutor::new());
        let connection = server.serve_connection(TokioIo::new(stream), service);
        tokio::task::spawn_local(async move {
            // The client ends it.
            let _ = connection.await;
        });
    }
}
