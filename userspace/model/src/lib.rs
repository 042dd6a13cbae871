//! Domain nouns of the mesh, always valid: what a [`Snapshot`] is made of.
//!
//! Owns: names, identities, services with their endpoints, routes, workloads, policies, and
//! the pure readings of them that every path must share (label selection, endpoint
//! eligibility, Maglev tables). Must not know: Kubernetes' wire forms, the kernel, IO, tokio.
//!
//! ```text
//! weft-kubernetes ──► Snapshot ──► weft-datapath (rows)
//!                        │    └──► weft-proxy (routes)
//!                        └──► weft-policy (decide)
//! ```
#![forbid(unsafe_code)]

mod access_log;
mod eligible;
mod generations;
mod identity;
mod jwt;
mod maglev;
mod mtls;
mod name;
mod policy;
mod problem;
mod progress;
mod report;
mod route;
mod selector;
mod service;
mod snapshot;
mod traffic;
mod workload;

pub use access_log::{AccessLog, Comparison, LogFilter, LogFormat, LogNumber, LogText, TextTest};
pub use eligible::{Locality, eligible};
pub use generations::{Generations, digest, incarnation};
pub use identity::{ServiceAccount, SpiffeError, SpiffeId};
pub use jwt::{
    Jwks, JwksError, JwksHeld, JwksSource, JwtKey, JwtProvider, KeyMaterial, ProvenClaims, SkippedKey,
    TokenClaims, TokenHeader, Unusable,
};
pub use maglev::{MaglevSeeds, maglev_table};
pub use mtls::{Mtls, MtlsMode, PodMtls};
pub use name::ObjectName;
pub use policy::{
    Action, AuthorizationPolicy, ClaimRule, HeaderRule, HttpAttributes, Mode, PathRule, PolicyTarget,
    PortRange, ROOT_NAMESPACE, Rule, Source, TokenRule,
};
pub use problem::{Problem, Severity};
pub use progress::{Count, Progress};
pub use report::{BEAT, Content, PROGRAMMED, Report, ReportAnswer, Told};
pub use route::{
    AppProtocol, Backend, BackendShare, BackendTarget, Condition, Cors, Filter, Fraction, HeaderModifier,
    Mirror, NameMatch, OriginPattern, ParentStatus, PathMatch, PathRewrite, PortRouting, REGEX_SIZE,
    Redirect, Rewrite, Route, RouteKind, RouteMatch, RouteName, RouteReason, RouteRule, RouteSet,
    RouteStatus, RuleSummary, SessionCarrier, SessionPersistence, TlsRoute, ValueMatch,
};
pub use selector::{Expression, Operator, Selector};
pub use service::{
    Distribution, Endpoint, EndpointGroup, Hints, LoadBalancer, Protocol, ProxyFailure, Service, ServiceKind,
    ServicePort,
};
pub use snapshot::Snapshot;
pub use traffic::{
    Abort, CircuitBreaker, Delay, FaultInjection, HashKey, HttpLoadBalancer, LimitKey, OutlierDetection,
    RateLimitRule, Retry, RetryBudget, Timeouts, TrafficSettings,
};
pub use workload::{ContainerPort, Passage, Workload};
