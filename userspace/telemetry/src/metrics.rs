//! What `/metrics` shows.
//!
//! A struct for each stage, registered by its constructor: [`TcpMetrics`] speaks Istio's names and
//! labels, so that dashboards made for those just work, and so does [`HttpMetrics`]; [`ProxyMetrics`] is what each pod
//! uses of the node's proxy, [`AgentMetrics`] is about the agent itself.

mod agent;
mod buckets;
mod certificate;
mod expiry;
mod http;
mod jwks;
mod keeper;
mod peer;
mod proxy;
mod tcp;

use std::time::Instant;

pub use agent::AgentMetrics;
pub use http::{Ends, HttpMetrics, Known};
pub use peer::{Peer, Reporter};
use prometheus_client::{encoding::text, registry::Registry};
pub use proxy::ProxyMetrics;
pub use tcp::{TcpLabels, TcpMetrics};
use weft_model::Snapshot;

use crate::api::Status;

/// All metrics of an agent.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    /// Connections.
    pub tcp: TcpMetrics,
    /// Requests.
    pub http: HttpMetrics,
    /// The node's proxy.
    pub proxy: ProxyMetrics,
    /// The agent itself.
    pub agent: AgentMetrics,
}

impl Metrics {
    /// The metrics of an agent of this version.
    pub fn new(version: &str) -> Self {
        let mut registry = Registry::default();
        let tcp = TcpMetrics::register(&mut registry);
        let http = HttpMetrics::register(&mut registry);
        let proxy = ProxyMetrics::register(&mut registry);
        let agent = AgentMetrics::register(&mut registry, version);
        Self { registry, tcp, http, proxy, agent }
    }

    /// OpenMetrics text. What `status` and `snapshot` know is brought up to date before: gauges, the
    /// kernel's counters, and which series belong to workloads that are gone.
    pub fn encode(&self, status: &Status, snapshot: &Snapshot) -> String {
        self.agent.show(status);
        let (live, now) = (expiry::Live::of(snapshot), Instant::now());
        self.tcp.expire(&live, now);
        self.http.expire(&live, now);
        self.proxy.expire(snapshot, now);
        let mut text = String::new();
        text::encode(&mut text, &self.registry).expect("writing to a String cannot fail");
        text
    }
}

#[cfg(test)]
mod tests;
