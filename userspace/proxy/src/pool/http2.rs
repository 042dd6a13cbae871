//! Connections of HTTP/2: many requests at once.

use std::{
    cell::{Cell, RefCell},
    future::{Future as _, poll_fn},
    net::SocketAddr,
    pin::Pin,
    rc::Rc,
    sync::Arc,
    time::Duration,
};

use http::Request;
use hyper::{body::Incoming, client::conn::http2};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    sync::Notify,
    time::{Instant, timeout, timeout_at},
};

use super::{
    May, Pools, Queue, Slot, Want,
    counting::{Counting, Flooded},
};
use crate::{
    Limits, Reason,
    balance::EndpointState,
    clock::Moment,
    exchange::RequestBody,
    http2::{Gathered, Spawns, gather},
    limits::breaker,
    tables::Upstream,
    worker::Served,
};

type Sender = http2::SendRequest<RequestBody>;
type Connection = http2::Connection<TokioIo<Gathered<Counting>>, RequestBody, Spawns<Counting>>;
type Sent = Result<http::Response<Incoming>, hyper::client::conn::TrySendError<Request<RequestBody>>>;

/// A connection that several requests share.
pub(super) struct Shared {
    sender: RefCell<Sender>,
    said: Rc<Said>,
    flooded: Flooded,
    endpoint: Arc<EndpointState>,
    upstream: Arc<Upstream>,
    /// Its bytes are sent as they are.
    clear: bool,
    under_way: Cell<u32>,
    served: Cell<u32>,
    used: Cell<Moment>,
    _slot: Option<Slot>,
}

/// What the server says in its SETTINGS.
#[derive(Default)]
struct Said {
    /// Streams that it allows, as of the last request.
    streams: Cell<usize>,
    /// Whether it takes extended CONNECT (RFC 8441 3); `None` before it has said anything.
    tunnels: Cell<Option<bool>>,
    heard: Notify,
}

impl Said {
    /// Reads what the connection knows of them.
    fn read(&self, connection: &Connection, came: bool) {
        self.streams.set(connection.current_max_send_streams());
        if came {
            self.tunnels.set(Some(connection.is_extended_connect_protocol_enabled()));
            self.heard.notify_waiters();
        }
    }
}

/// One request's share of a connection.
pub(crate) struct Http2 {
    shared: Rc<Shared>,
    pod: Rc<Served>,
    pools: Rc<Pools>,
    /// Whether it carried a request before.
    pub reused: bool,
}

impl Pools {
    /// A share of a connection that has room for one more stream, else of a new one.
    pub(crate) async fn http2(self: &Rc<Self>, want: &Want<'_>) -> Result<Http2, Reason> {
        let address = want.endpoint.address();
        let most = want.client.served.worker.shared.limits.h2_streams;
        let (mut fresh, mut asking, mut waited) = (want.fresh, want.asking(), Waited::default());
        let slot = loop {
            if !fresh && let Some(shared) = self.with_room(want, most) {
                // One connection carries all: the early one is closed.
                want.take_early();
                return Ok(shared.take(&want.client.served, self));
            }
            // What others open is as good as new.
            fresh = false;
            let opening = self.opening.borrow().get(&address).cloned();
            if let Some(opening) = opening {
                waited.for_what(&opening, want.connect).await?;
            } else if let May::Open(slot) = want.may_open(&mut asking).await? {
                break slot;
            }
        };
        drop(asking);
        let opening = Opener::new(self, address);
        // Rare, and large: every request would carry the room for it.
        let opened = Box::pin(open(want, slot)).await;
        let shared = Rc::new(opened.inspect_err(|why| opening.failed(*why))?);
        self.http2.borrow_mut().entry(address).or_default().push(Rc::clone(&shared));
        // It may have room for more.
        want.upstream.queue.call_in(self.id());
        Ok(shared.take(&want.client.served, self))
    }

    /// Closes an idle connection of a backend, if there is one.
    pub(super) fn close_idle_http2(&self, queue: &Arc<Queue>) -> bool {
        let mut pools = self.http2.borrow_mut();
        let found = pools.values_mut().find_map(|all| {
            let at = all.iter().position(|one| one.is_idle() && Arc::ptr_eq(&one.upstream.queue, queue))?;
            Some(all.swap_remove(at))
        });
        found.is_some()
    }

    fn with_room(&self, want: &Want<'_>, most: u32) -> Option<Rc<Shared>> {
        let pools = self.http2.borrow();
        let mut shared = pools.get(&want.endpoint.address())?.iter();
        let fits = |one: &&Rc<Shared>| {
            one.has_room(most) && !one.endpoint.draining() && !(one.clear && want.is_sealed())
        };
        shared.find(fits).cloned()
    }
}

/// A connection that somebody opens and others wait for.
#[derive(Default)]
pub(super) struct Opening {
    over: Notify,
    failed: Cell<Option<Reason>>,
}

/// Who opens it. Where he leaves, one of the others does.
struct Opener<'a> {
    pools: &'a Pools,
    address: SocketAddr,
    opening: Rc<Opening>,
}

impl<'a> Opener<'a> {
    fn new(pools: &'a Pools, address: SocketAddr) -> Self {
        let opening = Rc::<Opening>::default();
        pools.opening.borrow_mut().insert(address, Rc::clone(&opening));
        Self { pools, address, opening }
    }

    /// Tells all who wait.
    fn failed(&self, why: Reason) {
        self.opening.failed.set(Some(why));
    }
}

impl Drop for Opener<'_> {
    fn drop(&mut self) {
        self.pools.opening.borrow_mut().remove(&self.address);
        self.opening.over.notify_waiters();
    }
}

