//! One record for each connection and each request, for whoever makes flows, metrics and logs of them.
//!
//! Records wait in bounded queues: connections in one for all, requests with the worker that served them. A reader that is
//! too slow loses records, never requests; how many is counted.

mod gathered;

use std::{
    collections::VecDeque,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, SystemTime},
};

pub(crate) use gathered::{Gathered, MOST};
use gathered::{Put, Waiting};
use tokio::sync::{Notify, mpsc};
use weft_model::{ObjectName, ServiceAccount};
use weft_telemetry::records::{Alike, LiveRecord, Spoken};
pub use weft_telemetry::records::{RequestRecord, Security};

use crate::Reason;

/// Something that ended, or goes on.
#[derive(Debug)]
pub enum Record {
    /// A client's connection.
    Connection(Box<ConnectionRecord>),
    /// A request and its answer.
    Request(Box<RequestRecord>),
    /// A connection that goes on.
    Live {
        /// When that was so.
        told: SystemTime,
        /// How far it has come.
        live: Box<LiveRecord>,
    },
}

/// A client's connection, from accept to close.
#[derive(Debug)]
pub struct ConnectionRecord {
    /// Its number in the records that told it while it went on; 0 where none did.
    pub connection: u64,
    /// When it ended.
    pub ended: SystemTime,
    /// The client.
    pub pod: ObjectName,
    /// The client's address.
    pub client: SocketAddr,
    /// Who was dialled; `None` where nobody knows.
    pub dialled: Option<SocketAddr>,
    /// The Service behind it and its port.
    pub service: Option<(ObjectName, u16)>,
    /// The TLSRoute that it took.
    pub route: Option<ObjectName>,
    /// What was spoken.
    pub spoken: Protocol,
    /// Where its bytes went; `None` for HTTP, which has an endpoint for each request.
    pub endpoint: Option<SocketAddr>,
    /// How it was secured between the nodes.
    pub security: Security,
    /// Of a connection that was made to the pod: who made it. Of one that the pod has made, `None`.
    pub inbound: Option<Inbound>,
    /// How long it lasted.
    pub lasted: Duration,
    /// Bytes from the client. For HTTP they are counted by request and by pod.
    pub received: u64,
    /// Bytes to the client.
    pub sent: u64,
    /// Why it was refused or cut; `None` where either side ended it.
    pub reason: Option<Reason>,
}

/// What is known of the client of a connection, or of a request, that was made to a pod.
#[derive(Debug)]
pub struct Inbound {
    /// Who it has proven to be.
    pub account: Option<ServiceAccount>,
    /// The client's own proxy, on this node, tells of it, too.
    pub told: bool,
}

impl Record {
    /// When it ended, or was so.
    pub fn ended(&self) -> SystemTime {
        match self {
            Self::Live { told, .. } => *told,
            Self::Connection(record) => record.ended,
            Self::Request(record) => SystemTime::UNIX_EPOCH + Duration::from_micros(record.ended),
        }
    }
}

/// What is spoken on a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// Bytes.
    Tcp,
    /// TLS that is not looked into.
    Tls,
    /// HTTP/1.
    Http1,
    /// HTTP/2.
    Http2,
}

impl From<Protocol> for Spoken {
    fn from(protocol: Protocol) -> Self {
        match protocol {
            Protocol::Tcp => Self::Tcp,
            Protocol::Tls => Self::Tls,
            Protocol::Http1 => Self::Http1,
            Protocol::Http2 => Self::Http2,
        }
    }
}

/// A time as records tell it.
pub(crate) fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

/// A time of day as records tell it: since 1970.
pub(crate) fn since_1970(time: SystemTime) -> u64 {
    micros(time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default())
}

/// Where a worker puts records.
#[derive(Debug, Clone)]
pub(crate) struct Records {
    queue: mpsc::Sender<Record>,
    requests: Arc<Waiting>,
    /// Requests of this worker that may wait.
    most: usize,
    /// Rings for the first request that waits.
    news: Arc<Notify>,
    dropped: Arc<AtomicU64>,
}

