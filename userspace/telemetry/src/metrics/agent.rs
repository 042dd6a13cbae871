//! `weft_*`: the agent itself.

use std::{collections::BTreeMap, sync::atomic::Ordering, time::Duration};

use prometheus_client::{
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram, info::Info},
    registry::Registry,
};
use weft_model::Severity;

use super::{certificate::CertificateMetrics, jwks::JwksMetrics, keeper::KeeperMetrics};
use crate::api::{PodState, Status, Unprotected};

type Label = [(&'static str, String); 1];

/// Metrics of the agent itself. All but refusals and times of applying follow from its [`Status`].
#[derive(Clone, Debug)]
pub struct AgentMetrics {
    map_entries: Family<Label, Gauge>,
    map_capacity: Family<Label, Gauge>,
    apply: Histogram,
    drops: Family<Label, Counter>,
    audited: Family<Label, Counter>,
    unprotected: Family<Label, Gauge>,
    kernel: Family<Label, Counter>,
    snapshot_version: Gauge,
    enforced_version: Gauge,
    pods: Family<Label, Gauge>,
    problems: Family<Label, Gauge>,
    degradations: Gauge,
    keeper: KeeperMetrics,
    certificates: CertificateMetrics,
    jwks: JwksMetrics,
}

impl AgentMetrics {
    /// Registers the metrics of an agent of this version.
    pub fn register(registry: &mut Registry, version: &str) -> Self {
        let metrics = Self {
            map_entries: Family::default(),
            map_capacity: Family::default(),
            apply: Histogram::new(APPLY_SECONDS),
            drops: Family::default(),
            audited: Family::default(),
            unprotected: Family::default(),
            kernel: Family::default(),
            snapshot_version: Gauge::default(),
            enforced_version: Gauge::default(),
            pods: Family::default(),
            problems: Family::default(),
            degradations: Gauge::default(),
            keeper: KeeperMetrics::register(registry),
            certificates: CertificateMetrics::register(registry),
            jwks: JwksMetrics::register(registry),
        };
        metrics.register_all(registry, version);
        metrics
    }

    /// A connection was refused for `reason`.
    pub fn dropped(&self, reason: &str) {
        self.drops.get_or_create(&[("reason", reason.to_owned())]).inc();
    }

    /// So many connections or requests would have been refused for `reason` by a policy in audit mode.
    pub fn audited(&self, reason: &str, count: u64) {
        self.audited.get_or_create(&[("reason", reason.to_owned())]).inc_by(count);
    }

    /// So many live connections are unprotected, by why.
    pub fn unprotected(&self, counts: &BTreeMap<Unprotected, usize>) {
        for why in Unprotected::ALL {
            let count = counts.get(why).copied().unwrap_or_default();
            self.unprotected.get_or_create(&[("reason", why.to_string())]).set(gauge(count));
        }
    }

    /// A configuration was brought into the kernel.
    pub fn applied(&self, took: Duration) {
        self.apply.observe(took.as_secs_f64());
    }

    /// Brings up to date what follows from `status`.
    pub fn show(&self, status: &Status) {
        self.snapshot_version.set(gauge(status.snapshot_version));
        self.enforced_version.set(gauge(status.enforced_version));
        self.degradations.set(gauge(status.degradations.len()));
        self.keeper.show(status.proxy.as_ref());
        self.certificates.show(status.certificates.as_ref());
        self.jwks.show(&status.jwks);
        for map in &status.maps {
            let label = [("map", map.name.clone())];
            self.map_capacity.get_or_create(&label).set(gauge(map.max));
            if let Some(entries) = map.entries {
                self.map_entries.get_or_create(&label).set(gauge(entries));
            }
        }
        // The kernel counts by itself, across restarts of the agent.
        for (name, value) in &status.counters {
            self.kernel.get_or_create(&[("event", name.clone())]).inner().store(*value, Ordering::Relaxed);
        }
        for state in [PodState::Enforced, PodState::Waiting, PodState::Gone] {
            let count = status.pods.iter().filter(|pod| pod.state == state).count();
            self.pods.get_or_create(&[("state", state.to_string().to_lowercase())]).set(gauge(count));
        }
        for (severity, word) in [(Severity::Error, "error"), (Severity::Warning, "warning")] {
            let count = status.problems.iter().filter(|problem| problem.severity == severity).count();
            self.problems.get_or_create(&[("severity", word.to_owned())]).set(gauge(count));
        }
    }

    fn register_all(&self, registry: &mut Registry, version: &str) {
        let build = BTreeMap::from([("version".to_owned(), version.to_owned())]);
        registry.register("weft_build", "The agent", Info::new(build.into_iter().collect::<Vec<_>>()));
        registry.register("weft_map_entries", "Entries of an eBPF map", self.map_entries.clone());
        registry.register("weft_map_capacity", "Entries that fit an eBPF map", self.map_capacity.clone());
        registry.register(
            "weft_apply_seconds",
            "Time to bring a configuration into the kernel",
            self.apply.clone(),
        );
        registry.register("weft_drops", "Refused connections, by reason", self.drops.clone());
        registry.register(
            "weft_audited",
            "Connections and requests that audit policies would have refused, by reason",
            self.audited.clone(),
        );
        registry.register(
            "weft_unprotected_connections",
            "Live connections of enrolled pods that missed the mesh, by reason",
            self.unprotected.clone(),
        );
        registry.register(
            "weft_kernel_events",
            "What the eBPF programs counted, lost events included",
            self.kernel.clone(),
        );
        registry.register(
            "weft_snapshot_version",
            "Version of the configuration that was read last",
            self.snapshot_version.clone(),
        );
        registry.register(
            "weft_enforced_version",
            "Version of the configuration that the kernel enforces",
            self.enforced_version.clone(),
        );
        registry.register("weft_pods", "Enrolled pods of this node, by state", self.pods.clone());
        registry.register("weft_problems", "Problems of the configuration", self.problems.clone());
        registry.register("weft_degradations", "Features that this node lacks", self.degradations.clone());
    }
}

/// A gauge holds an `i64`; no count of ours comes near its end.
pub(super) fn gauge(count: impl TryInto<i64>) -> i64 {
    count.try_into().unwrap_or(i64::MAX)
}

const APPLY_SECONDS: [f64; 9] = [0.001, 0.002, 0.005, 0.01, 0.02, 0.1, 0.5, 2.0, 10.0];
