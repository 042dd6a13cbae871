//! A pod's connections to endpoints on one worker.
//!
//! They live in the pod's namespace, so no other pod may use them. A connection of HTTP/1 is here while it is idle; one
//! of HTTP/2 as long as it lives.

mod counting;
mod http1;
mod http2;
mod queue;
mod socket;

use hashbrown::HashMap;
use std::{
    cell::{Cell, RefCell},
    net::SocketAddr,
    rc::Rc,
    sync::Arc,
    time::Duration,
};

use self::socket::Socket;
pub(crate) use self::{
    http1::Http1,
    http2::Http2,
    queue::{Asking, May, Queue, Slot},
};
use crate::{
    Limits, Reason,
    balance::EndpointState,
    clock::Moment,
    inbound,
    line::Line,
    outbound::{self, Early},
    serve::Client,
    tables::Upstream,
};

/// See the module.
#[derive(Default)]
pub(crate) struct Pools {
    http1: RefCell<HashMap<SocketAddr, Vec<http1::Idle>>>,
    http2: RefCell<HashMap<SocketAddr, Vec<Rc<http2::Shared>>>>,
    /// Connections of HTTP/2 that somebody opens and others wait for.
    opening: RefCell<HashMap<SocketAddr, Rc<http2::Opening>>>,
    idle: Cell<usize>,
}

/// What a try needs of a connection.
pub(crate) struct Want<'a> {
    pub client: &'a Client,
    pub upstream: &'a Arc<Upstream>,
    pub endpoint: &'a Arc<EndpointState>,
    pub connect: Duration,
    /// A kept connection failed: open one.
    pub fresh: bool,
    /// Whether the connection that was opened before HTTP was spoken may be used.
    pub early: bool,
    /// Set while the circuit breaker has it wait: the endpoint is not asked yet.
    pub queued: &'a Cell<bool>,
}

impl Want<'_> {
    /// Opens a connection, or takes the one that was opened before HTTP was spoken, if it leads to the same endpoint.
    async fn open(&self, slot: Option<Slot>) -> Result<(Socket, Option<Slot>), Reason> {
        if let Some(early) = self.take_early() {
            return Ok((early.stream.into(), early.slot));
        }
        let (served, to) = (&self.client.served, self.endpoint.address());
        let stream = match self.client.caller {
            // Its own app is where it was dialled.
            Some(_) => Line::Plain(inbound::to_app(served, to, self.client.address).await?),
            None => outbound::connect(served, to, self.connect).await?,
        };
        Ok((stream.into(), slot))
    }

    /// Whether a connection that is opened now is mutual TLS. What was opened in clear is not used again then: one of both
    /// ends has joined the mesh since.
    fn is_sealed(&self) -> bool {
        let served = &self.client.served;
        let tables = served.worker.shared.tables.load();
        self.client.caller.is_none() && tables.sealed(&served.pod.name, self.endpoint.address()).is_some()
    }

    /// The early connection, if it leads to the endpoint. Nobody uses it later than for the first request.
    fn take_early(&self) -> Option<Early> {
        let early = if self.early { self.client.early.take() } else { None };
        early.filter(|early| early.endpoint.address() == self.endpoint.address())
    }

    /// Whether there is one. One that leads elsewhere is closed.
    fn has_early(&self) -> bool {
        let Some(early) = self.take_early() else { return false };
        self.client.early.replace(Some(early));
        true
    }

    fn asking(&self) -> Asking<'_> {
        Asking::new(&self.client.served, self.upstream, self.connect)
    }

    /// As [`Asking::may_open`]; what was opened early counts already.
    async fn may_open(&self, asking: &mut Asking<'_>) -> Result<May, Reason> {
        if self.has_early() {
            return Ok(May::Open(None));
        }
        self.queued.set(true);
        let may = asking.may_open().await;
        self.queued.set(false);
        may
    }
}

impl Pools {
    /// Closes what is idle for too long, what leads to endpoints that have left, and what others wait for.
    pub(crate) fn sweep(&self, now: Moment, limits: &Limits) {
        let mut idle = 0;
        self.http1.borrow_mut().retain(|_, kept| {
            kept.retain(|one| one.is_of_use(now, limits) && !self.is_for_others(one.upstream()));
            idle += kept.len();
            !kept.is_empty()
        });
        self.http2.borrow_mut().retain(|_, shared| {
            shared.retain(|one| {
                one.is_of_use(now, limits) && !(one.is_idle() && self.is_for_others(one.upstream()))
            });
            !shared.is_empty()
        });
        self.idle.set(idle);
    }

    /// Closes an idle connection for somebody who waits elsewhere. Returns whether there was one.
    pub(crate) fn make_room(&self, queue: &Arc<Queue>) -> bool {
        // Who waits here finds it by himself.
        !queue.first_is_of(self.id()) && self.close_one_of(queue)
    }

    fn close_one_of(&self, queue: &Arc<Queue>) -> bool {
        self.close_idle_http1(queue) || self.close_idle_http2(queue)
    }

    /// Whether a connection that nobody uses is worth less than a request that waits elsewhere.
    fn is_for_others(&self, upstream: &Upstream) -> bool {
        upstream.traffic.circuit_breaker.is_some() && upstream.queue.first_is_not_of(self.id())
    }

    /// Closes everything that is idle; the rest when its requests are over.
    pub(crate) fn clear(&self) {
        self.http1.borrow_mut().clear();
        self.http2.borrow_mut().clear();
        self.idle.set(0);
    }
}
