//! A request in the ring.

use std::{sync::Arc, time::Duration};

use crate::api::{Flow, HttpFlow, Source, Time};

/// What a request shares with those that are like it, and what is its own. A flow is made of it only when somebody asks:
/// requests come faster than anybody reads.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    /// The flow of one that is like it.
    pub(crate) like: Arc<Flow>,
    pub(crate) time: Time,
    /// Of the client's address.
    pub(crate) port: u16,
    pub(crate) path: Arc<str>,
    pub(crate) lasted: Duration,
    pub(crate) bytes_sent: u64,
    pub(crate) bytes_received: u64,
}

impl Request {
    pub(super) fn time(&self) -> Time {
        self.time
    }

    pub(crate) fn flow(&self) -> Arc<Flow> {
        let like = &*self.like;
        let http = like.http.as_deref().map(|http| HttpFlow {
            path: Arc::clone(&self.path),
            latency_ms: self.lasted.as_secs_f64() * 1e3,
            ..http.clone()
        });
        Arc::new(Flow {
            time: self.time,
            source: Source { port: self.port, ..like.source.clone() },
            bytes_sent: self.bytes_sent,
            bytes_received: self.bytes_received,
            duration_ms: u64::try_from(self.lasted.as_millis()).unwrap_or(u64::MAX),
            http: http.map(Box::new),
            ..like.clone()
        })
    }
}
