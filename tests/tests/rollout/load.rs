//! Traffic of every kind, while something else happens: HTTP, gRPC and bytes, on new connections and on kept ones.

use std::{
    convert::Infallible,
    fmt::Display,
    io::{BufRead as _, BufReader},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::HeaderMap;
use http_body_util::{BodyExt as _, Empty, Full};
use hyper::{Request, Response, body::Incoming, client, server, service::service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    time::timeout,
};
use weft_tests::{HttpClient, Pod, Polled, soon};

use crate::stage::{CALLED, FAR, NEAR, ROUTED, Stage};

/// Where `far` answers calls.
pub(crate) const CALLS: u16 = 9090;
/// Where `far` sends bytes back.
pub(crate) const ECHO: u16 = 8083;

/// What has gone well, and what not.
#[derive(Default)]
pub(crate) struct Load {
    answered: [AtomicUsize; WAYS],
    failed: Mutex<Vec<String>>,
    done: AtomicBool,
    /// The last call was answered.
    called: AtomicBool,
}

/// Has `web` speak with all Services until `work` is done, which is told of the load. Everything has to be answered, on
/// every way while the work is done and after it.
#[track_caller]
pub(crate) fn while_loaded(web: &Pod, far: &Pod, work: impl FnOnce(&Load)) {
    let load = Load::default();
    // Until the last client has ended.
    let _echo = far.serve_echo(ECHO);
    thread::scope(|scope| {
        let listener = far.tcp_listen(([0, 0, 0, 0], CALLS).into()).unwrap();
        scope.spawn(|| serve_calls(listener, &load));
        scope.spawn(|| load.repeat(0, || said(web, NEAR, "near")));
        scope.spawn(|| load.repeat(1, || said(web, FAR, "far")));
        scope.spawn(|| load.repeat(2, || asked(web)));
        scope.spawn(|| load.keep_asking(web));
        scope.spawn(|| {
            // Who answers goes on until then: what it has under way would fail with it.
            let _called = Done(&load.called);
            call(web, &load);
        });
        scope.spawn(|| on_a_runtime(load.one_connection(5, ask_on_one(web, &load))));
        scope.spawn(|| on_a_runtime(load.one_connection(6, echo_on_one(web, far.addr(ECHO), &load))));
        // Also when `work` panics: the scope waits for the others.
        let _done = Done(&load.done);
        load.some_more();
        work(&load);
        load.some_more();
    });
    assert_eq!(load.failed.into_inner().unwrap(), Vec::<String>::new());
}

impl Stage {
    /// As [`while_loaded`], with both agents.
    #[track_caller]
    pub(crate) fn loaded(
        &mut self,
        work: impl FnOnce(&mut weft_tests::Agent, &mut weft_tests::Agent, &Load),
    ) {
        let Self { of_a, of_b, web, far, .. } = self;
        while_loaded(web, far, |load| work(of_a, of_b, load));
    }
}

impl Load {
    /// Waits until there is more traffic on every way, all of which has begun after this was called.
    #[track_caller]
    pub(crate) fn some_more(&self) {
        let so_far = || self.answered.each_ref().map(|count| count.load(Ordering::Relaxed));
        let before = so_far();
        soon(|| {
            assert!(self.failed.lock().unwrap().is_empty(), "{:?}", self.failed.lock().unwrap());
            so_far().iter().zip(before).all(|(now, before)| *now >= before + SOME)
        });
    }

    fn goes_on(&self) -> bool {
        !self.done.load(Ordering::Relaxed)
    }

    /// What stood still for long has failed, too: whoever asks does not wait so long.
    fn count(&self, way: usize, began: Instant, outcome: Result<(), impl Display>) {
        let took = began.elapsed();
        match outcome {
            Ok(()) if took > LONGEST => {
                self.failed.lock().unwrap().push(format!("{}: it took {took:?}", NAMES[way]));
            }
            Ok(()) => drop(self.answered[way].fetch_add(1, Ordering::Relaxed)),
            Err(error) => self.failed.lock().unwrap().push(format!("{}: {error}", NAMES[way])),
        }
    }

    fn repeat(&self, way: usize, once: impl Fn() -> std::io::Result<()>) {
        while self.goes_on() {
            self.count(way, Instant::now(), once());
            thread::sleep(PACE);
        }
    }

    /// One connection that lasts for all of the load.
    async fn one_connection(
        &self,
        way: usize,
        all: impl Future<Output = Result<(), Box<dyn std::error::Error>>>,
    ) {
        let began = Instant::now();
        if let Err(error) = all.await {
            self.count(way, began, Err(error));
        }
    }

    /// Requests on connections that last for many of them.
    fn keep_asking(&self, web: &Pod) {
        while self.goes_on() {
            let began = Instant::now();
            let mut client = match connected(web, ROUTED) {
                Ok(stream) => HttpClient::over(stream),
                Err(error) => return self.count(3, began, Err(error)),
            };
            for _ in 0..MANY {
                if !self.goes_on() {
                    return;
                }
                let began = Instant::now();
                match client.ask(("GET", "/"), &[], &[]) {
                    // A proxy that drains says which answer is the last.
                    Ok(answer) if answer.header("connection") == "close" => {
                        self.count(3, began, status(answer.status));
                        break;
                    }
                    Ok(answer) => self.count(3, began, status(answer.status)),
                    Err(error) => {
                        self.count(3, began, Err(error));
                        break;
                    }
                }
                thread::sleep(PACE);
            }
        }
    }
}

fn said(web: &Pod, to: SocketAddr, name: &str) -> std::io::Result<()> {
    let mut said = String::new();
    BufReader::new(connected(web, to)?).read_line(&mut said)?;
    if said.trim_end() == name { Ok(()) } else { Err(std::io::Error::other(format!("{to} is {said:?}"))) }
}

fn asked(web: &Pod) -> std::io::Result<()> {
    status(HttpClient::over(connected(web, ROUTED)?).ask(("GET", "/"), &[], &[])?.status)
}

/// A client that waits in its calls, and not for ever.
fn connected(web: &Pod, to: SocketAddr) -> std::io::Result<TcpStream> {
    let stream = web.tcp_connect(to)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    Ok(stream)
}

fn status(status: u16) -> std::io::Result<()> {
    if status == 200 { Ok(()) } else { Err(std::io::Error::other(format!("answered {status}"))) }
}

struct Done<'a>(&'a AtomicBool);

