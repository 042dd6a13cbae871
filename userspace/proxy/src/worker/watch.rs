//! A connection as the worker's sweep sees it.

use std::{cell::Cell, net::SocketAddr, sync::Arc, time::Duration};

use tokio::sync::Notify;

use crate::{Limits, Reason, clock::Moment, stream::Wire};

/// Tells a connection that it is silent or slow for too long.
#[derive(Debug)]
pub(crate) struct Watch {
    /// Where its socket is in the pod's namespace.
    client: Option<SocketAddr>,
    wire: Arc<Wire>,
    /// How long it may be silent.
    idle: Duration,
    why: Cell<Option<Reason>>,
    found: Notify,
    /// The last silence that was told of: when it began.
    told: Cell<u64>,
    quiet: Notify,
}

impl Watch {
    /// `client` is said where the pod itself is the client: of others' sockets nobody here can ask the kernel.
    pub(crate) fn new(client: Option<SocketAddr>, wire: Arc<Wire>, idle: Duration) -> Self {
        let (found, quiet) = (Notify::new(), Notify::new());
        Self { client, wire, idle, why: Cell::new(None), found, told: Cell::new(0), quiet }
    }

    /// Waits until the sweep finds something.
    pub(crate) async fn found(&self) -> Reason {
        loop {
            if let Some(why) = self.why.get() {
                return why;
            }
            self.found.notified().await;
        }
    }

    /// Waits until no byte has moved for a little: once for each silence.
    pub(crate) async fn quiet(&self) {
        self.quiet.notified().await;
    }

    pub(super) fn check(&self, now: Moment, limits: &Limits) {
        let past = |since: u64, most: Duration| now.since(Moment::from_nanos(since)) > most;
        let moved = self.wire.moved();
        if past(moved, limits.park_time) && self.told.replace(moved) != moved {
            self.quiet.notify_one();
        }
        let why = if past(moved, self.idle) {
            Reason::IDLE
        } else if self.wire.head_since().is_some_and(|since| past(since, limits.head_time)) {
            Reason::SLOW_HEAD
        } else if self.wire.stuck_since().is_some_and(|since| past(since, limits.body_time)) {
            Reason::SLOW_BODY
        } else {
            return;
        };
        self.ends(why);
    }

    /// The client's address, if it has sent its end and awaits an answer, or has left: the bytes are the same.
    pub(super) fn may_have_left(&self) -> Option<SocketAddr> {
        self.client.filter(|_| self.wire.awaits_answer_at_end())
    }

    pub(super) fn ends(&self, why: Reason) {
        self.why.set(Some(why));
        self.found.notify_one();
    }
}
