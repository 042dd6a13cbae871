//! `istio_tcp_*`: connections by who, to whom, and how.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric, LabelSetEncoder},
    metrics::{MetricType, counter::ConstCounter},
    registry::Registry,
};
use weft_model::ObjectName;

use super::{
    expiry::{Gone, Live},
    peer::{Peer, Reporter, pair, service},
};
use crate::{api::Path, records::Security};

/// Counters of connections. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct TcpMetrics {
    series: Arc<Mutex<HashMap<TcpLabels, Series>>>,
}

/// Whose connections a series counts. Cheap to clone.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct TcpLabels {
    /// Which end reports: on the same node, both do.
    pub reporter: Reporter,
    /// The client.
    pub source: Arc<Peer>,
    /// The server.
    pub destination: Arc<Peer>,
    /// The Service that was dialled.
    pub service: Option<ObjectName>,
    /// The way that the bytes take.
    pub path: Path,
}

#[derive(Debug, Default)]
struct Series {
    opened: u64,
    closed: u64,
    sent: u64,
    received: u64,
    gone: Gone,
}

impl TcpMetrics {
    /// Registers the counters.
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        registry.register_collector(Box::new(metrics.clone()));
        metrics
    }

    /// A connection was established.
    pub fn opened(&self, labels: &TcpLabels) {
        self.change(labels, |series| series.opened += 1);
    }

    /// It ended.
    pub fn closed(&self, labels: &TcpLabels) {
        self.change(labels, |series| series.closed += 1);
    }

    /// Payload went over it since the last call: `sent` to the server, `received` by the client.
    pub fn transferred(&self, labels: &TcpLabels, sent: u64, received: u64) {
        self.change(labels, |series| {
            series.sent += sent;
            series.received += received;
        });
    }

    /// Drops the series whose reporting workload has been gone for some time.
    pub(super) fn expire(&self, live: &Live<'_>, now: Instant) {
        self.series().retain(|labels, series| {
            let (namespace, workload) = labels.reporting().name();
            series.gone.keep(live.has(namespace, workload), now)
        });
    }

    fn change(&self, labels: &TcpLabels, change: impl FnOnce(&mut Series)) {
        let mut all = self.series();
        match all.get_mut(labels) {
            Some(series) => change(series),
            None => change(all.entry(labels.clone()).or_default()),
        }
    }

    fn series(&self) -> MutexGuard<'_, HashMap<TcpLabels, Series>> {
        self.series.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl TcpLabels {
    fn reporting(&self) -> &Peer {
        match self.reporter {
            Reporter::Source => &self.source,
            Reporter::Destination => &self.destination,
        }
    }
}

impl Collector for TcpMetrics {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let all = self.series();
        for (name, help, value) in COUNTERS {
            let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
            for (labels, series) in all.iter() {
                ConstCounter::new(value(series)).encode(metric.encode_family(labels)?)?;
            }
        }
        Ok(())
    }
}

impl EncodeLabelSet for TcpLabels {
    fn encode(&self, encoder: &mut LabelSetEncoder<'_>) -> fmt::Result {
        pair(encoder, "reporter", self.reporter.word())?;
        self.source.encode(encoder, "source")?;
        self.destination.encode(encoder, "destination")?;
        service(encoder, self.service.as_ref())?;
        pair(encoder, "request_protocol", "tcp")?;
        pair(encoder, "response_flags", "-")?;
        let security = if self.path == Path::Tls { Security::MutualTls } else { Security::None };
        pair(encoder, "connection_security_policy", security.word())?;
        pair(encoder, "path", &self.path.to_string())
    }
}

type CounterOf = (&'static str, &'static str, fn(&Series) -> u64);

const COUNTERS: [CounterOf; 4] = [
    ("istio_tcp_connections_opened", "TCP connections that were established", |series| series.opened),
    ("istio_tcp_connections_closed", "TCP connections that ended", |series| series.closed),
    ("istio_tcp_sent_bytes", "Payload bytes from client to server", |series| series.sent),
    ("istio_tcp_received_bytes", "Payload bytes from server to client", |series| series.received),
];
