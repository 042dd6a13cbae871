//! One record for each connection and each request, for whoever makes flows, metrics and logs of them.
//!
//! Records wait in a bounded queue. A reader that is too slow loses records, never requests; how many is counted.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, SystemTime},
};

use tokio::sync::mpsc;
use weft_model::{ObjectName, ServiceAccount};
use weft_telemetry::records::{LiveRecord, Spoken};
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

/// Where workers put records.
#[derive(Debug, Clone)]
pub(crate) struct Records {
    queue: mpsc::Sender<Record>,
    dropped: Arc<AtomicU64>,
}

/// Where records are read.
#[derive(Debug)]
pub struct Reader {
    queue: mpsc::Receiver<Record>,
    dropped: Arc<AtomicU64>,
}

/// A queue for so many records.
pub(crate) fn queue(records: usize) -> (Records, Reader) {
    let (sender, receiver) = mpsc::channel(records);
    let dropped = Arc::<AtomicU64>::default();
    (Records { queue: sender, dropped: Arc::clone(&dropped) }, Reader { queue: receiver, dropped })
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
}

impl Reader {
    /// The next record; `None` once the proxy is gone.
    pub async fn next(&mut self) -> Option<Record> {
        self.queue.recv().await
    }

    /// Waits for a record and takes it, with what is there beside it up to `most` of them. Dropped, it has taken none.
    pub async fn read(&mut self, into: &mut Vec<Record>, most: usize) {
        if self.queue.recv_many(into, most).await == 0 {
            // The proxy is gone: nothing comes any more.
            std::future::pending::<()>().await;
        }
    }

    /// Takes what is there, until `into` has `most`.
    pub fn read_now(&mut self, into: &mut Vec<Record>, most: usize) {
        while into.len() < most
            && let Ok(record) = self.queue.try_recv()
        {
            into.push(record);
        }
    }

    /// How many records were lost because the reader was too slow.
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Relaxed)
    }
}
