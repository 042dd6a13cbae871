//! Requests in metrics: Istio's names and labels, whatever became of the request.

use std::error::Error;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper::body::Frame;
use hyper::header::{HeaderMap, HeaderValue};
use hyper::service::service_fn;
use hyper::{Request, Response, client, server};
use hyper_util::rt::{TokioExecutor, TokioIo};
use weft_tests::{Pod, eventually, manifests, soon};

use crate::shop::{FRONT, Shop};

#[test]
fn each_answer_is_counted_with_its_status_its_flag_and_both_ends() {
    let Some(shop) = Shop::open_with("{}", ROUTE) else { return };
    shop.world.apply("empty.yaml", &manifests::service("shop/empty", EMPTY));
    let spec = "{targetRefs: [{group: \"\", kind: Pod, selector: {matchLabels: {app: v1}}}], action: ALLOW, rules: \
                [{sources: [{type: ServiceAccount, serviceAccount: {namespace: shop, name: nobody}}]}]}";
    shop.world.apply("policy.yaml", &manifests::authorization_policy("shop/v1", spec));
    shop.node.wait();
    let status = |path: &str| shop.web.get(FRONT, path, &[]).unwrap().status;
    soon(|| status("/v1") == 403 && status("/empty") == 503);
    assert_eq!((status("/nowhere"), status("/v2/status/204")), (404, 200));
    let mut client = shop.web.http(FRONT).unwrap();
    assert_eq!(client.ask(("POST", "/v2"), &[], &[7; 500]).unwrap().status, 200);
    // Status, flag, the pod that was asked, and whether that reports, too.
    for (code, flag, server, both) in [
        (200, "-", "v2", true),
        (403, "UAEX", "v1", true),
        (404, "NR", "unknown", false),
        (503, "UH", "unknown", false),
    ] {
        let labels = [
            "source_workload=\"web\"".to_owned(),
            "source_workload_namespace=\"shop\"".to_owned(),
            "source_principal=\"spiffe://cluster.local/ns/shop/sa/web\"".to_owned(),
            format!("destination_workload=\"{server}\""),
            "destination_service=\"front.shop.svc.cluster.local\"".to_owned(),
            "destination_service_name=\"front\"".to_owned(),
            "destination_service_namespace=\"shop\"".to_owned(),
            "request_protocol=\"http\"".to_owned(),
            format!("response_code=\"{code}\""),
            format!("response_flags=\"{flag}\""),
            "connection_security_policy=\"none\"".to_owned(),
            "path=\"http\"".to_owned(),
        ];
        let count = |name: &str, reporter: &str| {
            let reporter = format!("reporter=\"{reporter}\"");
            let labels: Vec<&str> = labels.iter().map(String::as_str).chain([&*reporter]).collect();
            shop.node.metric(name, &labels)
        };
        soon(|| count("istio_requests_total", "source") >= 1.0);
        assert!((count("istio_requests_total", "destination") >= 1.0) == both, "{code}");
        let requests = count("istio_requests_total", "source");
        for histogram in
            ["istio_request_duration_milliseconds", "istio_request_bytes", "istio_response_bytes"]
        {
            let counted = count(&format!("{histogram}_count"), "source");
            assert!(counted >= requests, "{histogram} of {code}: {counted} of {requests}");
        }
    }
    let of_v2 = ["reporter=\"source\"", "destination_workload=\"v2\""];
    soon(|| shop.node.metric("istio_request_bytes_sum", &of_v2) >= 500.0);
    assert!(shop.node.metric("istio_response_bytes_sum", &of_v2) >= 200.0, "each answer says what was seen");
    assert!(shop.node.metric("istio_request_duration_milliseconds_sum", &of_v2) > 0.0);
    let rejected = |reason: &str| {
        let labels = ["namespace=\"shop\"", "pod=\"web\"", &*format!("reason=\"{reason}\"")];
        shop.node.metric("weft_proxy_rejected_total", &labels)
    };
    assert!(["NoRule", "NotAllowed", "NoEndpoints"].iter().all(|reason| rejected(reason) >= 1.0));
}

