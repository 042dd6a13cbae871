//! Routes of all four kinds, as they are written: nobody knows yet what they lead to.

use std::sync::Arc;

use weft_model::{Fraction, ObjectName, RouteKind, RouteMatch, RouteName, SessionPersistence, Timeouts};

use super::{Created, Key, Kind, traffic::RetryFields};

/// A route.
#[derive(Debug)]
pub(crate) struct Route {
    pub(crate) name: RouteName,
    pub(crate) created: Created,
    pub(crate) parents: Vec<ParentRef>,
    /// Names of servers; a TLSRoute has some, the others none.
    pub(crate) hostnames: Vec<Arc<str>>,
    /// A TCPRoute and a TLSRoute have exactly one.
    pub(crate) rules: Vec<RouteRule>,
}

/// A Service that a route attaches to.
#[derive(Debug)]
pub(crate) struct ParentRef {
    /// Its place in the object, for messages.
    pub(crate) field: String,
    pub(crate) service: ObjectName,
    pub(crate) port: Option<u16>,
    pub(crate) section: Option<Arc<str>>,
}

/// One rule. What it does not say is empty.
#[derive(Debug, Default)]
pub(crate) struct RouteRule {
    pub(crate) name: Option<Arc<str>>,
    /// Empty is every request.
    pub(crate) matches: Vec<RouteMatch>,
    pub(crate) filters: Vec<Filter>,
    pub(crate) backends: Vec<BackendRef>,
    pub(crate) timeouts: Timeouts,
    pub(crate) retry: Option<RetryFields>,
    pub(crate) session: Option<SessionPersistence>,
}

/// A filter, as far as it can be understood without the objects around it.
#[derive(Debug)]
pub(crate) enum Filter {
    Ready(weft_model::Filter),
    Mirror {
        to: BackendRef,
        share: Fraction,
    },
    /// One that weft cannot do; it must not be skipped.
    Unsupported(&'static str),
}

/// Where a share of requests goes.
#[derive(Debug)]
pub(crate) struct BackendRef {
    pub(crate) field: String,
    pub(crate) to: Target,
    pub(crate) weight: u32,
    pub(crate) filters: Vec<Filter>,
}

/// What a backendRef names.
#[derive(Debug)]
pub(crate) enum Target {
    Service {
        name: ObjectName,
        port: u16,
    },
    /// An object of a kind that is no backend.
    Other {
        kind: Arc<str>,
    },
}

impl Route {
    /// Its backends, mirrors included.
    pub(crate) fn backends(&self) -> impl Iterator<Item = &BackendRef> {
        self.rules.iter().flat_map(|rule| {
            let filters = rule.backends.iter().flat_map(|backend| &backend.filters).chain(&rule.filters);
            let mirrors = filters.filter_map(|filter| match filter {
                Filter::Mirror { to, .. } => Some(to),
                _ => None,
            });
            rule.backends.iter().chain(mirrors)
        })
    }

    /// The Services it names, as parents and as backends.
    pub(crate) fn services(&self) -> Vec<ObjectName> {
        let backends = self.backends().filter_map(|backend| match &backend.to {
            Target::Service { name, .. } => Some(name.clone()),
            Target::Other { .. } => None,
        });
        self.parents.iter().map(|parent| parent.service.clone()).chain(backends).collect()
    }

    /// The fields that later stages may complain about.
    pub(crate) fn fields(&self) -> impl Iterator<Item = String> {
        let parents = self.parents.iter().map(|parent| parent.field.clone());
        let backends = self.backends().map(|backend| backend.field.clone());
        let rules = (0..self.rules.len()).map(|i| format!("spec.rules[{i}]"));
        ["kind".to_owned()].into_iter().chain(parents).chain(backends).chain(rules)
    }
}

impl Kind {
    /// The kind of route that it is.
    pub(crate) fn route(self) -> Option<RouteKind> {
        match self {
            Self::GrpcRoute => Some(RouteKind::Grpc),
            Self::HttpRoute => Some(RouteKind::Http),
            Self::TlsRoute => Some(RouteKind::Tls),
            Self::TcpRoute => Some(RouteKind::Tcp),
            _ => None,
        }
    }
}

impl From<RouteKind> for Kind {
    fn from(kind: RouteKind) -> Self {
        match kind {
            RouteKind::Grpc => Self::GrpcRoute,
            RouteKind::Http => Self::HttpRoute,
            RouteKind::Tls => Self::TlsRoute,
            RouteKind::Tcp => Self::TcpRoute,
        }
    }
}

impl From<&RouteName> for Key {
    fn from(route: &RouteName) -> Self {
        Self { kind: route.kind.into(), name: route.name.clone() }
    }
}

impl Key {
    /// The route that it names.
    pub(crate) fn route(&self) -> Option<RouteName> {
        Some(RouteName { kind: self.kind.route()?, name: self.name.clone() })
    }
}
