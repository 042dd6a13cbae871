//! Connections of HTTP/2: many requests at once.

use std::{
    cell::{Cell, RefCell},
    future::{Future as _, poll_fn},
    pin::Pin,
    rc::Rc,
    sync::Arc,
};

use http::Request;
use hyper::{body::Incoming, client::conn::http2};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::sync::Notify;

use super::{May, Pools, Want};
use crate::{
    Limits, Reason,
    balance::EndpointState,
    clock::Moment,
    exchange::RequestBody,
    limits::{Held, breaker},
    tables::Upstream,
    worker::Served,
};

type Sender = http2::SendRequest<RequestBody>;
type Sent = Result<http::Response<Incoming>, hyper::client::conn::TrySendError<Request<RequestBody>>>;

/// A connection that several requests share.
pub(super) struct Shared {
    sender: RefCell<Sender>,
    /// Streams that the server allows, as of the last request.
    streams: Rc<Cell<usize>>,
    endpoint: Arc<EndpointState>,
    upstream: Arc<Upstream>,
    under_way: Cell<u32>,
    served: Cell<u32>,
    used: Cell<Moment>,
    _held: Option<Held>,
}

/// One request's share of a connection.
pub(crate) struct Http2 {
    shared: Rc<Shared>,
    pod: Rc<Served>,
    /// Whether it carried a request before.
    pub reused: bool,
}

impl Pools {
    /// A share of a connection that has room for one more stream, else of a new one.
    pub(crate) async fn http2(&self, want: &Want<'_>) -> Result<Http2, Reason> {
        let address = want.endpoint.address();
        let most = want.client.served.worker.shared.limits.h2_streams;
        let (mut fresh, mut waiting) = (want.fresh, None);
        let held = loop {
            if !fresh && let Some(shared) = self.with_room(want, most) {
                // One connection carries all: the early one is closed.
                want.take_early();
                return Ok(shared.take(&want.client.served));
            }
            // What others open is as good as new.
            fresh = false;
            let opening = self.opening.borrow().get(&address).cloned();
            if let Some(opening) = opening {
                opening.notified().await;
            } else if let May::Open(held) = want.may_open(&mut waiting).await? {
                break held;
            }
        };
        let opened = Rc::<Notify>::default();
        self.opening.borrow_mut().insert(address, Rc::clone(&opened));
        let _opening = Opening { pools: self, address, opened };
        // Rare, and large: every request would carry the room for it.
        let shared = Rc::new(Box::pin(open(want, held)).await?);
        self.http2.borrow_mut().entry(address).or_default().push(Rc::clone(&shared));
        Ok(shared.take(&want.client.served))
    }

    fn with_room(&self, want: &Want<'_>, most: u32) -> Option<Rc<Shared>> {
        let pools = self.http2.borrow();
        let mut shared = pools.get(&want.endpoint.address())?.iter();
        shared.find(|one| one.has_room(most) && !one.endpoint.draining()).cloned()
    }
}

/// Somebody opens a connection; the others wait, and try again when it is there or has failed.
struct Opening<'a> {
    pools: &'a Pools,
    address: std::net::SocketAddr,
    opened: Rc<Notify>,
}

impl Drop for Opening<'_> {
    fn drop(&mut self) {
        self.pools.opening.borrow_mut().remove(&self.address);
        self.opened.notify_waiters();
    }
}

async fn open(want: &Want<'_>, held: Option<Held>) -> Result<Shared, Reason> {
    let pod = &want.client.served;
    let limits = &pod.worker.shared.limits;
    let (stream, held) = want.open(held).await?;
    let mut builder = http2::Builder::new(pod.upstreams.clone());
    builder
        .timer(TokioTimer::new())
        .initial_stream_window_size(limits.h2_window)
        .initial_connection_window_size(limits.h2_window * 4)
        .max_header_list_size(limits.h2_head)
        .max_send_buf_size(limits.h2_window as usize)
        .max_concurrent_reset_streams(limits.h2_resets)
        .max_pending_accept_reset_streams(limits.h2_resets)
        .max_local_error_reset_streams(limits.h2_resets);
    let opened = builder.handshake(TokioIo::new(stream)).await;
    let (sender, mut connection) = opened.map_err(|_| Reason::UPSTREAM_RESET)?;
    let streams = Rc::new(Cell::new(connection.current_max_send_streams()));
    let told = Rc::clone(&streams);
    pod.upstreams.spawn("http2 upstream", async move {
        // Whoever asked is told by the answer.
        let _ = poll_fn(|cx| {
            let polled = Pin::new(&mut connection).poll(cx);
            told.set(connection.current_max_send_streams());
            polled
        })
        .await;
    });
    Ok(Shared {
        sender: RefCell::new(sender),
        streams,
        endpoint: Arc::clone(want.endpoint),
        upstream: Arc::clone(want.upstream),
        under_way: Cell::new(0),
        served: Cell::new(0),
        used: Cell::new(pod.worker.now()),
        _held: held,
    })
}

impl Shared {
    fn take(self: Rc<Self>, pod: &Rc<Served>) -> Http2 {
        let reused = self.served.get() > 0;
        self.under_way.set(self.under_way.get() + 1);
        self.served.set(self.served.get().saturating_add(1));
        Http2 { shared: self, pod: Rc::clone(pod), reused }
    }

    fn has_room(&self, most: u32) -> bool {
        let sender = self.sender.borrow();
        let allowed = u32::try_from(self.streams.get()).unwrap_or(u32::MAX).min(most);
        let breaker = self.upstream.traffic.circuit_breaker.as_ref();
        let worn_out = breaker.is_some_and(|breaker| breaker::worn_out(self.served.get(), breaker));
        !worn_out && !sender.is_closed() && self.under_way.get() < allowed
    }

    /// What is not of use is forgotten, and closed with its last request.
    pub(super) fn is_of_use(&self, now: Moment, limits: &Limits) -> bool {
        let idle = self.under_way.get() == 0 && now.since(self.used.get()) >= limits.pool_time;
        !self.sender.borrow().is_closed() && !self.endpoint.draining() && !idle
    }
}

impl Http2 {
    /// Sends a request; dropping the future resets its stream.
    pub(crate) async fn send(&mut self, request: Request<RequestBody>) -> Sent {
        let sent = self.shared.sender.borrow_mut().try_send_request(request);
        sent.await
    }
}

impl Drop for Http2 {
    fn drop(&mut self) {
        self.shared.under_way.set(self.shared.under_way.get() - 1);
        self.shared.used.set(self.pod.worker.now());
        self.shared.upstream.freed.notify_one();
    }
}
