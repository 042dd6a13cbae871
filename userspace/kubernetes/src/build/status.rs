//! What became of a route, for people and for the Gateway API's status.

use std::sync::Arc;

use weft_model::{BackendShare, Condition, ParentStatus, RouteName, RouteReason, RouteStatus, RuleSummary};

use super::{Built, backend, notice::Notice, objects::Objects, routing::unsupported, traffic};
use crate::object::{BackendRef, ParentRef, Route, Target};

/// The status of `name`, unless there is no such route; `notices` gets what is wrong with it and with the
/// policies for it.
pub(super) fn build(
    objects: &Objects,
    built: &Built,
    name: &RouteName,
    notices: &mut Vec<Notice>,
) -> Option<RouteStatus> {
    traffic::of_route(objects, name, notices).note(objects, name, notices);
    let route = objects.routes.get(name)?;
    let resolved = resolved(objects, route);
    let parent = |parent: &ParentRef| ParentStatus {
        service: Some(parent.service.clone()),
        port: parent.port,
        section: parent.section.clone(),
        accepted: accepted(built, route, parent),
        resolved: resolved.clone(),
    };
    let parents: Vec<_> = route.parents.iter().map(parent).collect();
    if parents.iter().any(|parent| parent.accepted.status) {
        note_backends(objects, route, notices);
    }
    Some(RouteStatus { parents, hostnames: route.hostnames.clone(), rules: summary(route) })
}

/// The status of a route that cannot be read, whose last good version may still be in force.
pub(crate) fn refused(reason: RouteReason, message: &str, in_force: Option<&RouteStatus>) -> RouteStatus {
    let stays = if in_force.is_some() { "; its last good version stays in force" } else { "" };
    let accepted = Condition::bad(reason, format!("{message}{stays}"));
    if let Some(status) = in_force.filter(|status| !status.parents.is_empty()) {
        let parents = status.parents.iter().cloned();
        let parents = parents.map(|parent| ParentStatus { accepted: accepted.clone(), ..parent });
        return RouteStatus { parents: parents.collect(), ..status.clone() };
    }
    let resolved = Condition::bad(RouteReason::BackendNotFound, "nothing of the route could be read");
    let parent = ParentStatus { service: None, port: None, section: None, accepted, resolved };
    RouteStatus { parents: vec![parent], hostnames: Vec::new(), rules: Vec::new() }
}

fn accepted(built: &Built, route: &Route, parent: &ParentRef) -> Condition {
    let attachments = built.attachments.get(&parent.service).map(Vec::as_slice).unwrap_or_default();
    let of_parent = attachments.iter().find(|at| at.route == route.name && at.field == parent.field);
    let missing =
        || Condition::bad(RouteReason::NoMatchingParent, format!("there is no Service {}", parent.service));
    of_parent.map_or_else(missing, |attachment| attachment.accepted.clone())
}

/// The reason is that of the first backendRef that leads nowhere; the message names them all.
fn resolved(objects: &Objects, route: &Route) -> Condition {
    let filters = route.rules.iter().find_map(|rule| {
        unsupported(&rule.filters)
            .or_else(|| rule.backends.iter().find_map(|backend| unsupported(&backend.filters)))
    });
    if let Some(name) = filters {
        return Condition::bad(RouteReason::InvalidKind, format!("weft has no {name} filters"));
    }
    let counted = route.backends().filter(|backend| backend.weight > 0);
    let unresolved = counted.filter_map(|backend| backend::resolve(objects, route.name.kind, backend).err());
    let unresolved: Vec<_> = unresolved.collect();
    let Some(first) = unresolved.first() else { return Condition::good(RouteReason::ResolvedRefs) };
    let why: Vec<_> = unresolved.iter().map(|unresolved| unresolved.why.as_str()).collect();
    Condition::bad(first.reason, why.join("; "))
}

fn note_backends(objects: &Objects, route: &Route, notices: &mut Vec<Notice>) {
    let kind = route.name.kind;
    for backend in route.backends().filter(|backend| backend.weight > 0) {
        let Err(unresolved) = backend::resolve(objects, kind, backend) else { continue };
        let (reason, why) = (unresolved.reason, unresolved.why);
        let (message, remedy) = match kind {
            weft_model::RouteKind::Tcp | weft_model::RouteKind::Tls => (
                format!("{why}: its share of connections is refused"),
                "correct the backendRef, or set its weight to 0",
            ),
            _ if backend.field.contains("requestMirror") => {
                (format!("{reason}: {why}: nothing is copied there"), "correct the backendRef")
            }
            weft_model::RouteKind::Grpc => (
                format!("{reason}: {why}: its share of calls is answered with UNAVAILABLE"),
                "correct the backendRef, or set its weight to 0",
            ),
            weft_model::RouteKind::Http => (
                format!("{reason}: {why}: its share of requests is answered with 500"),
                "correct the backendRef, or set its weight to 0",
            ),
        };
        notices.push(Notice::warning(&route.name, &backend.field, message, remedy));
    }
}

fn summary(route: &Route) -> Vec<RuleSummary> {
    let share = |backend: &BackendRef| BackendShare {
        to: match &backend.to {
            Target::Service { name, port } => format!("{name}:{port}").into(),
            Target::Other { kind } => Arc::clone(kind),
        },
        weight: backend.weight,
    };
    let rules = route.rules.iter().map(|rule| RuleSummary {
        name: rule.name.clone(),
        matches: rule.matches.len(),
        filters: rule.filters.len(),
        backends: rule.backends.iter().map(share).collect(),
    });
    rules.collect()
}
