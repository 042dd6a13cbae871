//! `weft_proxy_restarts` and what goes with it: how the node's proxy is kept running.

use std::sync::atomic::{AtomicU64, Ordering};

use prometheus_client::{
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::Registry,
};

use super::agent::gauge;
use crate::api::{GenerationState, ProxyState, ProxyStatus};

type Label = [(&'static str, String); 1];

/// All of it follows from the [`ProxyStatus`]. Without a proxy there are no states, and nothing has happened.
#[derive(Clone, Debug, Default)]
pub(super) struct KeeperMetrics {
    restarts: Counter,
    state: Family<Label, Gauge>,
    processes: Family<Label, Gauge>,
    generation: Gauge,
    lease_age: Gauge<f64, AtomicU64>,
}

impl KeeperMetrics {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        let restarts = metrics.restarts.clone();
        registry.register("weft_proxy_restarts", "Proxies that ended without being told to", restarts);
        let state = metrics.state.clone();
        registry.register("weft_proxy_state", "1 for the state that the node's proxy is in", state);
        let processes = metrics.processes.clone();
        registry.register("weft_proxy_processes", "Proxy processes, by how far they are", processes);
        registry.register(
            "weft_proxy_generation",
            "Which proxy is in force: higher for each later one; 0 for none",
            metrics.generation.clone(),
        );
        registry.register(
            "weft_proxy_lease_age_seconds",
            "Time since a proxy last said that it serves; after 5 s the kernel takes it for gone",
            metrics.lease_age.clone(),
        );
        metrics
    }

    #[expect(clippy::cast_precision_loss, reason = "no lease is older than 2^53 ms")]
    pub(super) fn show(&self, proxy: Option<&ProxyStatus>) {
        let Some(proxy) = proxy else { return };
        self.restarts.inner().store(proxy.restarts, Ordering::Relaxed);
        for state in [ProxyState::Idle, ProxyState::Starting, ProxyState::Active, ProxyState::Failing] {
            let label = [("state", state.to_string().to_lowercase())];
            self.state.get_or_create(&label).set((proxy.state == state).into());
        }
        for state in [GenerationState::Filling, GenerationState::Active, GenerationState::Draining] {
            let count = proxy.generations.iter().filter(|generation| generation.state == state).count();
            self.processes.get_or_create(&[("state", state.to_string().to_lowercase())]).set(gauge(count));
        }
        let active = proxy.generations.iter().rfind(|generation| generation.state == GenerationState::Active);
        self.generation.set(active.map_or(0, |active| gauge(active.generation)));
        self.lease_age.set(proxy.lease_age_ms.unwrap_or_default() as f64 / 1e3);
    }
}
