//! `weft_proxy_*`: what each pod uses of the node's shared proxy, and what that refused it.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric, LabelSetEncoder, NoLabelSet},
    metrics::{MetricType, counter::ConstCounter, gauge::ConstGauge},
    registry::Registry,
};
use weft_abi::Reason;
use weft_model::{ObjectName, Snapshot};

use super::{expiry::Gone, peer::pair};
use crate::records::PodUsage;

/// Counters of the proxy, each pod's own. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct ProxyMetrics {
    all: Arc<Mutex<All>>,
}

#[derive(Debug, Default)]
struct All {
    pods: HashMap<ObjectName, OfPod>,
    /// Records that were lost, by the proxy that lost them.
    lost: HashMap<u64, u64>,
    lost_before: u64,
    lines_lost: u64,
}

#[derive(Debug, Default)]
struct OfPod {
    /// What the proxies that run say, by generation.
    running: HashMap<u64, PodUsage>,
    /// What those said last that ended.
    ended: Totals,
    rejected: HashMap<Reason, u64>,
    gone: Gone,
}

#[derive(Clone, Copy, Debug, Default)]
struct Totals {
    connections: u64,
    requests: u64,
    received: u64,
    sent: u64,
    busy_ns: u64,
    mirrors_dropped: u64,
    handshakes: u64,
}

impl ProxyMetrics {
    /// Registers the counters.
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        registry.register_collector(Box::new(metrics.clone()));
        metrics
    }

    /// What a pod has used so far of the proxy `generation`.
    pub fn used(&self, generation: u64, usage: &PodUsage) {
        self.all().pods.entry(usage.pod.clone()).or_default().running.insert(generation, usage.clone());
    }

    /// So many connections or requests of `pod` were refused or broke off.
    pub fn rejected(&self, pod: &ObjectName, reason: Reason, count: u64) {
        let mut all = self.all();
        match all.pods.get_mut(pod) {
            Some(of_pod) => *of_pod.rejected.entry(reason).or_default() += count,
            None => *all.pods.entry(pod.clone()).or_default().rejected.entry(reason).or_default() += count,
        }
    }

    /// So many records has the proxy `generation` lost so far.
    pub fn lost(&self, generation: u64, records: u64) {
        self.all().lost.insert(generation, records);
    }

    /// Records that were lost, by all proxies that this agent knew.
    pub fn records_lost(&self) -> u64 {
        self.all().records_lost()
    }

    /// So many lines of the access log were not written so far.
    pub fn lines_lost(&self, lines: u64) {
        self.all().lines_lost = lines;
    }

    /// The proxy `generation` is gone: its totals stay, what it had open does not. One that ended in order has said that
    /// there was none; what one that was killed had open, as it said last, is counted as cut.
    pub fn ended(&self, generation: u64) {
        let mut all = self.all();
        let all = &mut *all;
        for of_pod in all.pods.values_mut() {
            if let Some(usage) = of_pod.running.remove(&generation) {
                of_pod.ended.add(&usage);
                let cut = usage.connections.saturating_add(usage.requests);
                if cut > 0 {
                    *of_pod.rejected.entry(Reason::CUT).or_default() += cut;
                }
            }
        }
        let lost = all.lost.remove(&generation).unwrap_or_default();
        all.lost_before = all.lost_before.saturating_add(lost);
    }

    /// Drops the series of pods that have been gone for some time.
    pub(super) fn expire(&self, snapshot: &Snapshot, now: Instant) {
        let lives = |pod: &ObjectName| snapshot.workloads.contains_key(pod);
        self.all().pods.retain(|pod, of_pod| of_pod.gone.keep(lives(pod), now));
    }

    fn all(&self) -> MutexGuard<'_, All> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl All {
    fn records_lost(&self) -> u64 {
        self.lost.values().fold(self.lost_before, |sum, lost| sum.saturating_add(*lost))
    }
}

impl OfPod {
    fn totals(&self) -> Totals {
        let mut totals = self.ended;
        self.running.values().for_each(|usage| totals.add(usage));
        totals
    }

    fn open(&self, of: fn(&PodUsage) -> u64) -> u64 {
        self.running.values().map(of).fold(0, u64::saturating_add)
    }
}

