//! The connections that the node's proxies relay now, as they tell them: the kernel knows neither who has proven to be the
//! client nor which of them are mutual TLS.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use crate::{
    metrics::{Metrics, TcpLabels},
    records::{LiveRecord, Security},
};

/// The live connections of all proxies of a node. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct Live {
    all: Arc<Mutex<HashMap<Key, Entry>>>,
}

/// The proxy's generation, and the connection's number there.
type Key = (u64, u64);

#[derive(Debug)]
struct Entry {
    ends: Ends,
    carried: Carried,
    /// Whose counters its bytes move; `None` where somebody else counts them.
    labels: Option<TcpLabels>,
    counted: Counted,
}

/// A connection's two ends, as the socket has them that the proxy has accepted; or the app, where connections share one
/// between the nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Ends {
    /// A pod's own: its address.
    Outbound(SocketAddr),
    /// One that was made to a pod: the client's address and the pod's.
    Inbound(SocketAddr, SocketAddr),
}

/// How a connection is carried.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Carried {
    /// Whose it is: the client's address, and the port that its app has, 0 where that is not known.
    pub from: SocketAddr,
    /// Where its bytes go.
    pub endpoint: SocketAddr,
    /// How it is secured between the nodes.
    pub security: Security,
    /// The SPIFFE ID of the client, where it is proven.
    pub client: Option<Arc<str>>,
}

/// Bytes that are in the counters.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Counted {
    pub(crate) received: u64,
    pub(crate) sent: u64,
}

impl Live {
    /// All of them, by their ends.
    pub fn by_ends(&self) -> HashMap<Ends, Carried> {
        self.all().values().map(|entry| (entry.ends, entry.carried.clone())).collect()
    }

    /// Counts what a proxy tells of a connection; `news` where it is told for the first time. One over [`MOST`] is
    /// counted when it ends.
    pub(crate) fn goes_on(
        &self,
        generation: u64,
        record: &LiveRecord,
        metrics: &Metrics,
        news: impl FnOnce() -> (Carried, Option<TcpLabels>),
    ) -> bool {
        let mut all = self.all();
        let key = (generation, record.connection);
        let full = all.len() >= MOST;
        let mut is_new = false;
        let entry = match all.get_mut(&key) {
            Some(entry) => entry,
            None if full => return false,
            None => {
                let (carried, labels) = news();
                if let Some(labels) = &labels {
                    metrics.tcp.opened(labels);
                }
                is_new = true;
                let entry = Entry { ends: Ends::of(record), carried, labels, counted: Counted::default() };
                all.entry(key).or_insert(entry)
            }
        };
        let now = Counted { received: record.received, sent: record.sent };
        if let Some(labels) = &entry.labels {
            entry.counted.count(now, labels, metrics);
        }
        is_new
    }

    /// A connection has ended that has carried so much; whether it was among these and is counted now.
    pub(crate) fn has_ended(
        &self,
        generation: u64,
        connection: u64,
        total: Counted,
        metrics: &Metrics,
    ) -> bool {
        let Some(mut entry) = self.all().remove(&(generation, connection)) else { return false };
        if let Some(labels) = &entry.labels {
            entry.counted.count(total, labels, metrics);
            metrics.tcp.closed(labels);
        }
        true
    }

    /// The proxy `generation` is gone, and all that it carried.
    pub(crate) fn is_gone(&self, generation: u64, metrics: &Metrics) {
        for (_, entry) in self.all().extract_if(|key, _| key.0 == generation) {
            if let Some(labels) = &entry.labels {
                metrics.tcp.closed(labels);
            }
        }
    }

    fn all(&self) -> MutexGuard<'_, HashMap<Key, Entry>> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Ends {
    fn of(record: &LiveRecord) -> Self {
        match record.inbound {
            Some(_) => Self::Inbound(record.peer.unwrap_or(record.client), record.endpoint),
            None => Self::Outbound(record.client),
        }
    }
}

impl Counted {
    /// A total never gets smaller: what is told late adds nothing.
    fn count(&mut self, now: Self, labels: &TcpLabels, metrics: &Metrics) {
        let received = now.received.saturating_sub(self.received);
        let sent = now.sent.saturating_sub(self.sent);
        metrics.tcp.transferred(labels, received, sent);
        (self.received, self.sent) = (self.received + received, self.sent + sent);
    }
}

/// As many as the flows of connections that are kept.
const MOST: usize = 65_536;
