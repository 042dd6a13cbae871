//! A connection as the worker's sweep sees it.

use std::{cell::Cell, sync::Arc, time::Duration};

use tokio::sync::Notify;

use crate::{Limits, Reason, clock::Moment, stream::Wire};

/// Tells a connection that it is silent or slow for too long.
#[derive(Debug)]
pub(crate) struct Watch {
    wire: Arc<Wire>,
    why: Cell<Option<Reason>>,
    found: Notify,
}

impl Watch {
    pub(crate) fn new(wire: Arc<Wire>) -> Self {
        Self { wire, why: Cell::new(None), found: Notify::new() }
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

    pub(super) fn check(&self, now: Moment, limits: &Limits) {
        let past = |since: u64, most: Duration| now.since(Moment::from_nanos(since)) > most;
        let why = if past(self.wire.moved(), limits.idle) {
            Reason::Idle
        } else if self.wire.head_since().is_some_and(|since| past(since, limits.head_time)) {
            Reason::SlowHead
        } else {
            return;
        };
        self.why.set(Some(why));
        self.found.notify_one();
    }
}
