//! Calls and streams of HTTP/2.

use std::{convert::Infallible, error::Error, net::SocketAddr, time::Duration};

use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use http_body_util::{BodyExt as _, Empty, StreamBody};
use hyper::{Request, Response, body::Frame, body::Incoming, client, server, service::service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::time::{Instant, timeout};
use weft_tests::{Pod, manifests, soon};

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
    while_serving(&stage, async {
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

#[test]
fn a_policy_for_a_grpc_route_is_asked_about_its_calls_and_about_no_others() {
    let spec = "{clusterIP: 10.96.0.3, selector: {app: api}, ports: [{name: grpc, port: 90, targetPort: 9090, \
                appProtocol: kubernetes.io/h2c}]}";
    let policy = format!(
        "{{targetRefs: [{{group: gateway.networking.k8s.io, kind: GRPCRoute, name: calls}}], {NO_SECRETS}}}"
    );
    let documents = [
        ("calls.yaml", manifests::service("shop/calls", spec)),
        ("route.yaml", ROUTE.to_owned()),
        ("policy.yaml", manifests::authorization_policy("shop/calls", &policy)),
    ];
    let Some(stage) = Stage::start(&documents) else { return };
    soon(|| stage.node.has_proxy());
    stage.node.wait();
    while_serving(&stage, async {
        let mut by_route = connect(&stage.web, ([10, 96, 0, 3], 90).into()).await.unwrap();
        let refused = call(&mut by_route, "/shop.Secrets/Get").await;
        assert_eq!(
            (refused.status(), &refused.headers()["grpc-status"]),
            (200.try_into().unwrap(), &"7".parse().unwrap())
        );
        assert_eq!(refused.headers()["x-weft-reason"], "PolicyDenied");
        let taken = call(&mut by_route, "/shop.Items/List").await;
        assert!(!taken.headers().contains_key("x-weft-reason"), "{taken:?}");
        let mut by_pod = connect(&stage.web, stage.api.addr(PORT)).await.unwrap();
        let taken = call(&mut by_pod, "/shop.Secrets/Get").await;
        assert!(!taken.headers().contains_key("x-weft-reason"), "it takes no route");
    });
}

const ROUTE: &str = "apiVersion: gateway.networking.k8s.io/v1
kind: GRPCRoute
metadata: {name: calls, namespace: shop}
spec:
  parentRefs: [{group: \"\", kind: Service, name: calls, port: 90}]
  rules: [{backendRefs: [{name: calls, port: 90}]}]
";

/// Does `work` while `api` answers calls.
fn while_serving(stage: &Stage, work: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    tokio::task::LocalSet::new().block_on(&runtime, async {
        let listener = stage.api.tcp_listen(([0, 0, 0, 0], PORT).into()).unwrap();
        listener.set_nonblocking(true).unwrap();
        tokio::task::spawn_local(serve(tokio::net::TcpListener::from_std(listener).unwrap()));
        work.await;
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
