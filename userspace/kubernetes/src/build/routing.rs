//! What the node's proxy does with connections to a port: routes and policies, put together.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use weft_model::{
    Backend, BackendTarget, Mirror, PortRouting, Protocol, Retry, RouteKind, RouteMatch, RouteName,
    RouteRule, RouteSet, ServiceKind, Timeouts, TlsRoute, TrafficSettings,
};

use super::{
    attach::{PortRoutes, RoutesOfKind},
    backend,
    notice::Notice,
    objects::Objects,
    traffic,
};
use crate::object::{self, BackendRef, Filter, Route, Service, ServicePort, traffic::Fields};

/// Routes of one Service in the proxy's form, each made once.
pub(super) struct Routing<'o> {
    objects: &'o Objects,
    /// The effective TrafficPolicy of the Service.
    settings: Arc<TrafficSettings>,
    /// What it says of the sections that are merged field by field.
    fields: Fields,
    routes: BTreeMap<&'o RouteName, Arc<weft_model::Route>>,
}

impl<'o> Routing<'o> {
    pub(super) fn new(objects: &'o Objects, settings: Arc<TrafficSettings>, fields: Fields) -> Self {
        Self { objects, settings, fields, routes: BTreeMap::new() }
    }

    /// What makes connections to `port` leave the kernel path; `None` where they stay in it (contract,
    /// section 3).
    pub(super) fn port(
        &mut self,
        service: &Service,
        port: &ServicePort,
        routes: &PortRoutes<'o>,
        notices: &mut Vec<Notice>,
    ) -> Option<PortRouting> {
        if service.kind != ServiceKind::ClusterIp || port.protocol != Protocol::Tcp {
            return None;
        }
        let mut routing = PortRouting {
            protocol: port.speaks,
            traffic: Arc::clone(&self.settings),
            ..PortRouting::default()
        };
        for (clients, set) in routes {
            let set = self.set(set, notices);
            match clients {
                None => routing.producer = set,
                Some(namespace) => {
                    routing.consumers.insert(Arc::clone(namespace), set);
                }
            }
        }
        let has_routes = routing.producer != RouteSet::None || !routing.consumers.is_empty();
        (has_routes || self.settings.need_proxy()).then_some(routing)
    }

    fn set(&mut self, set: &RoutesOfKind<'o>, notices: &mut Vec<Notice>) -> RouteSet {
        match set.kind {
            // A TCPRoute is the kernel path's: its groups stand beside the routing.
            RouteKind::Tcp => RouteSet::None,
            RouteKind::Tls => {
                RouteSet::Tls(set.routes.iter().map(|route| Arc::new(self.tls(route))).collect())
            }
            RouteKind::Grpc => {
                RouteSet::Grpc(set.routes.iter().map(|route| self.route(route, notices)).collect())
            }
            RouteKind::Http => {
                RouteSet::Http(set.routes.iter().map(|route| self.route(route, notices)).collect())
            }
        }
    }

    fn route(&mut self, route: &'o Route, notices: &mut Vec<Notice>) -> Arc<weft_model::Route> {
        if let Some(made) = self.routes.get(&route.name) {
            return Arc::clone(made);
        }
        // Conflicts among the route's policies are told where its status is made.
        let policies = traffic::of_route(self.objects, &route.name, &mut Vec::new());
        let rules = route.rules.iter().enumerate().map(|(i, rule)| {
            let (settings, fields) = policies.over(rule.name.as_deref(), &self.settings, &self.fields);
            let field = format!("spec.rules[{i}]");
            let timeouts = timeouts(rule.timeouts.over(settings.timeouts), route, &field, notices);
            let retry = match &rule.retry {
                None => settings.retry.clone(),
                Some(said) => Some(said.clone().over(fields.retry.unwrap_or_default()).filled()),
            };
            self.rule(route.name.kind, rule, (timeouts, retry), settings)
        });
        let made = Arc::new(weft_model::Route { name: route.name.name.clone(), rules: rules.collect() });
        self.routes.insert(&route.name, Arc::clone(&made));
        made
    }

    fn rule(
        &self,
        kind: RouteKind,
        rule: &object::RouteRule,
        (timeouts, retry): (Timeouts, Option<Retry>),
        traffic: Arc<TrafficSettings>,
    ) -> RouteRule {
        // Without backends every request is answered with an error.
        let skips_nothing = unsupported(&rule.filters).is_none();
        let (filters, backends) = if skips_nothing {
            (rule.filters.as_slice(), rule.backends.as_slice())
        } else {
            Default::default()
        };
        RouteRule {
            name: rule.name.clone(),
            matches: if rule.matches.is_empty() { vec![RouteMatch::any()] } else { rule.matches.clone() },
            filters: self.filters(kind, filters),
            backends: backends.iter().map(|backend| self.backend(kind, backend)).collect(),
            timeouts,
            retry,
            session: rule.session.clone(),
            traffic,
        }
    }

    fn backend(&self, kind: RouteKind, backend: &BackendRef) -> Backend {
        let target = match unsupported(&backend.filters) {
            Some(name) => BackendTarget::Invalid { why: format!("weft has no {name} filters").into() },
            None => backend::target(self.objects, kind, backend),
        };
        Backend { target, weight: backend.weight, filters: self.filters(kind, &backend.filters) }
    }

    fn filters(&self, kind: RouteKind, filters: &[Filter]) -> Vec<weft_model::Filter> {
        let filter = |filter: &Filter| match filter {
            Filter::Ready(ready) => Some(ready.clone()),
            Filter::Mirror { to, share } => {
                let target = backend::target(self.objects, kind, to);
                Some(weft_model::Filter::Mirror(Mirror { target, share: *share }))
            }
            Filter::Unsupported(_) => None,
        };
        filters.iter().filter_map(filter).collect()
    }

    fn tls(&self, route: &Route) -> TlsRoute {
        let backends = route.rules.iter().flat_map(|rule| &rule.backends);
        TlsRoute {
            name: route.name.name.clone(),
            hostnames: route.hostnames.clone(),
            backends: backends.map(|backend| self.backend(route.name.kind, backend)).collect(),
        }
    }
}

/// The filter that weft cannot do, where there is one.
pub(super) fn unsupported(filters: &[Filter]) -> Option<&'static str> {
    filters.iter().find_map(|filter| match filter {
        Filter::Unsupported(name) => Some(*name),
        _ => None,
    })
}

/// Timeouts of several levels: each was checked by itself, together they may say that a try takes longer
/// than its request.
fn timeouts(merged: Timeouts, route: &Route, field: &str, notices: &mut Vec<Notice>) -> Timeouts {
    let (request, each_try) =
        (merged.request.unwrap_or_default(), merged.backend_request.unwrap_or_default());
    if request.is_zero() || each_try <= request {
        return merged;
    }
    let message = format!(
        "a try may take {}, its request {}, with what TrafficPolicies say: a try ends with its request",
        seconds(each_try),
        seconds(request)
    );
    let remedy = "make timeouts.backendRequest at most timeouts.request, here and in the policies";
    notices.push(Notice::warning(&route.name, field, message, remedy));
    Timeouts { backend_request: merged.request, ..merged }
}

fn seconds(time: Duration) -> String {
    format!("{}s", time.as_secs_f64())
}
