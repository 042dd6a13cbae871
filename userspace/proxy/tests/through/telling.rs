//! What ended, as the agent is told.

use std::convert::Infallible;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream;
use http::{HeaderMap, Request, Response};
use http_body::Frame;
use http_body_util::{BodyExt as _, StreamBody};
use tempfile::TempDir;
use tokio::time::timeout;
use weft_model::AppProtocol::{Http, Http2};
use weft_model::{Abort, Delay, FaultInjection, Fraction, Retry, RouteKind, TrafficSettings};
use weft_proxy::{Limits, Unlent, serve_agent};
use weft_telemetry::records::{Alike, RecordBatch, RequestRecord, Spoken};
use weft_transport::handover::{AgentEnd, FromProxy, Hello, Nack, NackReason, SOCKET, Versions, generation};
use weft_transport::seqpacket::Listener;

use crate::mesh::{Body, Mesh, PATIENCE, full, get, plain, read, routed, rule, with_traffic};
use crate::server::Server;

const GENERATION: u64 = 77;

/// A run directory, where the proxy of a mesh looks for its agent.
struct Run {
    dir: TempDir,
}

impl Run {
    fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap() }
    }

    fn path(&self) -> PathBuf {
        self.dir.path().join(SOCKET)
    }

    /// An agent of these versions, once the proxy has met it.
    async fn agent(&self, versions: Versions) -> AgentEnd {
        let listener = Listener::bind(self.path()).unwrap();
        let hello = Hello { versions, ..Hello::of_this_process(generation(), "agent") };
        let agent = AgentEnd::greet(listener.accept().await.unwrap(), &hello).await.unwrap();
        assert!(agent.take_back().await.unwrap().is_empty());
        std::fs::remove_file(self.path()).unwrap();
        agent
    }
}

/// Runs `agents` beside the proxy.
async fn beside(mesh: &Mesh, path: &Path, agents: impl Future<Output = ()>) {
    let hello = Hello::of_this_process(GENERATION, "proxy");
    let open = |_, _| Ok((mesh.origins() as _, Arc::new(Unlent) as _));
    let serving =
        serve_agent(&mesh.handle, mesh.take_reader().await, path, hello, open, std::future::pending());
    let work = async {
        tokio::select! {
            () = serving => panic!("the proxy was not told to finish"),
            () = agents => {}
        }
    };
    timeout(PATIENCE, work).await.expect("the agents hear what they wait for");
}

const OURS: Versions = weft_transport::handover::OURS;

/// The next batch of records, and the id that it has to be answered by.
async fn batch(agent: &AgentEnd) -> (u64, RecordBatch) {
    loop {
        if let FromProxy::Records { id, bytes } = agent.receive().await.unwrap().expect("the proxy lives") {
            let batch = RecordBatch::read(&bytes.read().unwrap()).unwrap();
            assert_eq!(batch.generation, GENERATION);
            return (id, batch);
        }
    }
}

/// Takes batches until they have so many requests. How many were lost, as the last of them says.
async fn requests(agent: &AgentEnd, count: usize) -> (Vec<RequestRecord>, u64) {
    let (mut all, mut lost) = (Vec::new(), 0);
    while all.len() < count {
        let (id, batch) = batch(agent).await;
        agent.ack(id).await.unwrap();
        all.extend(told(&batch));
        lost = batch.lost;
    }
    (all, lost)
}

/// Its requests, in whichever form.
fn told(batch: &RecordBatch) -> impl Iterator<Item = RequestRecord> {
    batch.requests.iter().cloned().chain(batch.alike.iter().flat_map(Alike::records))
}

fn records(batch: &RecordBatch) -> u64 {
    (told(batch).count() + batch.connections.len()) as u64
}

async fn ask(mesh: &Mesh, target: &str) -> u16 {
    read(mesh.http1().await.send_request(get(target)).await.unwrap()).await.0
}

fn ok(_: Request<hyper::body::Incoming>) -> std::future::Ready<Response<Body>> {
    std::future::ready(Response::new(full("hello")))
}

