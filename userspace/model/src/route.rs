//! HTTP routing of one Service port, as the Gateway API means it (GEP-1294), resolved and valid.
//!
//! What attaches where, who loses a conflict and which backendRef leads nowhere is decided before a
//! value of these types exists: the proxy only matches and forwards.

mod filter;
mod matching;
mod status;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};

use crate::{ObjectName, Retry, Timeouts, TrafficSettings};
pub use filter::{
    Cors, Filter, Fraction, HeaderModifier, Mirror, OriginPattern, PathRewrite, Redirect, Rewrite,
};
pub use matching::{NameMatch, PathMatch, REGEX_SIZE, RouteMatch, ValueMatch};
pub use status::{
    BackendShare, Condition, ParentStatus, RouteKind, RouteName, RouteReason, RouteStatus, RuleSummary,
};

/// What the node's proxy does with the connections to one port of a Service.
///
/// A port that has one leaves the kernel path (contract, section 3); a port without stays in it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct PortRouting {
    /// What `appProtocol` says is spoken.
    pub protocol: AppProtocol,
    /// The routes of the Service's own namespace: for clients of every namespace.
    pub producer: RouteSet,
    /// The routes of other namespaces: for clients of that namespace, instead of the producer's.
    pub consumers: BTreeMap<Arc<str>, RouteSet>,
    /// The effective TrafficPolicy of the Service.
    pub traffic: Arc<TrafficSettings>,
}

/// What a port speaks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum AppProtocol {
    /// Nobody says: the first bytes do, whoever sends them.
    #[default]
    Detect,
    /// `http`, `kubernetes.io/ws`: HTTP/1.1, and HTTP/2 with prior knowledge from clients that begin so.
    Http,
    /// `kubernetes.io/h2c`, `grpc`: HTTP/2 cleartext with prior knowledge, towards the server too.
    Http2,
    /// `https`, `tls`, `kubernetes.io/wss`: TLS that the app does itself. Only its SNI is read.
    Tls,
    /// `tcp`, or anything else that is no HTTP: relayed as it is.
    Tcp,
}

impl AppProtocol {
    /// What a Service port's `appProtocol` means. A name that is not known is some protocol over TCP: whoever
    /// writes one does not want it guessed.
    pub fn of(app_protocol: Option<&str>) -> Self {
        let Some(name) = app_protocol else { return Self::Detect };
        match &*name.to_ascii_lowercase() {
            "http" | "ws" | "kubernetes.io/ws" | "grpc-web" => Self::Http,
            "http2" | "h2c" | "kubernetes.io/h2c" | "grpc" => Self::Http2,
            "https" | "tls" | "wss" | "kubernetes.io/wss" => Self::Tls,
            _ => Self::Tcp,
        }
    }
}

/// The routes that hold together for a request: never merged with another set.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub enum RouteSet {
    /// None: plain Service behaviour.
    #[default]
    None,
    /// HTTPRoutes, the oldest first. A request that no rule matches is answered with 404.
    Http(Vec<Arc<Route>>),
    /// GRPCRoutes, the oldest first. A call that no rule matches is `UNIMPLEMENTED`.
    Grpc(Vec<Arc<Route>>),
    /// A TLSRoute: connections by SNI, bytes untouched.
    Tls(Vec<Arc<TlsRoute>>),
}

/// An HTTPRoute or a GRPCRoute.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Route {
    /// Its name.
    pub name: ObjectName,
    /// Its rules, in the object's order.
    pub rules: Vec<RouteRule>,
}

/// One rule of a [`Route`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RouteRule {
    /// `name`, for policies' `sectionName` and for people.
    pub name: Option<Arc<str>>,
    /// Any of these. Never empty: no match at all is the prefix `/`.
    pub matches: Vec<RouteMatch>,
    /// Filters, in order, for every backend of the rule.
    pub filters: Vec<Filter>,
    /// Where requests go, by weight. Empty together with [`Filter::Redirect`]; else every request gets 500.
    pub backends: Vec<Backend>,
    /// The route's own, else the effective TrafficPolicy's.
    pub timeouts: Timeouts,
    /// The route's own, else the effective TrafficPolicy's.
    pub retry: Option<Retry>,
    /// Session persistence (GEP-1619).
    pub session: Option<SessionPersistence>,
    /// The effective TrafficPolicy of this rule: Service < Route < rule, merged field by field.
    pub traffic: Arc<TrafficSettings>,
}

/// One backendRef of a rule.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Backend {
    /// Where it leads.
    pub target: BackendTarget,
    /// Its share among the backends of the rule; 0 gets none.
    pub weight: u32,
    /// Filters for requests that go here, after the rule's.
    pub filters: Vec<Filter>,
}

/// Where a backendRef leads.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum BackendTarget {
    /// A port of a Service. Its share is answered with 503 while no endpoint is ready.
    Service {
        /// The Service.
        name: ObjectName,
        /// The Service's port.
        port: u16,
    },
    /// Nowhere: its share is answered with 500 (gRPC: `UNAVAILABLE`).
    Invalid {
        /// What is wrong with the reference, for people.
        why: Arc<str>,
    },
}

/// A TLSRoute: passthrough by SNI.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TlsRoute {
    /// Its name.
    pub name: ObjectName,
    /// Names of servers, lower case, `*.` in front for any one or more labels. Empty is every name.
    pub hostnames: Vec<Arc<str>>,
    /// Where connections go, by weight.
    pub backends: Vec<Backend>,
}

/// Keeps a client's requests on one endpoint (GEP-1619).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionPersistence {
    /// The name of the cookie or header.
    pub name: Arc<str>,
    /// What carries it.
    pub carrier: SessionCarrier,
    /// How long it may be used after it was made; `None` is for ever.
    pub absolute_timeout: Option<Duration>,
}

/// What carries a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum SessionCarrier {
    /// A cookie that ends with the client's own session.
    SessionCookie,
    /// A cookie that lives as long as `absolute_timeout`.
    PermanentCookie,
    /// A header that the client sends back.
    Header,
}

impl PortRouting {
    /// The routes for a client of `namespace`.
    pub fn routes_for(&self, namespace: &str) -> &RouteSet {
        self.consumers.get(namespace).unwrap_or(&self.producer)
    }
}

impl Route {
    /// Where its rules lead, mirrors included.
    pub fn targets(&self) -> impl Iterator<Item = &BackendTarget> {
        self.rules.iter().flat_map(|rule| {
            let backends = rule.backends.iter();
            let filters = backends.clone().flat_map(|backend| &backend.filters).chain(&rule.filters);
            let mirrors = filters.filter_map(|filter| match filter {
                Filter::Mirror(mirror) => Some(&mirror.target),
                _ => None,
            });
            backends.map(|backend| &backend.target).chain(mirrors)
        })
    }
}