impl Drop for Done<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Calls on connections that last for many of them.
fn call(web: &Pod, load: &Load) {
    on_a_runtime(async {
        while load.goes_on() {
            let began = Instant::now();
            if let Err(error) = calls(web, load).await {
                load.count(4, began, Err(error));
            }
        }
    });
}

/// Requests on one connection, by a client that polls; on another one only after a proxy that drains has said so.
async fn ask_on_one(web: &Pod, load: &Load) -> Result<(), Box<dyn std::error::Error>> {
    while load.goes_on() {
        ask_until_closed(web, load).await?;
    }
    Ok(())
}

async fn ask_until_closed(web: &Pod, load: &Load) -> Result<(), Box<dyn std::error::Error>> {
    let (mut sender, connection) = client::conn::http1::handshake(TokioIo::new(polled(web, ROUTED)?)).await?;
    tokio::task::spawn_local(connection);
    let mut is_last = false;
    while load.goes_on() && !is_last {
        sender.ready().await?;
        let began = Instant::now();
        let request = Request::get("/").header("host", "routed.shop").body(Empty::<Bytes>::new())?;
        let answer = timeout(PATIENCE, sender.send_request(request)).await??;
        let code = answer.status().as_u16();
        is_last = answer.headers().get("connection").is_some_and(|said| said == "close");
        timeout(PATIENCE, answer.into_body().collect()).await??;
        load.count(5, began, status(code));
        tokio::time::sleep(PACE).await;
    }
    Ok(())
}

