//! A pod's connections to endpoints on one worker.
//!
//! They live in the pod's namespace, so no other pod may use them. A connection of HTTP/1 is here while it is idle; one
//! of HTTP/2 as long as it lives.

mod http1;
mod http2;
mod socket;

use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
    net::SocketAddr,
    rc::Rc,
    sync::Arc,
    time::Duration,
};

use tokio::{sync::Notify, time::Instant};
use weft_model::CircuitBreaker;

use self::socket::Socket;
pub(crate) use self::{http1::Http1, http2::Http2};
use crate::{
    Limits, Reason,
    balance::EndpointState,
    clock::Moment,
    limits::{Held, Limit},
    outbound::{self, Early},
    serve::Client,
    tables::Upstream,
};

/// See the module.
#[derive(Default)]
pub(crate) struct Pools {
    http1: RefCell<HashMap<SocketAddr, Vec<http1::Idle>>>,
    http2: RefCell<HashMap<SocketAddr, Vec<Rc<http2::Shared>>>>,
    /// Who waits for a connection of HTTP/2 that somebody else opens.
    opening: RefCell<HashMap<SocketAddr, Rc<Notify>>>,
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
}

impl Want<'_> {
    fn breaker(&self) -> Option<&CircuitBreaker> {
        self.upstream.traffic.circuit_breaker.as_ref()
    }

    /// Opens a connection, or takes the one that was opened before HTTP was spoken, if it leads to the same endpoint.
    async fn open(&self, held: Option<Held>) -> Result<(Socket, Option<Held>), Reason> {
        if let Some(early) = self.take_early() {
            return Ok((early.stream.into(), early.held));
        }
        let netns = &self.client.served.pod.netns;
        let stream = outbound::connect(netns, self.endpoint.address(), self.connect).await?;
        Ok((stream.into(), held))
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

    /// Whether the circuit breaker allows one more connection. Where it does not, waits until one became free or was
    /// closed, among as many as it lets wait; then the caller looks again what there is.
    async fn may_open(&self, waiting: &mut Option<Waiting>) -> Result<May, Reason> {
        let Some(limits) = self.breaker().filter(|_| !self.has_early()) else { return Ok(May::Open(None)) };
        let breaker = &self.upstream.breaker;
        let permit = || breaker.hold(Limit::Connections, limits).ok();
        // One that is idle counts as well, and may lead to another endpoint.
        let close_one = || self.client.served.pools.close_one_of(self.upstream);
        if let Some(held) = permit().or_else(|| close_one().then(permit).flatten()) {
            return Ok(May::Open(Some(held)));
        }
        if waiting.is_none() {
            let pending = breaker.hold(Limit::Pending, limits).map_err(|_| {
                if limits.max_pending == 0 { Reason::BreakerConnections } else { Reason::BreakerPending }
            })?;
            *waiting = Some(Waiting { until: Instant::now() + self.connect, _pending: pending });
        }
        let until = waiting.as_ref().expect("it waits from here on at the latest").until;
        let freed = tokio::time::timeout_at(until, self.upstream.freed.notified());
        freed.await.map_err(|_| Reason::BreakerConnections)?;
        Ok(May::LookAgain)
    }
}

/// What the circuit breaker says.
enum May {
    /// Open a connection, and hold this as long as it lives.
    Open(Option<Held>),
    /// Something is free.
    LookAgain,
}

/// A request that waits for a connection.
struct Waiting {
    until: Instant,
    _pending: Held,
}

impl Pools {
    /// Closes what is idle for too long, and what leads to endpoints that have left.
    pub(crate) fn sweep(&self, now: Moment, limits: &Limits) {
        let mut idle = 0;
        self.http1.borrow_mut().retain(|_, kept| {
            kept.retain(|one| one.is_of_use(now, limits));
            idle += kept.len();
            !kept.is_empty()
        });
        self.http2.borrow_mut().retain(|_, shared| {
            shared.retain(|one| one.is_of_use(now, limits));
            !shared.is_empty()
        });
        self.idle.set(idle);
    }

    /// Closes everything that is idle; the rest when its requests are over.
    pub(crate) fn clear(&self) {
        self.http1.borrow_mut().clear();
        self.http2.borrow_mut().clear();
        self.idle.set(0);
    }
}
