//! Objects, checked and compact: what is kept of them once they are parsed.
//!
//! A parsed EndpointSlice of k8s-openapi takes about 0.6 KB an endpoint; these take a tenth.

mod route;
pub(crate) mod traffic;

use std::{
    collections::{BTreeMap, HashSet},
    fmt,
    net::IpAddr,
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use weft_model::{
    Action, AppProtocol, ContainerPort, Distribution, Hints, JwtProvider, LoadBalancer, LogFilter, LogFormat,
    Mode, MtlsMode, ObjectName, PolicyTarget, Protocol, ProxyFailure, RouteName, Rule, Selector,
    ServiceAccount, ServiceKind, TrafficSettings,
};

pub(crate) use route::{BackendRef, Filter, ParentRef, Route, RouteRule, Target};

/// The kinds that weft reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Kind {
    MeshConfig,
    Namespace,
    Node,
    ServiceAccount,
    Service,
    EndpointSlice,
    Pod,
    TcpRoute,
    HttpRoute,
    GrpcRoute,
    TlsRoute,
    ReferenceGrant,
    TrafficPolicy,
    AuthorizationPolicy,
    AuthenticationPolicy,
    TelemetryPolicy,
    XMesh,
}

/// Which object: its kind and name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Key {
    pub(crate) kind: Kind,
    pub(crate) name: ObjectName,
}

/// A valid object. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) enum Object {
    MeshConfig(Arc<MeshConfig>),
    Namespace(Arc<Namespace>),
    Node(Arc<Node>),
    Service(Arc<Service>),
    EndpointSlice(Arc<EndpointSlice>),
    Pod(Arc<Pod>),
    Route(Arc<Route>),
    TrafficPolicy(Arc<TrafficPolicy>),
    AuthorizationPolicy(Arc<AuthorizationPolicy>),
    AuthenticationPolicy(Arc<AuthenticationPolicy>),
    TelemetryPolicy(Arc<TelemetryPolicy>),
    XMesh(Arc<XMesh>),
    /// Checked and valid; nothing of it reaches the snapshot.
    Noted,
}

/// `Object::pod()` and the like: the object, if it is of that kind.
macro_rules! picks {
    ($($name:ident $kind:ident)*) => {
        impl Object {$(
            pub(crate) fn $name(self) -> Option<Arc<$kind>> {
                if let Self::$kind(object) = self { Some(object) } else { None }
            }
        )*}
    };
}

picks! {
    mesh_config MeshConfig
    namespace Namespace
    node Node
    service Service
    endpoint_slice EndpointSlice
    pod Pod
    route Route
    traffic_policy TrafficPolicy
    authorization_policy AuthorizationPolicy
    authentication_policy AuthenticationPolicy
    telemetry_policy TelemetryPolicy
}

/// The settings of the whole mesh.
#[derive(Debug)]
pub(crate) struct MeshConfig {
    /// As it is written.
    pub(crate) trust_domain: Option<Arc<str>>,
    /// Other names of it: their SPIFFE IDs are ours.
    pub(crate) trust_domain_aliases: Arc<[Arc<str>]>,
    pub(crate) certificate_ttl: Duration,
    pub(crate) brought_authority: Option<ObjectName>,
    pub(crate) namespace_selector: Selector,
    pub(crate) mtls: MtlsMode,
    pub(crate) access_log: LogSettings,
}

#[derive(Debug)]
pub(crate) struct Namespace {
    /// `None` in a manifest.
    pub(crate) uid: Option<Arc<str>>,
    pub(crate) labels: BTreeMap<String, String>,
}

#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) zone: Option<Arc<str>>,
}

#[derive(Debug)]
pub(crate) struct Service {
    pub(crate) name: ObjectName,
    pub(crate) kind: ServiceKind,
    pub(crate) ips: Vec<IpAddr>,
    /// Whether endpoints taken from pods may be IPv4, IPv6.
    pub(crate) families: [bool; 2],
    pub(crate) ports: Vec<ServicePort>,
    /// Which pods are behind it; `None` where somebody else says so.
    pub(crate) selector: Option<Selector>,
    pub(crate) session_affinity: Option<Duration>,
    pub(crate) node_local: bool,
    pub(crate) distribution: Distribution,
    pub(crate) publish_not_ready: bool,
    pub(crate) accelerate: bool,
    pub(crate) proxy_failure: ProxyFailure,
    /// Its type, where that lets in whoever reaches a node or a load balancer.
    pub(crate) exposed: Option<&'static str>,
}

