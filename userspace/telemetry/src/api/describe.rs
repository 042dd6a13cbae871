//! `weft describe`: one object with all that touches it.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{ConnectionView, EndpointView, Flow, PodStatus, PolicyView, ServiceView, WorkloadView};

/// A pod with all that touches it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PodDescription {
    /// The pod.
    pub workload: WorkloadView,
    /// How it is enforced, if it is an enrolled pod of this node.
    pub status: Option<PodStatus>,
    /// The Service ports that it is an endpoint of.
    pub endpoints: Vec<EndpointView>,
    /// The policies that protect it.
    pub policies: Vec<PolicyView>,
    /// Its live connections.
    pub connections: Vec<ConnectionView>,
    /// Its last flows.
    pub flows: Vec<Arc<Flow>>,
}

/// A Service with all that touches it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ServiceDescription {
    /// The Service.
    pub service: ServiceView,
    /// Its endpoints.
    pub endpoints: Vec<EndpointView>,
    /// Live connections to it from pods of this node.
    pub connections: Vec<ConnectionView>,
}
