//! What each pod has used of the shared proxy: plain counters that metrics read later.

use std::sync::{
    Arc,
    atomic::{AtomicU32, AtomicU64, Ordering::Relaxed},
};

/// The counters of one pod, all workers together.
#[derive(Debug, Default)]
pub struct Account {
    connections: Gauge,
    parked: Gauge,
    requests: Gauge,
    received: AtomicU64,
    sent: AtomicU64,
    busy_ns: AtomicU64,
    refused: AtomicU64,
    mirrors_dropped: AtomicU64,
    handshakes: AtomicU64,
}

/// The counters at one moment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// Connections that are open.
    pub connections: u32,
    /// Of these, parked ones: HTTP/1 between requests, without buffers.
    pub parked: u32,
    /// Connections so far.
    pub connections_total: u64,
    /// Requests under way.
    pub requests: u32,
    /// Requests so far.
    pub requests_total: u64,
    /// Bytes that the pod sent.
    pub received: u64,
    /// Bytes that the pod was sent.
    pub sent: u64,
    /// Time that workers spent on the pod, in nanoseconds: the wall time of its tasks' polls, which never wait. A
    /// worker that the kernel takes off its core in the middle of one counts too much.
    pub busy_ns: u64,
    /// Connections that were refused or cut, each with its Reason in the record.
    pub refused: u64,
    /// Copies for mirrors that were not made or were cut.
    pub mirrors_dropped: u64,
    /// Connections of mutual TLS that were opened, by either end.
    pub handshakes: u64,
}

impl Account {
    /// The counters now.
    pub fn usage(&self) -> Usage {
        Usage {
            connections: self.connections.now.load(Relaxed),
            parked: self.parked.now.load(Relaxed),
            connections_total: self.connections.total.load(Relaxed),
            requests: self.requests.now.load(Relaxed),
            requests_total: self.requests.total.load(Relaxed),
            received: self.received.load(Relaxed),
            sent: self.sent.load(Relaxed),
            busy_ns: self.busy_ns.load(Relaxed),
            refused: self.refused.load(Relaxed),
            mirrors_dropped: self.mirrors_dropped.load(Relaxed),
            handshakes: self.handshakes.load(Relaxed),
        }
    }

    /// Counts a connection until the guard is dropped; `None` where there are `most`.
    pub(crate) fn connection(self: &Arc<Self>, most: u32) -> Option<Counted> {
        self.connections.enter(most).then(|| Counted { account: Arc::clone(self), what: What::Connection })
    }

    /// A connection is parked until the guard is dropped.
    pub(crate) fn parked(self: &Arc<Self>) -> Counted {
        self.parked.enter(u32::MAX);
        Counted { account: Arc::clone(self), what: What::Parked }
    }

    /// As [`Account::connection`], of a request.
    pub(crate) fn request(self: &Arc<Self>, most: u32) -> Option<Counted> {
        self.requests.enter(most).then(|| Counted { account: Arc::clone(self), what: What::Request })
    }

    pub(crate) fn received(&self, bytes: usize) {
        self.received.fetch_add(bytes as u64, Relaxed);
    }

    pub(crate) fn sent(&self, bytes: usize) {
        self.sent.fetch_add(bytes as u64, Relaxed);
    }

    pub(crate) fn busy(&self, nanos: u64) {
        self.busy_ns.fetch_add(nanos, Relaxed);
    }

    pub(crate) fn refused(&self) {
        self.refused.fetch_add(1, Relaxed);
    }

    pub(crate) fn handshake(&self) {
        self.handshakes.fetch_add(1, Relaxed);
    }

    pub(crate) fn mirror_dropped(&self) {
        self.mirrors_dropped.fetch_add(1, Relaxed);
    }
}

/// One that counts.
#[derive(Debug)]
#[must_use = "it counts only as long as it is held"]
pub(crate) struct Counted {
    account: Arc<Account>,
    what: What,
}

#[derive(Debug, Clone, Copy)]
enum What {
    Connection,
    Parked,
    Request,
}

impl Drop for Counted {
    fn drop(&mut self) {
        let gauge = match self.what {
            What::Connection => &self.account.connections,
            What::Parked => &self.account.parked,
            What::Request => &self.account.requests,
        };
        gauge.now.fetch_sub(1, Relaxed);
    }
}

#[derive(Debug, Default)]
struct Gauge {
    now: AtomicU32,
    total: AtomicU64,
}

impl Gauge {
    fn enter(&self, most: u32) -> bool {
        // Workers may each see room for the last one: the bound is exceeded by their number at most.
        if self.now.load(Relaxed) >= most {
            return false;
        }
        self.now.fetch_add(1, Relaxed);
        self.total.fetch_add(1, Relaxed);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_over_the_bound_is_not_counted() {
        let account = Arc::<Account>::default();
        let first = account.connection(1).unwrap();
        assert!(account.connection(1).is_none());
        drop(first);
        let _second = account.connection(1).unwrap();
        let usage = account.usage();
        assert_eq!((usage.connections, usage.connections_total, usage.requests), (1, 2, 0));
    }
}