#[derive(Debug)]
pub(crate) struct ServicePort {
    pub(crate) name: Arc<str>,
    pub(crate) port: u16,
    pub(crate) protocol: Protocol,
    pub(crate) app_protocol: Option<Arc<str>>,
    /// What that means.
    pub(crate) speaks: AppProtocol,
    pub(crate) target: TargetPort,
}

#[derive(Debug)]
pub(crate) enum TargetPort {
    Number(u16),
    Name(Arc<str>),
}

#[derive(Debug)]
pub(crate) struct EndpointSlice {
    /// The Service that its endpoints are behind.
    pub(crate) service: ObjectName,
    /// Name, protocol and number of its ports.
    pub(crate) ports: Box<[(Arc<str>, Protocol, u16)]>,
    pub(crate) endpoints: Box<[SliceEndpoint]>,
}

#[derive(Debug)]
pub(crate) struct SliceEndpoint {
    pub(crate) address: IpAddr,
    pub(crate) ready: bool,
    pub(crate) serving: bool,
    pub(crate) terminating: bool,
    pub(crate) node: Option<Arc<str>>,
    pub(crate) zone: Option<Arc<str>>,
    pub(crate) hints: Option<Arc<Hints>>,
    pub(crate) pod: Option<ObjectName>,
}

#[derive(Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own in the object")]
pub(crate) struct Pod {
    pub(crate) name: ObjectName,
    pub(crate) service_account: ServiceAccount,
    pub(crate) ips: Vec<IpAddr>,
    pub(crate) node: Option<Arc<str>>,
    pub(crate) labels: Arc<BTreeMap<String, String>>,
    pub(crate) host_network: bool,
    pub(crate) netns: Option<PathBuf>,
    pub(crate) ports: Vec<ContainerPort>,
    pub(crate) owner: Arc<str>,
    /// The installation whose agent says that it has joined.
    pub(crate) joined: Option<Arc<str>>,
    /// Whether it is annotated for Prometheus to scrape it.
    pub(crate) scraped: Option<Scraped>,
    pub(crate) ready: bool,
    pub(crate) terminating: bool,
    /// Has run to its end: nothing of it is left but the object.
    pub(crate) gone: bool,
    pub(crate) created: Created,
}

/// Which ports of a pod Prometheus is to scrape.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scraped {
    /// All that it declares.
    Declared,
    /// This one.
    Port(u16),
}

#[derive(Debug)]
pub(crate) struct TrafficPolicy {
    pub(crate) name: ObjectName,
    pub(crate) created: Created,
    pub(crate) targets: Vec<PolicyTargetRef>,
    /// The algorithm of the kernel path.
    pub(crate) load_balancer: LoadBalancer,
    /// What it comes to by itself.
    pub(crate) settings: Arc<TrafficSettings>,
    pub(crate) fields: traffic::Fields,
}

/// A Service, a route or one of its rules that a TrafficPolicy is for.
#[derive(Debug)]
pub(crate) struct PolicyTargetRef {
    /// Its place in the object, for messages.
    pub(crate) field: String,
    pub(crate) key: Key,
    /// The rule's name.
    pub(crate) section: Option<Arc<str>>,
}

#[derive(Debug)]
pub(crate) struct AuthorizationPolicy {
    pub(crate) name: ObjectName,
    pub(crate) action: Action,
    pub(crate) mode: Mode,
    pub(crate) target: PolicyTarget,
    /// SPIFFE IDs as written: the trust domain may change under them.
    pub(crate) rules: Vec<Rule>,
}

#[derive(Debug)]
pub(crate) struct AuthenticationPolicy {
    pub(crate) name: ObjectName,
    pub(crate) created: Created,
    /// Pods by their labels, or Services whose pods they are.
    pub(crate) target: PolicyTarget,
    /// The mode of mutual TLS; `None` is left to a less specific policy.
    pub(crate) mode: Option<MtlsMode>,
    /// Of single ports.
    pub(crate) ports: BTreeMap<u16, MtlsMode>,
    /// Whose tokens are taken; `None` is left to a less specific policy.
    pub(crate) jwt: Option<Arc<[JwtProvider]>>,
}