#[tokio::test]
async fn a_request_is_told_with_all_that_is_known_of_it() {
    let (mesh, run) = (Mesh::start().await, Run::new());
    let server = Server::http1(&mesh, ok);
    mesh.serve_all(
        routed(Http, vec![rule("/v1", &[("a", 1)])]),
        &[],
        &[("a", Some("http"), &[server.address])],
    );
    beside(&mesh, &run.path(), async {
        let agent = run.agent(OURS).await;
        let mut client = mesh.http1().await;
        let request = Request::post("/v1/x%41?secret=1")
            .header("host", "web.shop")
            .header("user-agent", "test/1")
            .header("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")
            .body(full("12345678"))
            .unwrap();
        assert_eq!(read(client.send_request(request).await.unwrap()).await.0, 200);
        let (mut all, lost) = requests(&agent, 1).await;
        let record = all.remove(0);
        assert_eq!((lost, &*record.pod.name, record.client.ip().is_loopback()), (0, "client", true));
        let rule = record.rule.unwrap();
        assert_eq!((rule.0.kind, &*rule.0.name.name, rule.1), (RouteKind::Http, "web", 0));
        assert_eq!(record.endpoint, Some(server.address));
        assert_eq!(&*record.backend.unwrap().0.name, "a");
        assert_eq!([&*record.method, &*record.path, &*record.authority], ["POST", "/v1/xA", "web.shop"]);
        assert_eq!([&*record.agent, &*record.trace], ["test/1", "4bf92f3577b34da6a3ce929d0e0e4736"]);
        assert_eq!((record.id.len(), record.spoken, record.grpc), (36, Spoken::Http1, false));
        assert_eq!((record.status, record.tries, record.received, record.sent), (200, 1, 8, 5));
        assert!(
            0 < record.upstream && record.upstream <= record.lasted,
            "{} {}",
            record.upstream,
            record.lasted
        );
    })
    .await;
}

#[tokio::test]
async fn a_call_is_told_with_its_status_and_its_messages() {
    let (mesh, run) = (Mesh::start().await, Run::new());
    let server = Server::http2(&mesh, |request| async {
        let _ = request.into_body().collect().await;
        let trailers = HeaderMap::from_iter([("grpc-status".parse().unwrap(), "5".parse().unwrap())]);
        let frames = [Frame::data(messages(3)), Frame::trailers(trailers)].map(Ok::<_, Infallible>);
        let body = StreamBody::new(stream::iter(frames));
        Response::builder()
            .header("content-type", "application/grpc")
            .body(Body::new(body.map_err(|never| match never {})))
            .unwrap()
    });
    mesh.serve(plain(Http2), &[server.address]);
    beside(&mesh, &run.path(), async {
        let agent = run.agent(OURS).await;
        let request = Request::post("http://web/shop.Items/List").header("content-type", "application/grpc");
        let request = request.body(full(messages(2))).unwrap();
        let answer = mesh.http2().await.send_request(request).await.unwrap();
        answer.into_body().collect().await.unwrap();
        let (all, _) = requests(&agent, 1).await;
        assert_eq!((all[0].grpc, all[0].grpc_status, all[0].messages), (true, Some(5), (2, 3)));
        assert_eq!((all[0].status, all[0].spoken), (200, Spoken::Http2));
    })
    .await;
}

