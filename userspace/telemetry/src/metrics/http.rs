//! `istio_requests_total` and what goes with it: requests by who, to whom, and how they ended.
//!
//! Requests that are alike are counted by a look-up in one map; labels become text when they are scraped. The number of series is
//! bounded: what comes when all are taken is counted in one series for each reporter, whose ends are `overflow`.

use std::{
    fmt,
    hash::{Hash, Hasher},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use hashbrown::{HashMap, HashSet};
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric, LabelSetEncoder},
    metrics::{MetricType, counter::ConstCounter},
    registry::{Registry, Unit},
};
use weft_model::ObjectName;

use super::{
    buckets::Buckets,
    expiry::{Gone, Live},
    peer::{Peer, Reporter, pair, service},
};
use crate::{
    api::Path,
    records::{Alike, Destination, Own, RequestRecord, Security},
};

/// Counters of requests. Clones share them.
#[derive(Clone, Debug)]
pub struct HttpMetrics {
    all: Arc<Mutex<All>>,
    most: usize,
}

/// The ends of a request, as its record does not have them.
#[derive(Clone, Debug)]
pub struct Ends {
    /// The client.
    pub source: Known,
    /// The server; [`HttpMetrics::unknown`] where no server was asked.
    pub destination: Known,
    /// Whether the server is an enrolled pod of this node, and reports, too.
    pub both: bool,
}

/// A workload that the metrics know: there is one for each, so that comparing two is comparing pointers.
#[derive(Clone, Debug)]
pub struct Known(Arc<Peer>);

impl Known {
    /// The labels themselves.
    pub(crate) fn peer(&self) -> &Arc<Peer> {
        &self.0
    }
}

#[derive(Debug, Default)]
struct All {
    series: HashMap<Labels, Series>,
    peers: HashSet<Arc<Peer>>,
    /// Records that were counted in an overflow series.
    overflowed: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Labels {
    reporter: Reporter,
    source: Known,
    destination: Known,
    service: Option<ObjectName>,
    grpc: bool,
    status: u16,
    grpc_status: Option<u32>,
    flags: &'static str,
    security: Security,
}

#[derive(Clone, Debug, Default)]
struct Series {
    requests: u64,
    milliseconds: Buckets,
    received: Buckets,
    sent: Buckets,
    messages: (u64, u64),
    gone: Gone,
}

impl HttpMetrics {
    /// Registers the counters.
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self::with_most(SERIES);
        registry.register_collector(Box::new(metrics.clone()));
        metrics
    }

    fn with_most(most: usize) -> Self {
        Self { all: Arc::default(), most }
    }

    /// The one of its labels.
    pub fn known(&self, peer: Peer) -> Known {
        let mut all = self.all();
        if let Some(known) = all.peers.get(&peer) {
            return Known(Arc::clone(known));
        }
        let known = Arc::new(peer);
        all.peers.insert(Arc::clone(&known));
        Known(known)
    }

    /// Who is no pod of the mesh.
    pub fn unknown(&self) -> Known {
        self.known(Peer::unknown())
    }

    /// Requests ended.
    pub fn count(&self, alike: &Alike, ends: &Ends) {
        let service = alike.like().service.as_ref();
        let mut labels = Labels::of(
            alike.like(),
            Reporter::Source,
            service,
            ends.source.clone(),
            ends.destination.clone(),
        );
        let mut all = self.all();
        if ends.both {
            all.add(&labels, alike, self.most);
            labels.reporter = Reporter::Destination;
        }
        all.add(&labels, alike, self.most);
    }

    /// Requests ended that were made to a pod of this node, whose client's node tells the other half.
    pub fn count_incoming(
        &self,
        alike: &Alike,
        service: Option<&Destination>,
        source: Known,
        destination: Known,
    ) {
        let labels = Labels::of(alike.like(), Reporter::Destination, service, source, destination);
        self.all().add(&labels, alike, self.most);
    }

    /// Drops the series whose reporting workload has been gone for some time.
    pub(super) fn expire(&self, live: &Live<'_>, now: Instant) {
        let mut all = self.all();
        let overflow = Peer::overflow();
        all.series.retain(|labels, series| {
            let peer = labels.reporting();
            let (namespace, workload) = peer.name();
            series.gone.keep(*peer == overflow || live.has(namespace, workload), now)
        });
        all.peers.retain(|peer| Arc::strong_count(peer) > 1);
    }

    fn all(&self) -> MutexGuard<'_, All> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl All {
    fn add(&mut self, labels: &Labels, alike: &Alike, most: usize) {
        if let Some(series) = self.series.get_mut(labels) {
            return alike.each().for_each(|own| series.add(&own));
        }
        let labels = if self.series.len() < most {
            labels.clone()
        } else {
            self.overflowed += alike.count() as u64;
            self.overflow(labels.reporter)
        };
        let series = self.series.entry(labels).or_default();
        alike.each().for_each(|own| series.add(&own));
    }

