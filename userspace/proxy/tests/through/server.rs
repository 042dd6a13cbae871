//! Servers behind the proxy: what they were asked, and what they do.

use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;
use std::sync::{
    Arc, Mutex,
    atomic::{AtomicUsize, Ordering::SeqCst},
};

use hyper::{Request, Response, body::Incoming, http::request::Parts, server::conn, service::service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpListener;

use crate::mesh::{Body, Mesh};

/// A server of HTTP that remembers the heads of its requests.
#[derive(Clone)]
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    pub(crate) seen: Arc<Mutex<Vec<Parts>>>,
    pub(crate) connections: Arc<AtomicUsize>,
}

impl Server {
    /// A server of HTTP/1 that answers with what `answer` makes of a request.
    pub(crate) fn http1<F: Future<Output = Response<Body>> + Send + 'static>(
        mesh: &Mesh,
        answer: impl Fn(Request<Incoming>) -> F + Clone + Send + 'static,
    ) -> Self {
        Self::start(mesh.listen(), false, answer)
    }

    /// As [`Server::http1`], of HTTP/2.
    pub(crate) fn http2<F: Future<Output = Response<Body>> + Send + 'static>(
        mesh: &Mesh,
        answer: impl Fn(Request<Incoming>) -> F + Clone + Send + 'static,
    ) -> Self {
        Self::start(mesh.listen(), true, answer)
    }

    /// As [`Server::http2`], of one that takes no extended CONNECT.
    pub(crate) fn http2_without_tunnels<F: Future<Output = Response<Body>> + Send + 'static>(
        mesh: &Mesh,
        answer: impl Fn(Request<Incoming>) -> F + Clone + Send + 'static,
    ) -> Self {
        Self::serve(mesh.listen(), Some(conn::http2::Builder::new(TokioExecutor::new())), answer)
    }

    pub(crate) fn start<F: Future<Output = Response<Body>> + Send + 'static>(
        listener: TcpListener,
        http2: bool,
        answer: impl Fn(Request<Incoming>) -> F + Clone + Send + 'static,
    ) -> Self {
        let mut builder = conn::http2::Builder::new(TokioExecutor::new());
        builder.enable_connect_protocol();
        Self::serve(listener, http2.then_some(builder), answer)
    }

    fn serve<F: Future<Output = Response<Body>> + Send + 'static>(
        listener: TcpListener,
        http2: Option<conn::http2::Builder<TokioExecutor>>,
        answer: impl Fn(Request<Incoming>) -> F + Clone + Send + 'static,
    ) -> Self {
        let address = listener.local_addr().unwrap();
        let server = Self { address, seen: Arc::default(), connections: Arc::default() };
        let Self { seen, connections, .. } = server.clone();
        tokio::task::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                stream.set_nodelay(true).unwrap();
                connections.fetch_add(1, SeqCst);
                let (seen, answer) = (Arc::clone(&seen), answer.clone());
                let service = service_fn(move |request: Request<Incoming>| {
                    let (parts, body) = request.into_parts();
                    let mut known = parts.clone();
                    known.extensions.clear();
                    seen.lock().unwrap().push(known);
                    let answering = answer(Request::from_parts(parts, body));
                    async move { Ok::<_, Infallible>(answering.await) }
                });
                let http2 = http2.clone();
                tokio::task::spawn(async move {
                    let io = TokioIo::new(stream);
                    if let Some(builder) = http2 {
                        let _ = builder.serve_connection(io, service).await;
                    } else {
                        let builder = conn::http1::Builder::new();
                        let _ = builder.serve_connection(io, service).with_upgrades().await;
                    }
                });
            }
        });
        server
    }

    /// The heads so far.
    pub(crate) fn heads(&self) -> Vec<Parts> {
        self.seen.lock().unwrap().clone()
    }

    /// Connections so far.
    pub(crate) fn accepted(&self) -> usize {
        self.connections.load(SeqCst)
    }
}