#[tokio::test]
async fn what_was_done_to_a_request_is_told_by_flags() {
    let (mesh, run) = (Mesh::start().await, Run::new());
    let delay = Delay { time: Duration::from_millis(1), share: Fraction::ALL };
    let faults = |abort| Some(FaultInjection { delay: Some(delay), abort });
    let retry = Retry { attempts: 1, codes: vec![503], grpc_codes: Vec::new(), backoff: Duration::ZERO };
    let server = Server::http1(&mesh, |_| async {
        let mut answer = Response::new(full(""));
        *answer.status_mut() = http::StatusCode::SERVICE_UNAVAILABLE;
        answer
    });
    beside(&mesh, &run.path(), async {
        let agent = run.agent(OURS).await;
        let abort = Some(Abort { status: Ok(418), share: Fraction::ALL });
        let aborted = TrafficSettings { faults: faults(abort), ..TrafficSettings::default() };
        let tried =
            TrafficSettings { faults: faults(None), retry: Some(retry), ..TrafficSettings::default() };
        for (traffic, status, flags, tries) in [(aborted, 418, "FI,DI", 0), (tried, 503, "DI,URX", 2)] {
            mesh.serve(with_traffic(Http, traffic), &[server.address]);
            assert_eq!(ask(&mesh, "/").await, status);
            let (all, _) = requests(&agent, 1).await;
            assert_eq!((all[0].status, all[0].flags(), all[0].tries), (status, flags, tries));
        }
    })
    .await;
}

#[tokio::test]
async fn while_no_agent_is_there_as_many_records_are_kept_as_fit_and_the_rest_is_counted() {
    let limits = Limits { records: 8, ..Limits::default() };
    let (mesh, run) = (Mesh::with(limits).await, Run::new());
    let server = Server::http1(&mesh, ok);
    mesh.serve(plain(Http), &[server.address]);
    let mut client = mesh.http1().await;
    for _ in 0..20 {
        client.ready().await.unwrap();
        assert_eq!(
            read(client.send_request(get("/")).await.unwrap()).await.0,
            200,
            "no request waits for it"
        );
    }
    beside(&mesh, &run.path(), async {
        let (all, lost) = requests(&run.agent(OURS).await, 8).await;
        assert_eq!((all.len(), lost), (8, 12));
    })
    .await;
}

#[tokio::test]
async fn what_an_agent_had_not_answered_when_it_went_is_lost_and_what_comes_then_is_told_to_the_next() {
    let (mesh, run) = (Mesh::start().await, Run::new());
    let server = Server::http1(&mesh, ok);
    mesh.serve(plain(Http), &[server.address]);
    beside(&mesh, &run.path(), async {
        let agent = run.agent(OURS).await;
        ask(&mesh, "/first").await;
        let under_way = loop {
            let (id, batch) = batch(&agent).await;
            match records(&batch) {
                // What pods have used may come by itself.
                0 => agent.ack(id).await.unwrap(),
                count => break count,
            }
        };
        // One batch is under way at a time: this waits.
        ask(&mesh, "/second").await;
        drop(agent);
        let agent = run.agent(OURS).await;
        let (all, lost) = requests(&agent, 1).await;
        assert_eq!((&*all[0].path, lost), ("/second", under_way));
        // A batch that is refused is lost, too, and the next one comes.
        ask(&mesh, "/third").await;
        let (id, refused) = batch(&agent).await;
        let nack = Nack { of: id, reason: NackReason::Failed, error: "?".into() };
        agent.answer(nack).await.unwrap();
        ask(&mesh, "/fourth").await;
        loop {
            let (id, batch) = batch(&agent).await;
            agent.ack(id).await.unwrap();
            if told(&batch).any(|record| &*record.path == "/fourth") {
                return assert_eq!(batch.lost, under_way + records(&refused));
            }
        }
    })
    .await;
}

#[tokio::test]
async fn requests_are_told_as_alike_to_an_agent_that_knows_that_and_each_alone_to_the_one_before() {
    let (mesh, run) = (Mesh::start().await, Run::new());
    let server = Server::http1(&mesh, ok);
    mesh.serve(plain(Http), &[server.address]);
    beside(&mesh, &run.path(), async {
        for versions in [OURS, Versions { min: 2, max: 3 }] {
            let agent = run.agent(versions).await;
            ask(&mesh, "/one").await;
            let (id, batch) = loop {
                let (id, batch) = batch(&agent).await;
                if told(&batch).count() > 0 {
                    break (id, batch);
                }
                agent.ack(id).await.unwrap();
            };
            agent.ack(id).await.unwrap();
            assert_eq!(
                (batch.alike.len(), batch.requests.len()),
                if versions == OURS { (1, 0) } else { (0, 1) }
            );
            assert_eq!(&*told(&batch).next().unwrap().path, "/one");
        }
    })
    .await;
}

