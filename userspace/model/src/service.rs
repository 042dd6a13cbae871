//! Services and the endpoints behind them.

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use serde::{Deserialize, Serialize};

use crate::{ObjectName, PortRouting, TrafficSettings};

/// A Service with everything that balancing needs, endpoints included.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Service {
    /// Its name.
    pub name: ObjectName,
    /// What the addresses mean.
    pub kind: ServiceKind,
    /// ClusterIPs, in the object's order; empty unless `kind` is [`ServiceKind::ClusterIp`].
    pub ips: Vec<IpAddr>,
    /// Its ports, each with its own endpoints.
    pub ports: Vec<ServicePort>,
    /// `sessionAffinity: ClientIP` and its timeout.
    pub session_affinity: Option<Duration>,
    /// The algorithm for connections that stay in the kernel.
    pub load_balancer: LoadBalancer,
    /// `weft.dev/accelerate: same-node`.
    pub accelerate: bool,
    /// `weft.dev/proxy-failure`.
    #[serde(default)]
    pub proxy_failure: ProxyFailure,
    /// What its TrafficPolicy says, also where nothing of it takes connections to the proxy: requests come here
    /// by other Services' routes.
    #[serde(default)]
    pub traffic: Arc<TrafficSettings>,
}

/// What becomes of a connection that needs the node's proxy while that is gone for longer than its lease,
/// unless TLS or an L7 authorization is due: then it is refused in any case (contract, section 1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum ProxyFailure {
    /// It is refused.
    #[default]
    Closed,
    /// It takes the kernel path.
    Open,
}

/// What a Service's addresses mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ServiceKind {
    /// Balanced behind its ClusterIPs.
    ClusterIp,
    /// `clusterIP: None`: DNS gives pod addresses, there is nothing to balance.
    Headless,
    /// A DNS alias: never touched.
    ExternalName,
}

/// One port of a Service.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ServicePort {
    /// Its name; empty where the Service has one unnamed port.
    pub name: Arc<str>,
    /// The port that clients dial.
    pub port: u16,
    /// Its protocol.
    pub protocol: Protocol,
    /// `appProtocol`, as written.
    pub app_protocol: Option<Arc<str>>,
    /// Where connections may go. One group of weight 1 holds the Service's own endpoints; a route's
    /// backendRefs make one group each, and leave the Service's own endpoints with weight 0: no
    /// connection goes there, but policies that target the Service go on protecting them.
    pub groups: Vec<EndpointGroup>,
    /// What the node's proxy does with connections to this port; `None` where they stay in the kernel.
    pub routing: Option<Arc<PortRouting>>,
}

/// Endpoints that share one weight: those of one backendRef.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EndpointGroup {
    /// The Service whose endpoints these are.
    pub service: ObjectName,
    /// Its share among the groups of the port; 0 gets none. A group without endpoints refuses its share.
    pub weight: u32,
    /// `internalTrafficPolicy: Local` of that Service.
    pub node_local: bool,
    /// `trafficDistribution` of that Service.
    pub distribution: Distribution,
    /// Its endpoints, in a stable order, without doubles.
    pub endpoints: Vec<Endpoint>,
}

/// One address behind a Service port.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Endpoint {
    /// The address that a client's socket is connected to.
    pub address: SocketAddr,
    /// Takes new connections.
    pub ready: bool,
    /// Could take connections: differs from `ready` while terminating.
    pub serving: bool,
    /// Is going away.
    pub terminating: bool,
    /// The node it runs on.
    pub node: Option<Arc<str>>,
    /// The zone of that node.
    pub zone: Option<Arc<str>>,
    /// Topology hints of the EndpointSlice.
    pub hints: Option<Arc<Hints>>,
    /// The pod behind it.
    pub pod: Option<ObjectName>,
}

/// `endpoints[].hints` of an EndpointSlice.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Hints {
    /// `forZones`.
    pub zones: Vec<Arc<str>>,
    /// `forNodes`.
    pub nodes: Vec<Arc<str>>,
}

/// `trafficDistribution` of a Service.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Distribution {
    /// No preference.
    #[default]
    Any,
    /// `PreferSameZone`, formerly `PreferClose`.
    PreferSameZone,
    /// `PreferSameNode`.
    PreferSameNode,
}

/// How the kernel path chooses among endpoints.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum LoadBalancer {
    /// Uniformly (by weight) at random.
    #[default]
    Random,
    /// In turn.
    RoundRobin,
    /// The one with fewer open connections of this node, of two drawn at random.
    LeastRequest,
    /// By the client's IP, with a Maglev table of `table_size` (a prime).
    SourceIpHash {
        /// Entries of the Maglev table.
        table_size: u32,
    },
}

/// A transport protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Protocol {
    /// TCP.
    #[serde(rename = "TCP")]
    Tcp,
    /// UDP.
    #[serde(rename = "UDP")]
    Udp,
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp => "TCP",
            Self::Udp => "UDP",
        })
    }
}