/// How long somebody may still wait for connections that others open.
#[derive(Default)]
struct Waited {
    until: Option<Instant>,
}

impl Waited {
    /// Waits until it is open, or fails as it did: who waits for the same connection shares its fate.
    async fn for_what(&mut self, opening: &Opening, most: Duration) -> Result<(), Reason> {
        let until = *self.until.get_or_insert_with(|| Instant::now() + most);
        let over = timeout_at(until, opening.over.notified()).await;
        over.map_err(|_| Reason::CONNECT_TIMEOUT)?;
        opening.failed.get().map_or(Ok(()), Err)
    }
}

async fn open(want: &Want<'_>, slot: Option<Slot>) -> Result<Shared, Reason> {
    let pod = &want.client.served;
    let limits = &pod.worker.shared.limits;
    let (mut stream, slot) = want.open(slot).await?;
    let clear = stream.is_clear();
    // It begins with its SETTINGS (RFC 9113 3.4).
    let (mut greeting, mut heard) = (stream.greeting(), false);
    let stream = Counting::new(stream, limits.h2_frames, pod.worker.shared.clock);
    let flooded = stream.flooded();
    let (stream, turn) = gather(stream);
    let mut builder = http2::Builder::new(Spawns::new(pod.upstreams.clone(), turn));
    builder
        .timer(TokioTimer::new())
        .initial_stream_window_size(limits.h2_window)
        .initial_connection_window_size(limits.h2_window * 4)
        .max_header_list_size(limits.h2_head)
        .max_send_buf_size(limits.h2_window as usize)
        .max_concurrent_reset_streams(limits.h2_resets)
        .max_pending_accept_reset_streams(limits.h2_resets)
        .max_local_error_reset_streams(limits.h2_errors);
    let opened = builder.handshake(TokioIo::new(stream)).await;
    let (sender, mut connection) = opened.map_err(|_| Reason::UPSTREAM_RESET)?;
    let said = Rc::<Said>::default();
    said.read(&connection, false);
    let told = Rc::clone(&said);
    pod.upstreams.spawn("http2 upstream", async move {
        // Whoever asked is told by the answer.
        let _ = poll_fn(|cx| {
            let polled = Pin::new(&mut connection).poll(cx);
            // Nobody waits for what a connection that is over might have said.
            heard = heard || polled.is_ready() || Pin::new(&mut greeting).poll(cx).is_ready();
            told.read(&connection, heard);
            polled
        })
        .await;
    });
    Ok(Shared {
        sender: RefCell::new(sender),
        said,
        flooded,
        endpoint: Arc::clone(want.endpoint),
        upstream: Arc::clone(want.upstream),
        clear,
        under_way: Cell::new(0),
        served: Cell::new(0),
        used: Cell::new(pod.worker.now()),
        _slot: slot,
    })
}

impl Shared {
    fn take(self: Rc<Self>, pod: &Rc<Served>, pools: &Rc<Pools>) -> Http2 {
        let reused = self.served.get() > 0;
        self.under_way.set(self.under_way.get() + 1);
        self.served.set(self.served.get().saturating_add(1));
        Http2 { shared: self, pod: Rc::clone(pod), pools: Rc::clone(pools), reused }
    }

    fn has_room(&self, most: u32) -> bool {
        let sender = self.sender.borrow();
        let allowed = u32::try_from(self.said.streams.get()).unwrap_or(u32::MAX).min(most);
        let breaker = self.upstream.traffic.circuit_breaker.as_ref();
        let worn_out = breaker.is_some_and(|breaker| breaker::worn_out(self.served.get(), breaker));
        !worn_out && !sender.is_closed() && self.under_way.get() < allowed
    }

    pub(super) fn is_idle(&self) -> bool {
        self.under_way.get() == 0
    }

    pub(super) fn upstream(&self) -> &Upstream {
        &self.upstream
    }

    /// What is not of use is forgotten, and closed with its last request.
    pub(super) fn is_of_use(&self, now: Moment, limits: &Limits) -> bool {
        let idle = self.is_idle() && now.since(self.used.get()) >= self.upstream.idle_time(limits);
        !self.sender.borrow().is_closed() && !self.endpoint.draining() && !idle
    }
}

impl Http2 {
    /// Whether the server takes tunnels: waits for what it says of itself, `most` at most.
    pub(crate) async fn takes_tunnels(&self, most: Duration) -> Result<bool, Reason> {
        let said = &self.shared.said;
        let wait = async {
            loop {
                if let Some(takes) = said.tunnels.get() {
                    return takes;
                }
                said.heard.notified().await;
            }
        };
        timeout(most, wait).await.map_err(|_| Reason::CONNECT_TIMEOUT)
    }

    /// Whether its server was cut off for frames that answer nothing.
    pub(crate) fn is_flooded(&self) -> bool {
        self.shared.flooded.is_so()
    }

    /// Sends a request; dropping the future resets its stream.
    pub(crate) async fn send(&mut self, request: Request<RequestBody>) -> Sent {
        let sent = self.shared.sender.borrow_mut().try_send_request(request);
        sent.await
    }
}

impl Drop for Http2 {
    fn drop(&mut self) {
        let (shared, pools) = (&self.shared, &self.pools);
        shared.under_way.set(shared.under_way.get() - 1);
        shared.used.set(self.pod.worker.now());
        if shared.upstream.traffic.circuit_breaker.is_none() {
            return;
        }
        if shared.is_idle() && pools.is_for_others(&shared.upstream) {
            let address = shared.endpoint.address();
            if let Some(all) = pools.http2.borrow_mut().get_mut(&address) {
                all.retain(|one| !Rc::ptr_eq(one, shared));
            }
        } else {
            shared.upstream.queue.call_in(pools.id());
        }
    }
}