#[tokio::test]
async fn a_proxy_that_has_drained_tells_the_last_of_it_before_it_ends() {
    let (mesh, run) = (Mesh::start().await, Run::new());
    let server = Server::http1(&mesh, ok);
    mesh.serve(plain(Http), &[server.address]);
    let hello = Hello::of_this_process(GENERATION, "proxy");
    let open = |_, _| Ok((mesh.origins() as _, Arc::new(Unlent) as _));
    let path = run.path();
    let serving =
        serve_agent(&mesh.handle, mesh.take_reader().await, &path, hello, open, std::future::pending());
    let agents = async {
        let agent = run.agent(OURS).await;
        let mut client = mesh.http1().await;
        assert_eq!(read(client.send_request(get("/")).await.unwrap()).await.0, 200);
        agent.drain(Duration::from_mins(1)).await.unwrap();
        client.ready().await.unwrap();
        assert_eq!(read(client.send_request(get("/last")).await.unwrap()).await.0, 200);
        drop(client);
        let (mut paths, mut open) = (Vec::new(), None);
        while let Some(said) = agent.receive().await.unwrap() {
            if let FromProxy::Records { id, bytes } = said {
                let batch = RecordBatch::read(&bytes.read().unwrap()).unwrap();
                paths.extend(told(&batch).map(|record| record.path.to_string()));
                open = batch.usage.first().map(|usage| usage.connections).or(open);
                agent.ack(id).await.unwrap();
            }
        }
        assert_eq!(paths, ["/", "/last"]);
        assert_eq!(open, Some(0), "what is open at the end is told, too");
    };
    timeout(PATIENCE, async { tokio::join!(serving, agents) }).await.expect("the proxy ends");
}

#[tokio::test]
async fn a_proxy_that_is_told_to_stop_tells_what_it_has_and_says_so_to_its_agent() {
    let (mesh, run) = (Mesh::start().await, Run::new());
    let server = Server::http1(&mesh, ok);
    mesh.serve(plain(Http), &[server.address]);
    let hello = Hello::of_this_process(GENERATION, "proxy");
    let open = |_, _| Ok((mesh.origins() as _, Arc::new(Unlent) as _));
    let (path, (signal, stop)) = (run.path(), tokio::sync::oneshot::channel());
    let stop = async { stop.await.expect("it is sent") };
    let serving = serve_agent(&mesh.handle, mesh.take_reader().await, &path, hello, open, stop);
    let agents = async {
        let agent = run.agent(OURS).await;
        let mut client = mesh.http1().await;
        assert_eq!(read(client.send_request(get("/")).await.unwrap()).await.0, 200);
        // Its record is not told yet.
        signal.send(Duration::from_mins(1)).unwrap();
        assert_eq!(rest(&agent).await, ["/"]);
        // What it carries it finishes, and tells that, too.
        let agent = run.agent(OURS).await;
        assert!(agent.peer().draining);
        client.ready().await.unwrap();
        assert_eq!(read(client.send_request(get("/last")).await.unwrap()).await.0, 200);
        assert_eq!(rest(&agent).await, ["/last"]);
    };
    timeout(PATIENCE, async { tokio::join!(serving, agents) }).await.expect("the proxy ends");
}

/// The paths of all requests that a proxy tells until it leaves.
async fn rest(agent: &AgentEnd) -> Vec<String> {
    let mut paths = Vec::new();
    while let Some(said) = agent.receive().await.unwrap() {
        if let FromProxy::Records { id, bytes } = said {
            let batch = RecordBatch::read(&bytes.read().unwrap()).unwrap();
            paths.extend(told(&batch).map(|record| record.path.to_string()));
            agent.ack(id).await.unwrap();
        }
    }
    paths
}

/// So many messages of gRPC, of four bytes each.
fn messages(count: usize) -> Bytes {
    [0, 0, 0, 0, 4, 1, 2, 3, 4].repeat(count).into()
}