#[test]
fn a_call_of_grpc_is_counted_by_its_own_status_and_so_are_its_messages() {
    let Some(shop) = Shop::open_with("{}", ROUTE) else { return };
    shop.world.apply("calls.yaml", &manifests::service("shop/calls", CALLS));
    shop.node.wait();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let local = tokio::task::LocalSet::new();
    let trailers = local.block_on(&runtime, async {
        let listener = shop.v1.tcp_listen("0.0.0.0:9090".parse().unwrap()).unwrap();
        listener.set_nonblocking(true).unwrap();
        tokio::task::spawn_local(serve_calls(tokio::net::TcpListener::from_std(listener).unwrap()));
        call(&shop.web).await.unwrap()
    });
    assert_eq!(trailers["grpc-status"], "5");
    let labels = ["reporter=\"source\"", "request_protocol=\"grpc\"", "grpc_response_status=\"5\""];
    let count = |name: &str| shop.node.metric(name, &labels);
    soon(|| count("istio_requests_total") >= 1.0);
    assert!(count("istio_request_messages_total") >= 2.0, "{}", count("istio_request_messages_total"));
    assert!(count("istio_response_messages_total") >= 3.0, "{}", count("istio_response_messages_total"));
    let ok =
        shop.node.metric("istio_requests_total", &["request_protocol=\"grpc\"", "response_code=\"200\""]);
    assert!(ok >= 1.0, "its HTTP status is 200 all the same");
    let flow = shop.node.flows(&[]).into_iter().find(|flow| flow["http"]["grpcStatus"] == 5);
    assert_eq!(flow.expect("the call is a flow")["http"]["path"], "/shop.Items/List");
}

/// For as long as a workload's last values may still be scraped; with `WEFT_SOAK` until they are gone.
#[test]
fn series_outlive_their_workload_for_five_minutes() {
    let Some(shop) = Shop::open() else { return };
    assert_eq!(shop.web.get(FRONT, "/v2", &[]).unwrap().status, 200);
    let series = || shop.node.metric("istio_requests_total", &["source_workload=\"web\""]);
    let of_pod = || shop.node.metric("weft_proxy_requests_total", &["pod=\"web\""]);
    soon(|| series() >= 1.0 && of_pod() >= 1.0);
    shop.world.remove("pod-shop-web.yaml");
    shop.node.wait();
    assert!(series() >= 1.0 && of_pod() >= 1.0, "the last values can still be scraped");
    if std::env::var_os("WEFT_SOAK").is_some() {
        eventually(Duration::from_mins(6), || series() < 1.0 && of_pod() < 1.0);
        let page = shop.node.http("/metrics").unwrap();
        assert!(!page.contains("source_workload=\"web\""), "{page}");
    }
}

/// Two messages from the client; three and the status 5 from the server.
async fn call(web: &Pod) -> Result<HeaderMap, Box<dyn Error>> {
    let stream = web.tcp_connect(FRONT)?;
    stream.set_nonblocking(true)?;
    let io = TokioIo::new(tokio::net::TcpStream::from_std(stream)?);
    let (mut client, connection) = client::conn::http2::handshake(TokioExecutor::new(), io).await?;
    tokio::task::spawn_local(connection);
    let request =
        Request::post("http://calls.shop/shop.Items/List").header("content-type", "application/grpc");
    let request = request.body(Full::new(messages(2)))?;
    let answer = client.send_request(request).await?.into_body().collect().await?;
    Ok(answer.trailers().cloned().unwrap_or_default())
}

async fn serve_calls(listener: tokio::net::TcpListener) {
    while let Ok((stream, _)) = listener.accept().await {
        let service = service_fn(|request: Request<hyper::body::Incoming>| async {
            let _ = request.into_body().collect().await;
            let trailers = HeaderMap::from_iter([(
                "grpc-status".parse().expect("a header's name"),
                HeaderValue::from_static("5"),
            )]);
            let frames = [Frame::data(messages(3)), Frame::trailers(trailers)].map(Ok::<_, std::io::Error>);
            let mut answer = Response::new(StreamBody::new(futures_util::stream::iter(frames)));
            answer.headers_mut().insert("content-type", HeaderValue::from_static("application/grpc"));
            Ok::<_, std::io::Error>(answer)
        });
        let server = server::conn::http2::Builder::new(TokioExecutor::new());
        let connection = server.serve_connection(TokioIo::new(stream), service);
        tokio::task::spawn_local(async move {
            // The client ends it.
            let _ = connection.await;
        });
    }
}

/// So many messages of four bytes.
fn messages(count: usize) -> Bytes {
    [0, 0, 0, 0, 4, 1, 2, 3, 4].repeat(count).into()
}

const ROUTE: &str = "{parentRefs: [{group: \"\", kind: Service, name: front}], rules: [\
     {matches: [{path: {type: PathPrefix, value: /v1}}], backendRefs: [{name: v1, port: 80}]}, \
     {matches: [{path: {type: PathPrefix, value: /v2}}], backendRefs: [{name: v2, port: 80}]}, \
     {matches: [{path: {type: PathPrefix, value: /empty}}], backendRefs: [{name: empty, port: 80}]}, \
     {matches: [{path: {type: PathPrefix, value: /shop.Items}}], backendRefs: [{name: calls, port: 80}]}]}";
const EMPTY: &str = "{clusterIP: 10.96.0.5, selector: {app: nobody}, ports: [{port: 80}]}";
const CALLS: &str = "{clusterIP: 10.96.0.6, selector: {app: v1}, ports: [{port: 80, targetPort: 9090, \
     appProtocol: kubernetes.io/h2c}]}";