    fn overflow(&mut self, reporter: Reporter) -> Labels {
        let peer = Peer::overflow();
        let known = self.peers.get(&peer).cloned().unwrap_or_else(|| Arc::new(peer));
        self.peers.insert(Arc::clone(&known));
        Labels {
            reporter,
            source: Known(Arc::clone(&known)),
            destination: Known(known),
            service: None,
            grpc: false,
            status: 0,
            grpc_status: None,
            flags: "-",
            security: Security::None,
        }
    }
}

impl Series {
    #[expect(clippy::cast_precision_loss, reason = "a sum of bytes may be off by 2^-53 of itself")]
    fn add(&mut self, own: &Own<'_>) {
        self.requests += 1;
        self.milliseconds.add(Duration::from_micros(own.lasted).as_secs_f64() * 1e3);
        self.received.add(own.received as f64);
        self.sent.add(own.sent as f64);
        let (received, sent) = self.messages;
        self.messages = (received.saturating_add(own.messages.0), sent.saturating_add(own.messages.1));
    }
}

impl Labels {
    fn of(
        record: &RequestRecord,
        reporter: Reporter,
        service: Option<&Destination>,
        source: Known,
        destination: Known,
    ) -> Self {
        Self {
            reporter,
            source,
            destination,
            service: service.map(|service| service.0.clone()),
            grpc: record.grpc,
            status: record.status,
            grpc_status: record.grpc_status,
            flags: record.flags(),
            security: record.security,
        }
    }

    fn reporting(&self) -> &Peer {
        match self.reporter {
            Reporter::Source => &self.source.0,
            Reporter::Destination => &self.destination.0,
        }
    }
}

impl PartialEq for Known {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for Known {}

impl Hash for Known {
    fn hash<H: Hasher>(&self, state: &mut H) {
        Arc::as_ptr(&self.0).hash(state);
    }
}

impl Collector for HttpMetrics {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        // Copied, so that no record waits while megabytes of text are written.
        let (all, overflowed) = {
            let all = self.all();
            let copy = all.series.iter().map(|(labels, series)| (labels.clone(), series.clone()));
            (copy.collect::<Vec<_>>(), all.overflowed)
        };
        let mut metric =
            encoder.encode_descriptor("istio_requests", "Requests that ended", None, MetricType::Counter)?;
        for (labels, series) in &all {
            ConstCounter::new(series.requests).encode(metric.encode_family(labels)?)?;
        }
        for (name, help, unit, buckets) in HISTOGRAMS {
            let mut metric = encoder.encode_descriptor(name, help, unit, MetricType::Histogram)?;
            for (labels, series) in &all {
                buckets(series).encode(&mut metric.encode_family(labels)?)?;
            }
        }
        for (name, help, messages) in MESSAGES {
            let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
            for (labels, series) in all.iter().filter(|(labels, _)| labels.grpc) {
                ConstCounter::new(messages(series)).encode(metric.encode_family(labels)?)?;
            }
        }
        let (name, help) = ("weft_http_series_overflow", "Requests for whose labels there was no room");
        let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
        metric.encode_counter::<prometheus_client::encoding::NoLabelSet, _, u64>(&overflowed, None)
    }
}

impl EncodeLabelSet for Labels {
    fn encode(&self, encoder: &mut LabelSetEncoder<'_>) -> fmt::Result {
        pair(encoder, "reporter", self.reporter.word())?;
        self.source.0.encode(encoder, "source")?;
        self.destination.0.encode(encoder, "destination")?;
        service(encoder, self.service.as_ref())?;
        pair(encoder, "request_protocol", if self.grpc { "grpc" } else { "http" })?;
        pair(encoder, "response_code", &self.status.to_string())?;
        let status = self.grpc_status.map(|status| status.to_string()).unwrap_or_default();
        pair(encoder, "grpc_response_status", &status)?;
        pair(encoder, "response_flags", self.flags)?;
        pair(encoder, "connection_security_policy", self.security.word())?;
        pair(encoder, "path", &Path::Http.to_string())
    }
}

type HistogramOf = (&'static str, &'static str, Option<&'static Unit>, fn(&Series) -> &Buckets);

const HISTOGRAMS: [HistogramOf; 3] = [
    ("istio_request_duration_milliseconds", "From the request's head to the answer's end", None, |series| {
        &series.milliseconds
    }),
    ("istio_request_bytes", "Bytes of request bodies", None, |series| &series.received),
    ("istio_response_bytes", "Bytes of answer bodies", None, |series| &series.sent),
];

type CounterOf = (&'static str, &'static str, fn(&Series) -> u64);

const MESSAGES: [CounterOf; 2] = [
    ("istio_request_messages", "gRPC messages of requests", |series| series.messages.0),
    ("istio_response_messages", "gRPC messages of answers", |series| series.messages.1),
];

/// Series that are kept, both reporters together.
const SERIES: usize = 2_048;

#[cfg(test)]
mod tests;
