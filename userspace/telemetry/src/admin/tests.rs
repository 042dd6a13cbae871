//! A real server on a real socket, in front of an agent that has a configuration and no kernel.

use std::{path::Path, sync::Arc};

use futures_util::future::BoxFuture;
use http_body_util::{BodyExt, Empty};
use hyper::{Method, Request, Response, StatusCode, body::Incoming};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tempfile::{TempDir, tempdir};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpStream, UnixStream},
};
use weft_model::Snapshot;
use weft_runtime::{Stop, Tasks};

use super::{Agent, SOCKET, bind, listen, serve_api, serve_health};
use crate::{
    api::{
        Attached, Attachment, AuthzAnswer, AuthzQuery, BpfTable, CertificatesView, ConnectionView,
        ExplainQuery, Explanation, Failure, ProxyUpgraded, Sandboxes, Status, Table,
    },
    flows::{FlowLog, sample},
    metrics::Metrics,
    observer::Observer,
    records::{RecordBatch, tests::request},
    views::{self, tests::shop},
};

#[tokio::test]
async fn all_addresses_of_ipv6_are_those_of_ipv4_too_and_a_port_that_is_taken_is_no_reason_for_another_family()
 {
    let listener = listen("[::]:0".parse().unwrap()).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    let taken = listen(([0, 0, 0, 0, 0, 0, 0, 0], port).into()).await.unwrap_err();
    assert!(taken.to_string().starts_with(&format!("cannot listen on [::]:{port} for metrics")), "{taken}");
}

struct Configured {
    snapshot: Arc<Snapshot>,
    flows: FlowLog,
    metrics: Metrics,
    observer: Observer,
}

impl Agent for Configured {
    fn status(&self) -> Status {
        Status { node: "n1".into(), snapshot_version: self.snapshot.version, ..Status::default() }
    }

    fn ready(&self) -> Result<(), Failure> {
        match self.flows.last(&crate::api::FlowFilter::default(), 1).len() {
            0 => Err(Failure::new("nothing is enforced yet", "wait")),
            _ => Ok(()),
        }
    }

    fn sync(&self) -> BoxFuture<'_, Result<u64, Failure>> {
        Box::pin(async { Ok(self.snapshot.version) })
    }

    fn upgrade_proxy(&self) -> BoxFuture<'_, Result<ProxyUpgraded, Failure>> {
        Box::pin(async {
            Ok(ProxyUpgraded { pid: 9, build: "1.2.3".into(), draining: vec![7], drain_seconds: 300 })
        })
    }

    fn attach(&self, attachment: Attachment) -> BoxFuture<'_, Result<Attached, Failure>> {
        Box::pin(async move {
            match &*attachment.pod {
                "full" => Err(Failure::new("weft_policy is full", "--map-size")),
                _ => Ok(Attached::Enrolled),
            }
        })
    }

    fn attached(&self, _: Attachment) -> BoxFuture<'_, Result<Attached, Failure>> {
        Box::pin(async { Ok(Attached::Unknown) })
    }

    fn detach(&self, _: Sandboxes) -> BoxFuture<'_, Result<(), Failure>> {
        Box::pin(async { Ok(()) })
    }

    fn keep_attached(&self, _: Sandboxes) -> BoxFuture<'_, Result<(), Failure>> {
        Box::pin(async { Ok(()) })
    }

    fn snapshot(&self) -> Arc<Snapshot> {
        Arc::clone(&self.snapshot)
    }

    fn connections(&self) -> Result<Vec<ConnectionView>, Failure> {
        let flow = sample("web-1", "api-1");
        Ok(vec![ConnectionView {
            protocol: flow.protocol,
            state: "ESTAB".into(),
            path: flow.path,
            managed: true,
            unprotected: None,
            source: flow.source,
            destination: flow.destination,
            bytes_sent: None,
            bytes_received: None,
            duration_ms: None,
            rtt_us: None,
            retransmits: None,
        }])
    }

    fn certificates(&self) -> Option<CertificatesView> {
        None
    }

    fn bpf(&self, table: BpfTable) -> Result<Table, Failure> {
        match table {
            BpfTable::Stat => panic!("a bug in the agent"),
            _ => Err(Failure::new(format!("cannot read {table}"), "run as root")),
        }
    }

    fn explain(&self, query: &ExplainQuery) -> Result<Explanation, Failure> {
        Err(Failure::new(format!("there is no pod {}", query.from), "see: weft get workloads"))
    }

    fn authz(&self, query: &AuthzQuery) -> Result<AuthzAnswer, Failure> {
        views::authz(&self.snapshot, query, &|_, _, _| Ok(None))
    }

    fn flows(&self) -> &FlowLog {
        &self.flows
    }

    fn observer(&self) -> &Observer {
        &self.observer
    }

    fn metrics(&self) -> &Metrics {
        &self.metrics
    }
}

