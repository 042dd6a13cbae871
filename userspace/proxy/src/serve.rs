//! The client's side of HTTP: one connection and the requests on it.

mod parking;
mod rarely;

use std::{
    cell::{Cell, RefCell},
    future::poll_fn,
    net::SocketAddr,
    pin::{Pin, pin},
    rc::Rc,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::Request;
use hyper::{
    body::Incoming as Body,
    server::conn::{
        http1::{self, UpgradeableConnection},
        http2,
    },
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{sync::Notify, time::sleep};

use crate::{
    Reason,
    account::Counted,
    exchange::{self, Guard},
    forwarded::Said,
    http1::{Guarded, Holding, Malformed, Refusal, Resting},
    http2::{Together, gather, is_calmed},
    line::Line,
    observe::{Protocol, Security},
    outbound::{self, Early},
    pool::Pools,
    stream::{Stream, Wire},
    tables::{Caller, Port},
    worker::{Served, Streams, Watch},
};
use parking::Parking;
use rarely::Rarely;

/// A client's HTTP connection, shared by its requests.
pub(crate) struct Client {
    pub served: Rc<Served>,
    pub address: SocketAddr,
    pub dialled: SocketAddr,
    pub spoken: Protocol,
    /// Whether the connection ends with the next answer.
    pub last: Cell<bool>,
    ending: Notify,
    /// A connection that was made before anybody knew that HTTP is spoken.
    pub early: RefCell<Option<Early>>,
    /// Who makes it, where it is not the pod's own connection but made to the pod.
    pub caller: Option<Incoming>,
    /// What servers are told of it.
    pub said: Said,
    pools: Rc<Pools>,
    /// What ends the connection of HTTP/1 while its answer is on the way.
    guard: RefCell<Option<Guard>>,
    stream: RefCell<Option<Stream>>,
    wire: Arc<Wire>,
    /// Of the guard that is before it now.
    refusal: RefCell<Refusal>,
    holding: RefCell<Holding>,
    resting: RefCell<Resting>,
    /// Why it ends, where the proxy ends it.
    cut: Cell<Option<Reason>>,
    under_way: Cell<u32>,
}

/// Who makes a connection to a pod, and where its requests go.
pub(crate) struct Incoming {
    pub caller: Caller,
    pub port: Arc<Port>,
    /// The client's own proxy makes it, and tells of its requests.
    pub told: bool,
    /// How it came here.
    pub security: Security,
    /// SHA-256 of the certificate that the client has shown, in hexadecimal digits.
    pub certificate: Option<Arc<str>>,
}

impl Client {
    /// A client of a connection that is made to the pod. Its requests go to the app by connections that no other client
    /// uses.
    pub(crate) fn of_incoming(
        served: &Rc<Served>,
        (line, first): (Line, Bytes),
        ends: (SocketAddr, SocketAddr),
        spoken: Protocol,
        early: Option<Early>,
        incoming: Incoming,
    ) -> Rc<Self> {
        let client = Self::over(served, (line, first), ends, spoken, early);
        Rc::new(Self { caller: Some(incoming), pools: Rc::default(), ..client })
    }

    /// A client that is the pod itself.
    pub(crate) fn new(
        served: &Rc<Served>,
        (line, first): (Line, Bytes),
        ends: (SocketAddr, SocketAddr),
        spoken: Protocol,
        early: Option<Early>,
    ) -> Rc<Self> {
        Rc::new(Self::over(served, (line, first), ends, spoken, early))
    }

    fn over(
        served: &Rc<Served>,
        (line, first): (Line, Bytes),
        (address, dialled): (SocketAddr, SocketAddr),
        spoken: Protocol,
        early: Option<Early>,
    ) -> Self {
        let (account, shared) = (Arc::clone(&served.pod.account), &served.worker.shared);
        let stream = Stream::new(line, first, spoken, shared.limits.h2_frames, account, shared.clock);
        Self {
            served: Rc::clone(served),
            address,
            dialled,
            spoken,
            last: Cell::new(served.worker.draining.is_cancelled()),
            ending: Notify::new(),
            early: RefCell::new(early),
            caller: None,
            said: Said::of(address.ip()),
            pools: Rc::clone(&served.pools),
            guard: RefCell::default(),
            wire: Arc::clone(stream.wire()),
            stream: RefCell::new(Some(stream)),
            refusal: RefCell::default(),
            holding: RefCell::default(),
            resting: RefCell::default(),
            cut: Cell::new(None),
            under_way: Cell::new(0),
        }
    }

    /// The connections that its requests may use.
    pub(crate) fn pools(&self) -> &Rc<Pools> {
        &self.pools
    }

    /// Has the connection end, which is one of HTTP/1, once `guard` says so and as long as the request is under way.
    pub(crate) fn guard(&self, guard: Guard) {
        self.guard.replace(Some(guard));
    }

    fn poll_guard(&self, cx: &mut Context<'_>) -> Poll<Reason> {
        match &mut *self.guard.borrow_mut() {
            Some(guard) => Pin::new(guard).poll(cx),
            None => Poll::Pending,
        }
    }

    /// Has its close be a reset, for this reason.
    pub(crate) fn reset_on_close(&self, why: Reason) {
        self.cut.set(Some(why));
        self.wire.reset_on_close();
    }

    /// Ends the connection once what is under way on it is answered.
    pub(crate) fn end(&self) {
        self.last.set(true);
        self.ending.notify_one();
    }

    /// Why the framing of what the client sends is refused.
    pub(crate) fn malformed(&self) -> Option<Reason> {
        self.refusal.borrow().malformed().map(Malformed::reason)
    }

    /// What is carried is a tunnel from now on.
    pub(crate) fn becomes_tunnel(&self) {
        self.wire.becomes_tunnel();
    }

    /// An answer comes that is not short, or a tunnel behind it.
    pub(crate) fn becomes_long(&self) {
        self.wire.becomes_long();
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

    /// Whether nothing is under way, and no head on its way.
    fn is_between_requests(&self) -> bool {
        self.under_way.get() == 0 && self.wire.head_since().is_none()
    }

    /// Whether whoever serves it has nothing of it: all is answered, to the last byte.
    fn is_at_rest(&self) -> bool {
        self.is_between_requests() && self.resting.borrow().is_so()
    }

    /// Puts a framing guard before `stream`.
    fn framed(&self, stream: Stream) -> Guarded<Stream> {
        let guarded = Guarded::server(stream, self.served.worker.shared.limits.http1);
        self.refusal.replace(guarded.refusal());
        self.holding.replace(guarded.holding());
        self.resting.replace(guarded.resting());
        guarded
    }

    /// A watch for what goes on on this connection, also after hyper has let go of it. It may be silent as long as the
    /// Service that was dialled says.
    pub(crate) fn watch(&self) -> Rc<Watch> {
        let shared = &self.served.worker.shared;
        let said = shared.tables.load().port(self.dialled).and_then(|port| port.traffic.timeouts.idle);
        let idle = outbound::limit(said, shared.limits.idle);
        let own = self.caller.is_none().then_some(self.address);
        let watch = Rc::new(Watch::new(own, Arc::clone(&self.wire), idle));
        self.served.watch(&watch);
        watch
    }
}

/// A request that counts.
pub(crate) struct UnderWay {
    client: Rc<Client>,
    _counted: Counted,
}

impl UnderWay {
    /// Why its connection ends, where the proxy ends it.
    pub(crate) fn cut(&self) -> Option<Reason> {
        let stopped = || self.client.served.clients.are_stopped().then_some(Reason::CUT);
        self.client.cut.get().or_else(stopped)
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        let left = self.client.under_way.get() - 1;
        self.client.under_way.set(left);
        if left == 0 {
            self.client.guard.take();
            self.client.wire.awaits_head(true);
            // The next head has begun to come, and now nothing but its sender holds it up.
            if self.client.holding.borrow().is_some() {
                self.client.wire.head_begins();
            }
        }
    }
}

/// Dropped while the pod's connections are cut, has the close of one with requests under way be a reset: what was cut
/// must not look complete.
struct Whole<'a>(&'a Client);

impl Drop for Whole<'_> {
    fn drop(&mut self) {
        if self.0.served.clients.are_stopped() && self.0.under_way.get() > 0 {
            self.0.wire.reset_on_close();
        }
    }
}

/// Serves a connection until it ends.
pub(crate) async fn serve(client: Rc<Client>) -> Result<(), Reason> {
    let stream = client.stream.take().expect("a connection is served once");
    let ended = match client.spoken {
        // Boxed: the others would keep the room for it.
        Protocol::Http2 => Box::pin(serve_http2(&client, stream)).await,
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
    let mut builder = http1::Builder::new();
    builder
        .half_close(true)
        // The sweep does that: hyper's would hold for idle connections, too.
        .header_read_timeout(None)
        .max_buf_size(limits.http1_buffer)
        .max_headers(limits.http1.fields)
        .pipeline_flush(true)
        .timer(TokioTimer::new());
    let begin = |stream| {
        // Boxed: hyper keeps the room for a request as long as the connection lives.
        let owned = Rc::clone(client);
        let service = service_fn(move |request: Request<Body>| {
            in_a_box(|| exchange::answer(Rc::clone(&owned), request))
        });
        builder.serve_connection(TokioIo::new(client.framed(stream)), service).with_upgrades()
    };
    let connection = pin!(Parking::new(client, begin, stream));
    let finish =
        |connection: Pin<&mut Parking<_, _>>| connection.finish(UpgradeableConnection::graceful_shutdown);
    drive(client, connection, finish, Parking::park, limits.drain_idle).await
}

async fn serve_http2(client: &Rc<Client>, stream: Stream) -> Result<(), Reason> {
    let limits = &client.served.worker.shared.limits;
    let streams = Streams::new(client.served.clients.clone(), limits.body_time);
    let mut builder = http2::Builder::new(streams);
    builder
        .timer(TokioTimer::new())
        .enable_connect_protocol()
        .max_concurrent_streams(limits.h2_streams)
        .max_header_list_size(limits.h2_head)
        .max_pending_accept_reset_streams(limits.h2_resets)
        .max_local_error_reset_streams(limits.h2_errors)
        .initial_stream_window_size(limits.h2_window)
        .initial_connection_window_size(limits.h2_window * CONNECTION_WINDOW)
        .max_send_buf_size(limits.h2_window as usize)
        .keep_alive_interval(PING)
        .keep_alive_timeout(PONG);
    let owned = Rc::clone(client);
    // Boxed: on its way to its task hyper moves it about.
    let service =
        service_fn(move |request: Request<Body>| in_a_box(|| exchange::answer(Rc::clone(&owned), request)));
    let (stream, turn) = gather(stream);
    let connection = pin!(turn.of(builder.serve_connection(TokioIo::new(stream), service)));
    let finish = |together: Pin<&mut Together<http2::Connection<_, _, _>, _>>| {
        together.connection().graceful_shutdown();
    };
    // GOAWAY loses nothing, so nobody has to be waited for.
    drive(client, connection, finish, |_| {}, Duration::ZERO).await
}

/// A box and what is made in it: `Box::pin` makes it on the stack and copies all the room that it may ever need.
fn in_a_box<F>(make: impl FnOnce() -> F) -> Pin<Box<F>> {
    let place = Box::new_uninit();
    Box::into_pin(Box::write(place, make()))
}

/// Runs a connection while somebody watches it. Dropped, it drops its requests, and they what they do upstream.
async fn drive<C: Future<Output = hyper::Result<()>>>(
    client: &Rc<Client>,
    mut connection: Pin<&mut C>,
    finish: impl Fn(Pin<&mut C>),
    park: impl Fn(Pin<&mut C>),
    grace: Duration,
) -> Result<(), Reason> {
    let _whole = Whole(client);
    let watch = client.watch();
    let mut gone = pin!(client.wire.broken());
    let mut found = pin!(watch.found());
    let drained = &client.served.worker.draining;
    let mut drain = pin!(async {
        tokio::select! {
            () = client.ending.notified() => {}
            () = drained.cancelled() => {
                client.last.set(true);
                sleep(grace).await;
            }
        }
    });
    let (finishing, silent) = (Cell::new(false), Cell::new(false));
    loop {
        let mut aside = pin!(Rarely::new(async {
            tokio::select! {
                biased;
                () = &mut gone => Aside::Gone,
                why = &mut found, if !silent.get() => Aside::Found(why),
                () = watch.quiet() => Aside::Quiet,
                () = &mut drain, if !finishing.get() => Aside::Drain,
            }
        }));
        let event = tokio::select! {
            biased;
            // Its other errors are told by the guard's refusal, or are the client's own.
            ended = connection.as_mut() => return match ended {
                Err(error) if client.wire.is_flooded() || is_calmed(&error) => Err(Reason::FLOOD),
                _ => Ok(()),
            },
            why = poll_fn(|cx| client.poll_guard(cx)) => {
                client.cut.set(Some(why));
                return Err(why);
            }
            event = &mut aside => event,
        };
        match event {
            Aside::Gone => return Err(Reason::CLIENT_GONE),
            Aside::Found(Reason::IDLE) if client.is_between_requests() => {
                silent.set(true);
                // It ends in order: what the client sends meanwhile is answered, or known to be unseen.
                client.end();
            }
            Aside::Found(why) => {
                client.cut.set(Some(why));
                return Err(why);
            }
            Aside::Quiet if client.is_at_rest() => park(connection.as_mut()),
            Aside::Quiet => {}
            Aside::Drain => {
                finishing.set(true);
                finish(connection.as_mut());
            }
        }
    }
}

/// What happens beside what is spoken.
enum Aside {
    /// The connection broke.
    Gone,
    /// The sweep has found something.
    Found(Reason),
    /// No byte has moved for a little.
    Quiet,
    /// It is to end in order.
    Drain,
}

/// A connection's window, in streams' windows.
const CONNECTION_WINDOW: u32 = 4;
/// A client that vanished without a word is noticed.
const PING: Duration = Duration::from_mins(1);
const PONG: Duration = Duration::from_secs(20);
