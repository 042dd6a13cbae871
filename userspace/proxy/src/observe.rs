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

use http::Method;
use tokio::sync::mpsc;
use weft_model::{ObjectName, RouteName, ServiceAccount};
use weft_telemetry::records::LiveRecord;
pub use weft_telemetry::records::Security;

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

/// A request and its answer.
#[derive(Debug)]
pub struct RequestRecord {
    /// When it ended.
    pub ended: SystemTime,
    /// The client.
    pub pod: ObjectName,
    /// The client's address.
    pub client: SocketAddr,
    /// The dialled Service and its port.
    pub service: Option<(ObjectName, u16)>,
    /// The route and the rule's place in it; `None` for plain Service behaviour and for refusals before.
    pub route: Option<(RouteName, usize)>,
    /// The backend that answered, or was tried last.
    pub backend: Option<(ObjectName, u16)>,
    /// Its endpoint.
    pub endpoint: Option<SocketAddr>,
    /// How the connection to it was secured.
    pub security: Security,
    /// What the client speaks.
    pub spoken: Protocol,
    /// Whether it is a gRPC call.
    pub is_grpc: bool,
    /// The method.
    pub method: Method,
    /// The host.
    pub host: Option<Box<str>>,
    /// The path, normal, without the query.
    pub path: Box<str>,
    /// The id that the request carries.
    pub id: Option<Box<str>>,
    /// The trace that its `traceparent` names.
    pub trace: Option<Box<str>>,
    /// Its `user-agent`.
    pub agent: Option<Box<str>>,
    /// The answer's status; 0 where there was none.
    pub status: u16,
    /// The answer's `grpc-status`.
    pub grpc: Option<u32>,
    /// Tries that were made.
    pub tries: u32,
    /// Whether a delay was injected.
    pub delayed: bool,
    /// Whether all the tries that its retry policy gives were used up.
    pub exhausted: bool,
    /// From the last try's beginning to the head of the server's answer; zero where there was none.
    pub upstream: Duration,
    /// From the request's head to the answer's end.
    pub lasted: Duration,
    /// Bytes of the request's body.
    pub received: u64,
    /// Bytes of the answer's body.
    pub sent: u64,
    /// Messages of a gRPC call, as far as they came: the request's and the answer's.
    pub messages: (u64, u64),
    /// Why it did not get what it asked for.
    pub reason: Option<Reason>,
    /// Why audited policies would have refused it.
    pub audit: Option<Reason>,
    /// Of a request that was made to the pod: who made it. Of one that the pod has made, `None`.
    pub inbound: Option<Inbound>,
}

impl Record {
    /// When it ended, or was so.
    pub fn ended(&self) -> SystemTime {
        match self {
            Self::Live { told, .. } => *told,
            Self::Connection(record) => record.ended,
            Self::Request(record) => record.ended,
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