struct World {
    dir: TempDir,
    agent: Arc<Configured>,
    stop: Stop,
    tasks: Tasks,
}

impl World {
    fn new() -> Self {
        let dir = tempdir().unwrap();
        let agent = Arc::new(Configured {
            snapshot: Arc::new(shop()),
            flows: FlowLog::new(),
            metrics: Metrics::new("1.2.3"),
            observer: Observer::new().0,
        });
        let (tasks, stop) = (Tasks::new(), Stop::new());
        tasks.spawn("api", serve_api(Arc::clone(&agent) as _, bind(dir.path()).unwrap(), stop.clone()));
        Self { dir, agent, stop, tasks }
    }

    async fn ask(&self, method: Method, path: &str) -> Response<Incoming> {
        ask(&self.tasks, &self.dir.path().join(SOCKET), method, path).await
    }

    async fn get(&self, path: &str) -> (StatusCode, Value) {
        let response = self.ask(Method::GET, path).await;
        let (status, body) = (response.status(), response.into_body().collect().await.unwrap().to_bytes());
        (status, serde_json::from_slice(&body).unwrap())
    }
}

async fn ask(tasks: &Tasks, socket: &Path, method: Method, path: &str) -> Response<Incoming> {
    let stream = TokioIo::new(UnixStream::connect(socket).await.unwrap());
    let (mut sender, connection) = hyper::client::conn::http1::handshake(stream).await.unwrap();
    tasks.spawn("client", connection);
    let request = Request::builder().method(method).uri(path).header("host", "agent");
    sender.send_request(request.body(Empty::<&[u8]>::new()).unwrap()).await.unwrap()
}

#[tokio::test]
async fn each_question_has_an_answer_of_its_shape() {
    let world = World::new();
    for (path, pointer, expected) in [
        ("/v1/status", "/node", "n1"),
        ("/v1/services", "/0/name", "api"),
        ("/v1/endpoints", "/0/pod", "shop/api-1"),
        ("/v1/workloads", "/0/name", "api-1"),
        ("/v1/policies", "/0/target", "pods app=api"),
        ("/v1/connections", "/0/state", "ESTAB"),
        ("/v1/authz?from=shop/web&to=shop/api&port=80", "/verdict", "FORWARDED"),
        ("/v1/authz?from=shop/cart&to=shop/api&port=80", "/reason", "NotAllowed"),
        ("/v1/services/shop/api", "/endpoints/0/state", "Ready"),
        ("/v1/pods/shop/api-1", "/policies/0/name", "api-read"),
        ("/v1/pods/shop/api-1", "/connections/0/source/pod", "web-1"),
    ] {
        let (status, body) = world.get(path).await;
        assert_eq!(status, StatusCode::OK, "{path}: {body}");
        assert_eq!(body.pointer(pointer).and_then(Value::as_str), Some(expected), "{path}: {body}");
    }
    let synced = world.ask(Method::POST, "/v1/sync").await.into_body().collect().await.unwrap().to_bytes();
    assert_eq!(&synced[..], b"{\"version\":7}");
    let upgraded = world.ask(Method::POST, "/v1/proxy/upgrade").await.into_body();
    let upgraded: Value = serde_json::from_slice(&upgraded.collect().await.unwrap().to_bytes()).unwrap();
    assert_eq!((&upgraded["draining"][0], &upgraded["drainSeconds"]), (&7.into(), &300.into()));
}