/// Where the records of all workers are read.
#[derive(Debug)]
pub struct Reader {
    queue: mpsc::Receiver<Record>,
    requests: Vec<Arc<Waiting>>,
    /// Of a batch of requests, those that [`Reader::next`] has not given out yet.
    rest: VecDeque<RequestRecord>,
    news: Arc<Notify>,
    dropped: Arc<AtomicU64>,
}

/// What was read for one batch.
#[derive(Debug, Default)]
pub(crate) struct Read {
    pub requests: Gathered,
    pub others: Vec<Record>,
}

/// Queues of so many records: one for connections, and one for the requests of each worker.
pub(crate) fn queues(records: usize, workers: usize) -> (Vec<Records>, Reader) {
    let (queue, receiver) = mpsc::channel(records);
    let (news, dropped) = (Arc::<Notify>::default(), Arc::<AtomicU64>::default());
    let of_worker = |_| Records {
        queue: queue.clone(),
        requests: Arc::default(),
        most: records,
        news: Arc::clone(&news),
        dropped: Arc::clone(&dropped),
    };
    let all: Vec<_> = (0..workers).map(of_worker).collect();
    let requests = all.iter().map(|records| Arc::clone(&records.requests)).collect();
    (all, Reader { queue: receiver, requests, rest: VecDeque::new(), news, dropped })
}

impl Records {
    /// Whether anybody reads: else nothing has to be put together.
    pub(crate) fn wanted(&self) -> bool {
        !self.queue.is_closed()
    }

    pub(crate) fn put(&self, record: Record) {
        if let Err(mpsc::error::TrySendError::Full(_)) = self.queue.try_send(record) {
            self.dropped.fetch_add(1, Relaxed);
        }
    }

    /// A request of this worker ended.
    pub(crate) fn put_request(&self, record: &RequestRecord) {
        match self.requests.put(record, self.most) {
            Put::First => self.news.notify_one(),
            Put::Behind => {}
            Put::Dropped => drop(self.dropped.fetch_add(1, Relaxed)),
        }
    }
}

impl Reader {
    /// The next record; `None` once the proxy is gone.
    pub async fn next(&mut self) -> Option<Record> {
        loop {
            if let Some(request) = self.rest.pop_front() {
                return Some(Record::Request(Box::new(request)));
            }
            if let Some(batch) = self.batch(MOST) {
                self.rest.extend(batch.into_kinds().iter().flat_map(Alike::records));
                continue;
            }
            tokio::select! {
                () = self.news.notified() => {}
                record = self.queue.recv() => return record,
            }
        }
    }

    /// Waits until there is a record. Dropped, it has lost none.
    pub(crate) async fn wait(&mut self, into: &mut Read) {
        while into.is_empty() && !self.requests.iter().any(|waiting| waiting.oldest() > 0) {
            tokio::select! {
                () = self.news.notified() => {}
                record = self.queue.recv() => match record {
                    Some(record) => into.others.push(record),
                    // The proxy is gone: nothing comes any more.
                    None => std::future::pending().await,
                },
            }
        }
    }

    /// Whether there is enough for a batch.
    pub(crate) fn has_batch(&self) -> bool {
        self.queue.len() >= MOST || self.requests.iter().any(|waiting| waiting.oldest() >= MOST)
    }

    /// Takes what is there, until `into` is a batch.
    pub(crate) fn read(&mut self, into: &mut Read) {
        while let Some(batch) = self.batch(MOST - into.requests.requests()) {
            into.requests.join(batch);
        }
        while into.others.len() < MOST
            && let Ok(record) = self.queue.try_recv()
        {
            into.others.push(record);
        }
    }

    /// How many records were lost because the reader was too slow.
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Relaxed)
    }

    /// At most so many requests of the worker whose turn it is.
    fn batch(&mut self, most: usize) -> Option<Gathered> {
        let at = self.requests.iter().position(|waiting| (1..=most).contains(&waiting.oldest()))?;
        let batch = self.requests[at].take();
        // The others' turn comes first.
        self.requests.rotate_left(at + 1);
        batch
    }
}

impl Read {
    pub(crate) fn is_empty(&self) -> bool {
        self.requests.requests() == 0 && self.others.is_empty()
    }
}