impl Totals {
    fn add(&mut self, usage: &PodUsage) {
        self.connections = self.connections.saturating_add(usage.connections_total);
        self.requests = self.requests.saturating_add(usage.requests_total);
        self.received = self.received.saturating_add(usage.received);
        self.sent = self.sent.saturating_add(usage.sent);
        self.busy_ns = self.busy_ns.saturating_add(usage.busy_ns);
        self.mirrors_dropped = self.mirrors_dropped.saturating_add(usage.mirrors_dropped);
        self.handshakes = self.handshakes.saturating_add(usage.handshakes);
    }
}

impl Collector for ProxyMetrics {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let all = self.all();
        for (name, help, of) in OPEN {
            let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
            for (pod, of_pod) in &all.pods {
                let open = i64::try_from(of_pod.open(of)).unwrap_or(i64::MAX);
                ConstGauge::new(open).encode(metric.encode_family(&OfPodLabels { pod, reason: None })?)?;
            }
        }
        for (name, help, of) in TOTALS {
            let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
            for (pod, of_pod) in &all.pods {
                let labels = OfPodLabels { pod, reason: None };
                ConstCounter::new(of(&of_pod.totals())).encode(metric.encode_family(&labels)?)?;
            }
        }
        let help = "Time that the proxy's threads spent on a pod";
        let mut metric =
            encoder.encode_descriptor("weft_proxy_cpu_seconds", help, None, MetricType::Counter)?;
        for (pod, of_pod) in &all.pods {
            let seconds = std::time::Duration::from_nanos(of_pod.totals().busy_ns).as_secs_f64();
            let labels = OfPodLabels { pod, reason: None };
            ConstCounter::new(seconds).encode(metric.encode_family(&labels)?)?;
        }
        let help = "Connections and requests of a pod that were refused or broke off, by reason";
        let mut metric = encoder.encode_descriptor("weft_proxy_rejected", help, None, MetricType::Counter)?;
        for (pod, of_pod) in &all.pods {
            for (reason, count) in &of_pod.rejected {
                let labels = OfPodLabels { pod, reason: Some(*reason) };
                ConstCounter::new(*count).encode(metric.encode_family(&labels)?)?;
            }
        }
        for (name, help, lost) in [
            (
                "weft_proxy_records_lost",
                "Records of requests that were lost because they came too fast",
                all.records_lost(),
            ),
            (
                "weft_access_log_lines_lost",
                "Lines of the access log that nobody took in time",
                all.lines_lost,
            ),
        ] {
            let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
            metric.encode_counter::<NoLabelSet, _, u64>(&lost, None)?;
        }
        Ok(())
    }
}

struct OfPodLabels<'a> {
    pod: &'a ObjectName,
    reason: Option<Reason>,
}

impl EncodeLabelSet for OfPodLabels<'_> {
    fn encode(&self, encoder: &mut LabelSetEncoder<'_>) -> fmt::Result {
        pair(encoder, "namespace", &self.pod.namespace)?;
        pair(encoder, "pod", &self.pod.name)?;
        self.reason.map_or(Ok(()), |reason| pair(encoder, "reason", reason.word()))
    }
}

type OpenOf = (&'static str, &'static str, fn(&PodUsage) -> u64);

const OPEN: [OpenOf; 2] = [
    ("weft_proxy_connections_open", "Connections of a pod that are open", |usage| usage.connections),
    ("weft_proxy_requests_active", "Requests of a pod that are under way", |usage| usage.requests),
];

type TotalOf = (&'static str, &'static str, fn(&Totals) -> u64);

const TOTALS: [TotalOf; 6] = [
    ("weft_proxy_connections", "Connections of a pod", |totals| totals.connections),
    ("weft_proxy_requests", "Requests of a pod", |totals| totals.requests),
    ("weft_proxy_received_bytes", "Bytes that a pod sent", |totals| totals.received),
    ("weft_proxy_sent_bytes", "Bytes that a pod was sent", |totals| totals.sent),
    (
        "weft_proxy_mirrors_dropped",
        "Copies of a pod's requests for mirrors that were not made or were cut",
        |totals| totals.mirrors_dropped,
    ),
    (
        "weft_proxy_tls_handshakes",
        "Connections of mutual TLS that were opened to or from a pod; each carries many of its connections",
        |totals| totals.handshakes,
    ),
];
