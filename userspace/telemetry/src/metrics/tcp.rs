//! `istio_tcp_*`: connections by who, to whom, and how.

use std::{
    collections::{BTreeSet, HashMap},
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeLabel, EncodeLabelSet, EncodeMetric, LabelSetEncoder},
    metrics::{MetricType, counter::ConstCounter},
    registry::Registry,
};
use weft_model::{ObjectName, Snapshot, Workload};

use crate::api::Path;

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

/// The end that reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reporter {
    /// The client's.
    Source,
    /// The server's.
    Destination,
}

/// A workload, in the words of Istio's labels.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Peer {
    workload: Arc<str>,
    namespace: Arc<str>,
    principal: Arc<str>,
    app: Arc<str>,
    version: Arc<str>,
    canonical_service: Arc<str>,
    canonical_revision: Arc<str>,
    cluster: Arc<str>,
}

#[derive(Debug, Default)]
struct Series {
    opened: u64,
    closed: u64,
    sent: u64,
    received: u64,
    gone_since: Option<Instant>,
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

    /// Drops the series whose reporting workload has been gone for [`GRACE`]: long enough for the last
    /// values to be scraped.
    pub fn expire(&self, snapshot: &Snapshot, now: Instant) {
        let live: BTreeSet<_> =
            snapshot.workloads.values().map(|w| (&*w.name.namespace, &*w.owner)).collect();
        self.series().retain(|labels, series| {
            let reporter = labels.reporting();
            if live.contains(&(&*reporter.namespace, &*reporter.workload)) {
                series.gone_since = None;
                return true;
            }
            now.duration_since(*series.gone_since.get_or_insert(now)) < GRACE
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

impl Peer {
    /// The labels of a pod.
    pub fn of(workload: &Workload, trust_domain: &str) -> Self {
        let label = |keys: &[&str]| keys.iter().find_map(|key| workload.labels.get(*key)).map(String::as_str);
        let or_unknown = |value: Option<&str>| value.unwrap_or(UNKNOWN).into();
        let canonical = ["service.istio.io/canonical-name", "app.kubernetes.io/name", "app"];
        let revision = ["service.istio.io/canonical-revision", "app.kubernetes.io/version", "version"];
        Self {
            workload: Arc::clone(&workload.owner),
            namespace: Arc::clone(&workload.name.namespace),
            principal: workload.service_account.spiffe(trust_domain).into(),
            app: or_unknown(label(&["app", "app.kubernetes.io/name"])),
            version: or_unknown(label(&["version", "app.kubernetes.io/version"])),
            canonical_service: label(&canonical).unwrap_or(&workload.owner).into(),
            canonical_revision: label(&revision).unwrap_or("latest").into(),
            cluster: CLUSTER.into(),
        }
    }

    /// Who is no pod of the mesh.
    pub fn unknown() -> Self {
        let unknown: Arc<str> = UNKNOWN.into();
        Self {
            workload: Arc::clone(&unknown),
            namespace: Arc::clone(&unknown),
            principal: Arc::clone(&unknown),
            app: Arc::clone(&unknown),
            version: Arc::clone(&unknown),
            canonical_service: Arc::clone(&unknown),
            canonical_revision: Arc::clone(&unknown),
            cluster: unknown,
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
        let reporter = match self.reporter {
            Reporter::Source => "source",
            Reporter::Destination => "destination",
        };
        let (name, namespace) =
            self.service.as_ref().map_or((UNKNOWN, UNKNOWN), |service| (&*service.name, &*service.namespace));
        let host = match &self.service {
            Some(service) => format!("{}.{}.svc.cluster.local", service.name, service.namespace),
            None => UNKNOWN.to_owned(),
        };
        let path = self.path.to_string();
        let pair = |encoder: &mut LabelSetEncoder<'_>, key: &str, value: &str| {
            (key, value).encode(encoder.encode_label())
        };
        pair(encoder, "reporter", reporter)?;
        for (prefix, peer) in [("source", &self.source), ("destination", &self.destination)] {
            for (key, value) in peer.labels() {
                pair(encoder, &format!("{prefix}_{key}"), value)?;
            }
        }
        pair(encoder, "destination_service", &host)?;
        pair(encoder, "destination_service_name", name)?;
        pair(encoder, "destination_service_namespace", namespace)?;
        pair(encoder, "request_protocol", "tcp")?;
        pair(encoder, "response_flags", "-")?;
        pair(encoder, "connection_security_policy", "none")?;
        pair(encoder, "path", &path)
    }
}

impl Peer {
    fn labels(&self) -> [(&'static str, &str); 8] {
        [
            ("workload", &self.workload),
            ("workload_namespace", &self.namespace),
            ("principal", &self.principal),
            ("app", &self.app),
            ("version", &self.version),
            ("canonical_service", &self.canonical_service),
            ("canonical_revision", &self.canonical_revision),
            ("cluster", &self.cluster),
        ]
    }
}

type CounterOf = (&'static str, &'static str, fn(&Series) -> u64);

const COUNTERS: [CounterOf; 4] = [
    ("istio_tcp_connections_opened", "TCP connections that were established", |series| series.opened),
    ("istio_tcp_connections_closed", "TCP connections that ended", |series| series.closed),
    ("istio_tcp_sent_bytes", "Payload bytes from client to server", |series| series.sent),
    ("istio_tcp_received_bytes", "Payload bytes from server to client", |series| series.received),
];

/// How long the series of a workload that is gone can still be scraped.
pub(super) const GRACE: Duration = Duration::from_mins(5);

/// Istio's word for what is not known.
const UNKNOWN: &str = "unknown";

/// Istio's default name of the one cluster.
const CLUSTER: &str = "Kubernetes";
