//! What a pod uses of the shared proxy.

use serde::{Deserialize, Serialize};
use weft_model::ObjectName;

/// What one pod has used of a proxy since that began: totals, not differences.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PodUsage {
    /// The pod.
    #[serde(rename = "p")]
    pub pod: ObjectName,
    /// Connections that are open.
    #[serde(rename = "c")]
    pub connections: u64,
    /// Connections so far.
    #[serde(rename = "ct")]
    pub connections_total: u64,
    /// Requests under way.
    #[serde(rename = "r")]
    pub requests: u64,
    /// Requests so far.
    #[serde(rename = "rt")]
    pub requests_total: u64,
    /// Bytes that the pod sent.
    #[serde(rename = "f")]
    pub received: u64,
    /// Bytes that the pod was sent.
    #[serde(rename = "o")]
    pub sent: u64,
    /// Time that the proxy's threads spent on the pod, in nanoseconds.
    #[serde(rename = "b")]
    pub busy_ns: u64,
    /// Copies of requests for mirrors that were not made or were cut.
    #[serde(rename = "m", default, skip_serializing_if = "super::is_default")]
    pub mirrors_dropped: u64,
    /// Connections of mutual TLS that were opened, by either end.
    #[serde(rename = "h", default, skip_serializing_if = "super::is_default")]
    pub handshakes: u64,
}