/// Bytes back and forth on one connection to another node, by a client that polls.
async fn echo_on_one(web: &Pod, to: SocketAddr, load: &Load) -> Result<(), Box<dyn std::error::Error>> {
    let mut stream = polled(web, to)?;
    while load.goes_on() {
        let (began, mut back) = (Instant::now(), [0; 4]);
        stream.write_all(b"more").await?;
        timeout(PATIENCE, stream.read_exact(&mut back)).await??;
        load.count(6, began, if back == *b"more" { Ok(()) } else { Err("others came back") });
        tokio::time::sleep(PACE).await;
    }
    Ok(())
}

/// A connection as that of most clients: what is said on it may take the short way to the node's proxy.
fn polled(web: &Pod, to: SocketAddr) -> std::io::Result<tokio::net::TcpStream> {
    tokio::net::TcpStream::from_std(Polled::connect(web, to)?.into_inner())
}

async fn calls(web: &Pod, load: &Load) -> Result<(), Box<dyn std::error::Error>> {
    let io = TokioIo::new(polled(web, CALLED)?);
    let (mut sender, connection) = client::conn::http2::handshake(TokioExecutor::new(), io).await?;
    tokio::task::spawn_local(connection);
    for _ in 0..MANY {
        // A proxy that drains says that this connection takes no more.
        if !load.goes_on() || sender.ready().await.is_err() {
            break;
        }
        let began = Instant::now();
        let request =
            Request::post("http://called.shop/shop.Items/Get").header("content-type", "application/grpc");
        let answer = sender.send_request(request.body(Empty::<Bytes>::new())?).await?;
        let at_once = answer.headers().get("grpc-status").cloned();
        let body = answer.into_body().collect().await?;
        let said = at_once.or_else(|| body.trailers()?.get("grpc-status").cloned());
        let outcome = match said {
            Some(status) if status == "0" => Ok(()),
            other => Err(format!("the call ends with {other:?}")),
        };
        load.count(4, began, outcome);
        tokio::time::sleep(PACE).await;
    }
    Ok(())
}

/// Answers calls as a gRPC server does: its status comes in trailers.
fn serve_calls(listener: TcpListener, load: &Load) {
    on_a_runtime(async {
        listener.set_nonblocking(true).unwrap();
        let listener = tokio::net::TcpListener::from_std(listener).unwrap();
        while !load.called.load(Ordering::Relaxed) {
            let Ok(accepted) = timeout(PACE * 10, listener.accept()).await else { continue };
            let (stream, _) = accepted.unwrap();
            let connection = server::conn::http2::Builder::new(TokioExecutor::new()).serve_connection(
                TokioIo::new(stream),
                service_fn(|_: Request<Incoming>| async { Ok::<_, Infallible>(answer()) }),
            );
            tokio::task::spawn_local(async move {
                // The client ends it.
                let _ = connection.await;
            });
        }
    });
}

fn answer() -> Response<impl hyper::body::Body<Data = Bytes, Error = Infallible>> {
    let trailers = HeaderMap::from_iter([("grpc-status".parse().unwrap(), "0".parse().unwrap())]);
    let body = Full::new(Bytes::from_static(&[0, 0, 0, 0, 1, 7])).with_trailers(async { Some(Ok(trailers)) });
    let mut answer = Response::new(body);
    answer.headers_mut().insert("content-type", "application/grpc".parse().unwrap());
    answer
}

fn on_a_runtime(work: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    tokio::task::LocalSet::new().block_on(&runtime, work);
}

const WAYS: usize = 7;
const NAMES: [&str; WAYS] = [
    "bytes in the kernel",
    "bytes to another node",
    "requests",
    "requests on a kept connection",
    "calls",
    "requests on one connection",
    "bytes on one connection",
];
/// Longer than any of it may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// So many answers on each way are traffic.
const SOME: usize = 20;
/// Nothing of ours waits so long. A node that leaves waits 5 s for the first word of another's pod, which may have left by
/// then, and whose server speaks first.
const LONGEST: Duration = Duration::from_secs(6);
/// So many requests are on one connection.
const MANY: usize = 50;
/// The agents and proxies need the processor, too.
const PACE: Duration = Duration::from_millis(2);