#[derive(Debug)]
pub(crate) struct TelemetryPolicy {
    pub(crate) name: ObjectName,
    pub(crate) created: Created,
    /// Pods by their labels, or Services whose pods they are.
    pub(crate) target: PolicyTarget,
    pub(crate) access_log: LogSettings,
}

/// A mesh, as the Gateway API has it.
#[derive(Debug)]
pub(crate) struct XMesh {
    /// Whether it names weft as its controller.
    pub(crate) ours: bool,
    /// Whether it refers to the MeshConfig.
    pub(crate) has_parameters: bool,
}

/// What one policy says of the access log; `None` is left to a less specific one.
#[derive(Clone, Debug, Default)]
pub(crate) struct LogSettings {
    pub(crate) enabled: Option<bool>,
    pub(crate) format: Option<LogFormat>,
    pub(crate) filter: Option<Arc<LogFilter>>,
}

impl TrafficPolicy {
    /// The Services it targets.
    pub(crate) fn services(&self) -> Vec<ObjectName> {
        let services = self.targets.iter().filter(|target| target.key.kind == Kind::Service);
        services.map(|target| target.key.name.clone()).collect()
    }

    /// The routes it targets.
    pub(crate) fn routes(&self) -> impl Iterator<Item = RouteName> {
        self.targets.iter().filter_map(|target| target.key.route())
    }
}

impl AuthorizationPolicy {
    /// The Services it targets.
    pub(crate) fn services(&self) -> Vec<ObjectName> {
        let PolicyTarget::Services(services) = &self.target else { return Vec::new() };
        let namespace = &self.name.namespace;
        services.iter().map(|name| ObjectName::new(Arc::clone(namespace), Arc::clone(name))).collect()
    }
}

/// When an object was made: the older one wins a conflict; one that does not say is the youngest.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Created(u128);

impl Created {
    /// From `metadata.creationTimestamp`, as nanoseconds since 1970.
    pub(crate) fn new(nanoseconds: Option<i128>) -> Self {
        Self(nanoseconds.and_then(|at| at.try_into().ok()).unwrap_or(u128::MAX))
    }

    /// In seconds since 1970; the youngest is `u64::MAX`.
    pub(crate) fn seconds(&self) -> u64 {
        (self.0 / 1_000_000_000).try_into().unwrap_or(u64::MAX)
    }
}

/// Shares equal names between objects: 100 000 endpoints run on a few hundred nodes.
#[derive(Debug, Default)]
pub(crate) struct Names {
    known: HashSet<Arc<str>>,
    /// Names to have before those that nobody uses any more are looked for.
    sweep_at: usize,
}

impl Names {
    pub(crate) fn share(&mut self, name: &str) -> Arc<str> {
        if let Some(known) = self.known.get(name) {
            return Arc::clone(known);
        }
        if self.known.len() >= self.sweep_at {
            self.known.retain(|name| Arc::strong_count(name) > 1);
            self.sweep_at = (self.known.len() * 2).max(1024);
        }
        let name: Arc<str> = name.into();
        self.known.insert(Arc::clone(&name));
        name
    }
}

impl Kind {
    /// As the API spells it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::MeshConfig => "MeshConfig",
            Self::Namespace => "Namespace",
            Self::Node => "Node",
            Self::ServiceAccount => "ServiceAccount",
            Self::Service => "Service",
            Self::EndpointSlice => "EndpointSlice",
            Self::Pod => "Pod",
            Self::TcpRoute => "TCPRoute",
            Self::HttpRoute => "HTTPRoute",
            Self::GrpcRoute => "GRPCRoute",
            Self::TlsRoute => "TLSRoute",
            Self::ReferenceGrant => "ReferenceGrant",
            Self::TrafficPolicy => "TrafficPolicy",
            Self::AuthorizationPolicy => "AuthorizationPolicy",
            Self::AuthenticationPolicy => "AuthenticationPolicy",
            Self::TelemetryPolicy => "TelemetryPolicy",
            Self::XMesh => "XMesh",
        }
    }

    /// Whether its objects live outside namespaces.
    pub(crate) fn is_cluster_scoped(self) -> bool {
        matches!(self, Self::MeshConfig | Self::Namespace | Self::Node | Self::XMesh)
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.kind.name(), self.name)
    }
}
