//! The client's side of HTTP: one connection and the requests on it.

use std::{
    cell::{Cell, OnceCell, RefCell},
    net::SocketAddr,
    pin::{Pin, pin},
    rc::Rc,
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use http::Request;
use hyper::{
    body::Incoming,
    server::conn::{
        http1::{self, UpgradeableConnection},
        http2,
    },
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{net::TcpStream, time::sleep};

use crate::{
    Reason,
    account::Counted,
    exchange,
    http1::{Guarded, Refusal},
    observe::Protocol,
    outbound::Early,
    stream::{Stream, Wire},
    worker::{Served, Watch},
};

/// A client's HTTP connection, shared by its requests.
pub(crate) struct Client {
    pub served: Rc<Served>,
    pub address: SocketAddr,
    pub dialled: SocketAddr,
    pub spoken: Protocol,
    /// Whether the connection ends with the next answer.
    pub last: Cell<bool>,
    /// A connection that was made before anybody knew that HTTP is spoken.
    pub early: RefCell<Option<Early>>,
    stream: RefCell<Option<Stream>>,
    wire: Arc<Wire>,
    refusal: OnceCell<Refusal>,
    under_way: Cell<u32>,
}

impl Client {
    pub(crate) fn new(
        served: &Rc<Served>,
        socket: TcpStream,
        first: Bytes,
        address: SocketAddr,
        dialled: SocketAddr,
        spoken: Protocol,
        early: Option<Early>,
    ) -> Rc<Self> {
        let (account, clock) = (Arc::clone(&served.pod.account), served.worker.shared.clock);
        let stream = Stream::new(socket, first, spoken, account, clock);
        Rc::new(Self {
            served: Rc::clone(served),
            address,
            dialled,
            spoken,
            last: Cell::new(served.worker.draining.is_cancelled()),
            early: RefCell::new(early),
            wire: Arc::clone(stream.wire()),
            stream: RefCell::new(Some(stream)),
            refusal: OnceCell::new(),
            under_way: Cell::new(0),
        })
    }

    /// Why the framing of what the client sends is refused.
    pub(crate) fn malformed(&self) -> Option<Reason> {
        self.refusal.get()?.malformed().map(Reason::Malformed)
    }

    /// A request is under way until the guard is dropped; `None` where the pod has too many.
    pub(crate) fn request(self: &Rc<Self>) -> Option<UnderWay> {
        let most = self.served.worker.shared.limits.pod_requests;
        // Its head is whole, whatever becomes of it.
        self.wire.awaits_head(self.under_way.get() == 0);
        let counted = self.served.pod.account.request(most)?;
        self.under_way.set(self.under_way.get() + 1);
        self.wire.awaits_head(false);
        Some(UnderWay { client: Rc::clone(self), _counted: counted })
    }

    /// A watch for what goes on on this connection after hyper has let go of it.
    pub(crate) fn watch(&self) -> Rc<Watch> {
        let watch = Rc::new(Watch::new(self.address, Arc::clone(&self.wire)));
        self.served.watch(&watch);
        watch
    }
}

/// A request that counts.
pub(crate) struct UnderWay {
    client: Rc<Client>,
    _counted: Counted,
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        let left = self.client.under_way.get() - 1;
        self.client.under_way.set(left);
        if left == 0 {
            self.client.wire.awaits_head(true);
        }
    }
}

/// Serves a connection until it ends.
pub(crate) async fn serve(client: Rc<Client>) -> Result<(), Reason> {
    let stream = client.stream.take().expect("a connection is served once");
    let ended = match client.spoken {
        Protocol::Http2 => serve_http2(&client, stream).await,
        _ => serve_http1(&client, stream).await,
    };
    if ended.is_err() {
        client.wire.reset_on_close();
    }
    match client.malformed() {
        Some(why) => Err(why),
        None => ended,
    }
}

async fn serve_http1(client: &Rc<Client>, stream: Stream) -> Result<(), Reason> {
    let limits = &client.served.worker.shared.limits;
    let guarded = Guarded::server(stream, limits.http1);
    client.refusal.set(guarded.refusal()).expect("a connection is served once");
    let mut builder = http1::Builder::new();
    builder
        .half_close(true)
        // The sweep does that: hyper's would hold for idle connections, too.
        .header_read_timeout(None)
        .max_buf_size(limits.http1_buffer)
        .max_headers(limits.http1.fields)
        .pipeline_flush(true)
        .timer(TokioTimer::new());
    // Boxed: hyper keeps the room for a request as long as the connection lives.
    let service =
        service_fn(|request: Request<Incoming>| Box::pin(exchange::answer(Rc::clone(client), request)));
    let connection = pin!(builder.serve_connection(TokioIo::new(guarded), service).with_upgrades());
    drive(client, connection, UpgradeableConnection::graceful_shutdown, limits.drain_idle).await
}

async fn serve_http2(client: &Rc<Client>, stream: Stream) -> Result<(), Reason> {
    let limits = &client.served.worker.shared.limits;
    let mut builder = http2::Builder::new(client.served.clients.clone());
    builder
        .timer(TokioTimer::new())
        .enable_connect_protocol()
        .max_concurrent_streams(limits.h2_streams)
        .max_header_list_size(limits.h2_head)
        .max_pending_accept_reset_streams(limits.h2_resets)
        .max_local_error_reset_streams(limits.h2_resets)
        .initial_stream_window_size(limits.h2_window)
        .initial_connection_window_size(limits.h2_window * CONNECTION_WINDOW)
        .max_send_buf_size(limits.h2_window as usize)
        .keep_alive_interval(PING)
        .keep_alive_timeout(PONG);
    let owned = Rc::clone(client);
    let service = service_fn(move |request: Request<Incoming>| exchange::answer(Rc::clone(&owned), request));
    let connection = pin!(builder.serve_connection(TokioIo::new(stream), service));
    // GOAWAY loses nothing, so nobody has to be waited for.
    drive(client, connection, http2::Connection::graceful_shutdown, Duration::ZERO).await
}

/// Runs a connection while somebody watches it. Dropped, it drops its requests, and they what they do upstream.
async fn drive<C: Future<Output = hyper::Result<()>>>(
    client: &Rc<Client>,
    mut connection: Pin<&mut C>,
    finish: impl Fn(Pin<&mut C>),
    grace: Duration,
) -> Result<(), Reason> {
    let watch = client.watch();
    let mut gone = pin!(client.wire.broken());
    let mut found = pin!(watch.found());
    let drained = &client.served.worker.draining;
    let mut drain = pin!(async {
        drained.cancelled().await;
        client.last.set(true);
        sleep(grace).await;
    });
    let mut finishing = false;
    loop {
        tokio::select! {
            biased;
            // Its errors are told by the guard's refusal, or are the client's own.
            _ = connection.as_mut() => return Ok(()),
            () = &mut gone => return Err(Reason::ClientGone),
            why = &mut found => return Err(why),
            () = &mut drain, if !finishing => {
                finishing = true;
                finish(connection.as_mut());
            }
        }
    }
}

/// A connection's window, in streams' windows.
const CONNECTION_WINDOW: u32 = 4;
/// A client that vanished without a word is noticed.
const PING: Duration = Duration::from_mins(1);
const PONG: Duration = Duration::from_secs(20);
