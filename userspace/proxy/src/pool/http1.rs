//! Connections of HTTP/1: one request at a time.

use std::{rc::Rc, sync::Arc};

use http::{Request, header::UPGRADE};
use http_body::Body as _;
use hyper::{body::Incoming, client::conn::http1};
use hyper_util::rt::TokioIo;

use super::{May, Pools, Queue, Slot, Want, socket::Orders};
use crate::{
    Limits, Reason, balance::EndpointState, clock::Moment, exchange::RequestBody, http1::Guarded,
    limits::breaker, short, tables::Upstream, worker::Served,
};

type Sender = http1::SendRequest<RequestBody>;
type Sent = Result<http::Response<Incoming>, hyper::client::conn::TrySendError<Request<RequestBody>>>;

/// A connection that nobody uses.
pub(super) struct Idle {
    line: Line,
    since: Moment,
}

/// A connection and what is known of it.
struct Line {
    sender: Sender,
    orders: Orders,
    endpoint: Arc<EndpointState>,
    upstream: Arc<Upstream>,
    /// Its bytes are sent as they are.
    clear: bool,
    served: u32,
    _slot: Option<Slot>,
}

/// A connection that one request has to itself.
pub(crate) struct Http1 {
    line: Option<Line>,
    pod: Rc<Served>,
    pools: Rc<Pools>,
    /// Whether it carried a request before, so that the server may have closed it since.
    pub reused: bool,
}

impl Pools {
    /// A connection for one request: an idle one, or a new one.
    pub(crate) async fn http1(self: &Rc<Self>, want: &Want<'_>) -> Result<Http1, Reason> {
        let (pod, pools) = (Rc::clone(&want.client.served), Rc::clone(self));
        let mut asking = want.asking();
        let slot = loop {
            // What was made for this client is not made in vain.
            if !want.fresh
                && !want.has_early()
                && asking.is_next()
                && let Some(line) = self.idle(want)
            {
                return Ok(Http1 { line: Some(line), pod, pools, reused: true });
            }
            if let May::Open(slot) = want.may_open(&mut asking).await? {
                break slot;
            }
        };
        drop(asking);
        // Rare, and large: every request would carry the room for it.
        let line = Box::pin(open(want, slot)).await?;
        Ok(Http1 { line: Some(line), pod, pools, reused: false })
    }

    /// The one that came back last: the others may be closed all the sooner.
    fn idle(&self, want: &Want<'_>) -> Option<Line> {
        let mut pools = self.http1.borrow_mut();
        let kept = pools.get_mut(&want.endpoint.address())?;
        let mut at = kept.len();
        while at > 0 {
            at -= 1;
            let line = &kept[at].line;
            if line.sender.is_closed() || line.endpoint.draining() || (line.clear && want.is_sealed()) {
                kept.swap_remove(at);
                self.idle.set(self.idle.get().saturating_sub(1));
            } else if line.sender.is_ready() {
                self.idle.set(self.idle.get().saturating_sub(1));
                return Some(kept.swap_remove(at).line);
            }
        }
        None
    }

    /// Closes an idle connection of a backend, if there is one.
    pub(super) fn close_idle_http1(&self, queue: &Arc<Queue>) -> bool {
        let mut pools = self.http1.borrow_mut();
        let found = pools.values_mut().find_map(|kept| {
            let at = kept.iter().position(|idle| Arc::ptr_eq(&idle.line.upstream.queue, queue))?;
            Some(kept.swap_remove(at))
        });
        self.idle.set(self.idle.get().saturating_sub(usize::from(found.is_some())));
        found.is_some()
    }

    fn put_back(&self, line: Line, now: Moment, limits: &Limits) {
        let worn_out = line.upstream.traffic.circuit_breaker.as_ref();
        let worn_out = worn_out.is_some_and(|breaker| breaker::worn_out(line.served, breaker));
        if worn_out
            || line.sender.is_closed()
            || line.endpoint.draining()
            || self.idle.get() >= limits.pool_idle
            || self.is_for_others(&line.upstream)
        {
            return;
        }
        let upstream = Arc::clone(&line.upstream);
        self.idle.set(self.idle.get() + 1);
        let address = line.endpoint.address();
        self.http1.borrow_mut().entry(address).or_default().push(Idle { line, since: now });
        if upstream.traffic.circuit_breaker.is_some() {
            upstream.queue.call_in(self.id());
        }
    }
}

async fn open(want: &Want<'_>, slot: Option<Slot>) -> Result<Line, Reason> {
    let pod = &want.client.served;
    let limits = &pod.worker.shared.limits;
    let (mut stream, slot) = want.open(slot).await?;
    let (orders, clear, resting) = (stream.are_short(), stream.is_clear(), stream.resting());
    let guarded = Guarded::client(stream, limits.http1).told_by(resting);
    let mut builder = http1::Builder::new();
    builder.max_headers(limits.http1.fields).max_buf_size(limits.http1_buffer);
    let opened = builder.handshake(TokioIo::new(guarded)).await;
    let (sender, connection) = opened.map_err(|_| Reason::UPSTREAM_RESET)?;
    pod.upstreams.spawn("http1 upstream", async move {
        // Whoever asked is told by the answer, and the idle pool by the sender.
        let _ = connection.with_upgrades().await;
    });
    let (endpoint, upstream) = (Arc::clone(want.endpoint), Arc::clone(want.upstream));
    Ok(Line { sender, orders, endpoint, upstream, clear, served: 0, _slot: slot })
}

impl Http1 {
    /// Sends a request; dropping the future closes the connection.
    pub(crate) fn send(&mut self, request: Request<RequestBody>) -> impl Future<Output = Sent> {
        let line = self.line.as_mut().expect("it is given back once");
        line.served += 1;
        if !short::is_short(&request.body().size_hint()) || request.headers().contains_key(UPGRADE) {
            line.orders.long_comes();
        }
        line.sender.try_send_request(request)
    }

    /// Has its close be a reset: what was cut must not look complete to the server either.
    pub(crate) fn reset_on_close(&self) {
        if let Some(line) = &self.line {
            line.orders.reset_on_close();
        }
    }

    /// The answer has been read to its end.
    pub(crate) fn done(&mut self) {
        if let Some(line) = self.line.take() {
            let worker = &self.pod.worker;
            self.pools.put_back(line, worker.now(), &worker.shared.limits);
        }
    }
}

impl Idle {
    pub(super) fn upstream(&self) -> &Upstream {
        &self.line.upstream
    }

    pub(super) fn is_of_use(&self, now: Moment, limits: &Limits) -> bool {
        let Line { sender, endpoint, upstream, .. } = &self.line;
        let most = upstream.idle_time(limits);
        !sender.is_closed() && !endpoint.draining() && now.since(self.since) < most
    }
}