#[tokio::test]
async fn the_traffic_of_the_last_seconds_is_told() {
    let world = World::new();
    let agent = &world.agent;
    let batch = RecordBatch { requests: vec![request(), request()], ..RecordBatch::default() };
    agent.observer.take(&batch, &agent.snapshot, &agent.flows, &agent.metrics);
    let (status, body) = world.get("/v1/traffic?seconds=10").await;
    assert_eq!((status, body[0]["requests"].as_u64()), (StatusCode::OK, Some(2)), "{body}");
    assert_eq!(body[0]["service"], "api");
    let (status, flows) = world.get("/v1/flows?last=1&protocol=http&status=2xx&method=get").await;
    assert_eq!((status, flows["http"]["status"].as_u64()), (StatusCode::OK, Some(200)), "{flows}");
}

#[tokio::test]
async fn a_refusal_says_why_and_what_to_do() {
    let world = World::new();
    for (path, code, message, remedy) in [
        ("/v1/pods/shop/db-1", 404, "there is no such pod", "see: weft get workloads"),
        ("/v1/services/shop/db", 404, "there is no such Service", "see: weft get services"),
        (
            "/v1/authz?from=shop/web&to=shop/db&port=80",
            400,
            "there is no Service shop/db",
            "see: weft get services",
        ),
        (
            "/v1/certificates",
            500,
            "the agent issues no certificates",
            "start it with --ca-dir; `weft ca init` makes one",
        ),
        ("/v1/bpf/policy", 500, "cannot read policy", "run as root"),
        ("/v1/bpf/stat", 500, "the agent failed while answering", "see its log"),
    ] {
        let (status, body) = world.get(path).await;
        assert_eq!(status.as_u16(), code, "{path}: {body}");
        assert_eq!((body["message"].as_str(), body["remedy"].as_str()), (Some(message), Some(remedy)));
    }
}

#[tokio::test]
async fn flows_are_followed_line_by_line_until_the_agent_stops() {
    let world = World::new();
    world.agent.flows.push(sample("old", "api"));
    let mut body = world.ask(Method::GET, "/v1/flows?last=5&follow=true&pod=web").await.into_body();
    for pod in ["cart", "web"] {
        world.agent.flows.push(sample(pod, "api"));
    }
    let line = body.frame().await.unwrap().unwrap().into_data().unwrap();
    let flow: Value = serde_json::from_slice(&line).unwrap();
    assert_eq!(flow["source"]["pod"], "web");
    assert!(line.ends_with(b"\n"));
    world.stop.cancel();
    assert!(body.frame().await.is_none(), "a follower does not hold up the end");
}

#[tokio::test]
async fn the_last_flows_come_oldest_first() {
    let world = World::new();
    for pod in ["a", "b", "c"] {
        world.agent.flows.push(sample(pod, "api"));
    }
    let body =
        world.ask(Method::GET, "/v1/flows?last=2").await.into_body().collect().await.unwrap().to_bytes();
    let lines = serde_json::Deserializer::from_slice(&body).into_iter::<Value>().map(Result::unwrap);
    assert_eq!(lines.map(|flow| flow["source"]["pod"].clone()).collect::<Vec<_>>(), ["b", "c"]);
}

#[tokio::test]
async fn metrics_and_health_are_served_on_tcp() {
    let world = World::new();
    let listener = listen(([127, 0, 0, 1], 0).into()).await.unwrap();
    let address = listener.local_addr().unwrap();
    world.tasks.spawn("health", serve_health(Arc::clone(&world.agent) as _, listener, world.stop.clone()));
    let get = async |path: &str| {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    };
    let metrics = get("/metrics").await;
    assert!(metrics.contains("content-type: application/openmetrics-text; version=1.0.0"), "{metrics}");
    assert!(metrics.contains("\nweft_snapshot_version 7\n") && metrics.contains("# EOF"), "{metrics}");
    assert!(get("/healthz").await.ends_with("\r\n\r\nok\n"));
    let waiting = get("/readyz").await;
    assert!(waiting.starts_with("HTTP/1.1 503"), "{waiting}");
    assert!(waiting.ends_with("nothing is enforced yet; wait\n"), "{waiting}");
    world.agent.flows.push(sample("a", "b"));
    assert!(get("/readyz").await.starts_with("HTTP/1.1 200"));
    let taken = listen(address).await.unwrap_err().to_string();
    assert!(taken.contains("choose another address with --metrics"), "{taken}");
}
