//! `weft get`: the configuration as the agent understood it.

use std::{
    collections::BTreeMap,
    fmt,
    net::{IpAddr, SocketAddr},
};

use serde::{Deserialize, Serialize};
use weft_model::Protocol;

/// A Service.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ServiceView {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// `ClusterIP`, `Headless` or `ExternalName`.
    pub kind: String,
    /// Its ClusterIPs.
    pub ips: Vec<IpAddr>,
    /// Its ports.
    pub ports: Vec<ServicePortView>,
    /// The algorithm of the kernel path.
    pub load_balancer: String,
    /// `sessionAffinity: ClientIP`: for how long.
    pub session_affinity_seconds: Option<u64>,
    /// `PreferSameZone` or `PreferSameNode`; `Local` for `internalTrafficPolicy: Local`.
    pub traffic_distribution: Option<String>,
    /// Whether its same-node connections are accelerated.
    pub accelerate: bool,
}

/// A port of a Service.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ServicePortView {
    /// Its name; empty for the one unnamed port.
    pub name: String,
    /// The port that clients dial.
    pub port: u16,
    /// TCP or UDP.
    pub protocol: Protocol,
    /// `appProtocol`, as written.
    pub app_protocol: Option<String>,
    /// Endpoints that a new connection from this node may go to.
    pub eligible: usize,
    /// All endpoints.
    pub endpoints: usize,
}

/// An endpoint of a Service port.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EndpointView {
    /// The Service's namespace.
    pub namespace: String,
    /// The Service.
    pub service: String,
    /// The Service's port.
    pub port: u16,
    /// TCP or UDP.
    pub protocol: Protocol,
    /// Where a connection goes.
    pub address: SocketAddr,
    /// The backendRef that it belongs to, where a route splits the Service: `namespace/name`.
    pub backend: Option<String>,
    /// Weight of that backendRef.
    pub weight: u32,
    /// The pod behind it, `namespace/name`.
    pub pod: Option<String>,
    /// Its node.
    pub node: Option<String>,
    /// Its zone.
    pub zone: Option<String>,
    /// What it says of itself.
    pub state: EndpointState,
    /// Whether a new connection from this node may go to it.
    pub eligible: bool,
}

/// What an endpoint says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum EndpointState {
    /// Takes new connections.
    Ready,
    /// Is going away, and still serves.
    Serving,
    /// Is going away.
    Terminating,
    /// Does not take connections.
    NotReady,
}

/// A pod, of any node.
#[expect(clippy::struct_excessive_bools, reason = "each is a column of its own")]
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WorkloadView {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its ServiceAccount's name.
    pub service_account: String,
    /// Its SPIFFE ID.
    pub identity: String,
    /// Its addresses.
    pub ips: Vec<IpAddr>,
    /// Its node.
    pub node: Option<String>,
    /// Whether that is this node.
    pub local: bool,
    /// Whether it is in the mesh.
    pub enrolled: bool,
    /// Whether it is ready.
    pub ready: bool,
    /// Whether it is going away.
    pub terminating: bool,
    /// The name that metrics show as its workload.
    pub workload: String,
    /// Path of its network namespace.
    pub netns: Option<String>,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
}

/// An AuthorizationPolicy.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PolicyView {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// `ALLOW` or `DENY`.
    pub action: String,
    /// `Enforce` or `Audit`.
    pub mode: String,
    /// What it protects, like `pods app=web` or `service web`.
    pub target: String,
    /// Its rules.
    pub rules: Vec<RuleView>,
    /// The pods of this node that it protects, `namespace/name`.
    pub pods: Vec<String>,
}

/// A rule: all of its parts must match.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RuleView {
    /// Any of these; `null` is anybody, an empty list is nobody.
    pub sources: Option<Vec<String>>,
    /// Any of these ports, like `8080` or `9000-9010`; `null` is every port.
    pub ports: Option<Vec<String>>,
    /// Asks something of the request, which the kernel cannot see: never allows there.
    pub l7: bool,
}

impl fmt::Display for EndpointState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ready => "Ready",
            Self::Serving => "Serving",
            Self::Terminating => "Terminating",
            Self::NotReady => "NotReady",
        })
    }
}
