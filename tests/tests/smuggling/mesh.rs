//! weft's side: the guard, hyper's server, hyper's client, and the guard again.
//!
//! [`start`] is all that the comparison knows of it.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::thread;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper::header::{EXPECT, HOST, HeaderValue};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, Uri, Version};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::{LocalSet, spawn_local};
use tokio::time::timeout;
use weft_proxy::http1::hop_by_hop::{self, Upgrading};
use weft_proxy::http1::{Guarded, Limits, Refusal};

use crate::client::Address;

/// Proxies that run on a thread of their own until they are dropped.
pub(crate) struct Mesh {
    pub(crate) addresses: Vec<Address>,
    _stop: oneshot::Sender<Infallible>,
}

type Body = BoxBody<Bytes, hyper::Error>;

/// Starts a proxy before each of the upstreams.
pub(crate) fn start(upstreams: &[SocketAddr]) -> Mesh {
    let (stop, stopped) = oneshot::channel();
    let bind = |_| std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let listeners: Vec<std::net::TcpListener> = upstreams.iter().map(bind).collect();
    let addresses = listeners.iter().map(|it| Address::Tcp(it.local_addr().unwrap())).collect();
    let upstreams = upstreams.to_owned();
    thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        LocalSet::new().block_on(&runtime, async {
            for (listener, upstream) in listeners.into_iter().zip(upstreams) {
                listener.set_nonblocking(true).unwrap();
                spawn_local(accept(TcpListener::from_std(listener).unwrap(), upstream));
            }
            // It ends when the sender is dropped.
            let _ = stopped.await;
        });
    });
    Mesh { addresses, _stop: stop }
}

async fn accept(listener: TcpListener, upstream: SocketAddr) {
    loop {
        let (client, _) = listener.accept().await.unwrap();
        spawn_local(serve(client, upstream));
    }
}

async fn serve(client: TcpStream, upstream: SocketAddr) {
    let guarded = Guarded::server(client, Limits::default());
    let refusal = guarded.refusal();
    let service = service_fn(|request| {
        let refusal = refusal.clone();
        async move { Ok::<_, Infallible>(answer(request, upstream, &refusal).await) }
    });
    let mut server = hyper::server::conn::http1::Builder::new();
    server.timer(TokioTimer::new()).header_read_timeout(IDLE);
    let connection = server.serve_connection(TokioIo::new(guarded), service).with_upgrades();
    // What ends it is seen by the client; a body that does not go on ends it here.
    let _ = timeout(LONGEST, connection).await;
}

async fn answer(request: Request<Incoming>, upstream: SocketAddr, refusal: &Refusal) -> Response<Body> {
    if request.method() == Method::CONNECT {
        return status(405, "ConnectNotAllowed");
    }
    match forward(request, upstream).await {
        Ok(response) => response,
        Err(_) => match refusal.malformed() {
            Some(why) => status(why.status(), why.reason().word()),
            None => status(502, "UpstreamFailed"),
        },
    }
}

async fn forward(
    mut request: Request<Incoming>,
    upstream: SocketAddr,
) -> Result<Response<Body>, Box<dyn std::error::Error>> {
    hop_by_hop::strip(request.headers_mut(), Upgrading::No);
    // hyper's server has said 100 when the body is asked for.
    request.headers_mut().remove(EXPECT);
    if !request.headers().contains_key(HOST) {
        request.headers_mut().insert(HOST, HeaderValue::try_from(upstream.to_string())?);
    }
    let target = request.uri().path_and_query().cloned().ok_or("a target without a path")?;
    *request.uri_mut() = Uri::from(target);
    *request.version_mut() = Version::HTTP_11;
    let stream = Guarded::client(TcpStream::connect(upstream).await?, Limits::default());
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    spawn_local(async move {
        // The response, or its error, says how it went.
        let _ = connection.await;
    });
    let mut response = sender.send_request(request).await?;
    hop_by_hop::strip(response.headers_mut(), Upgrading::No);
    Ok(response.map(BodyExt::boxed))
}

fn status(code: u16, reason: &'static str) -> Response<Body> {
    let response = Response::builder().status(code).header("x-weft-reason", reason);
    let body = Empty::new().map_err(|never: Infallible| match never {}).boxed();
    response.body(body).expect("the parts are well-formed")
}

const IDLE: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(3);
