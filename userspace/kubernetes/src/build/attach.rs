//! Which routes hold for which port of a Service, and who loses (GEP-1294).

use std::{collections::BTreeMap, sync::Arc};

use weft_model::{Condition, Protocol, RouteKind, RouteName, RouteReason, ServiceKind};

use super::{backend::carries, notice, notice::Notice, objects::Objects};
use crate::object::{ParentRef, Route, Service, ServicePort};

/// What became of one parentRef.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Attachment {
    pub(super) route: RouteName,
    /// The parentRef's place in the route.
    pub(super) field: String,
    pub(super) accepted: Condition,
}

/// The routes of one port, by whose clients they are for: those of every namespace (`None`), or of one.
/// Sets are never merged.
pub(super) type PortRoutes<'o> = BTreeMap<Option<Arc<str>>, RoutesOfKind<'o>>;

/// Routes of one kind, the oldest first.
#[derive(Debug)]
pub(super) struct RoutesOfKind<'o> {
    pub(super) kind: RouteKind,
    pub(super) routes: Vec<&'o Route>,
}

/// The routes that hold for each port of `service`, and what became of every parentRef that names it.
pub(super) fn routes<'o>(
    objects: &'o Objects,
    service: &Service,
    notices: &mut Vec<Notice>,
) -> (Vec<PortRoutes<'o>>, Vec<Attachment>) {
    let mut ports: Vec<PortRoutes<'o>> = service.ports.iter().map(|_| PortRoutes::new()).collect();
    let mut attachments = Vec::new();
    for (route, parent) in candidates(objects, service) {
        let accepted = attach(service, route, parent, &mut ports, notices);
        attachments.push(Attachment { route: route.name.clone(), field: parent.field.clone(), accepted });
    }
    (ports, attachments)
}

/// Whoever comes first wins: by kind, then the oldest, then by name.
fn candidates<'o>(objects: &'o Objects, service: &Service) -> Vec<(&'o Route, &'o ParentRef)> {
    let routes = objects.routes_of(&service.name);
    let parents = routes.flat_map(|route| route.parents.iter().map(move |parent| (route, parent)));
    let mut candidates: Vec<_> = parents.filter(|(_, parent)| parent.service == service.name).collect();
    let order = |route: &'o Route| (route.name.kind, &route.created, &route.name.name);
    candidates.sort_by(|(a, _), (b, _)| order(a).cmp(&order(b)));
    candidates
}

fn attach<'o>(
    service: &Service,
    route: &'o Route,
    parent: &ParentRef,
    ports: &mut [PortRoutes<'o>],
    notices: &mut Vec<Notice>,
) -> Condition {
    if let Some((why, remedy)) = refusal(service, route, parent) {
        notices.push(Notice::warning(&route.name, &parent.field, why.clone(), remedy));
        return Condition::bad(RouteReason::NoMatchingParent, why);
    }
    let own = route.name.name.namespace == service.name.namespace;
    let clients = (!own).then(|| Arc::clone(&route.name.name.namespace));
    let (mut attached, mut winner) = (false, None);
    for (port, sets) in service.ports.iter().zip(ports) {
        if !fits(route.name.kind, parent, port) {
            continue;
        }
        let set = sets.entry(clients.clone());
        let set = set.or_insert_with(|| RoutesOfKind { kind: route.name.kind, routes: Vec::new() });
        let there = set.routes.iter().any(|other| other.name == route.name);
        // TCPRoutes have nothing that a second one could be told apart by.
        let joins = set.kind == route.name.kind && (set.kind != RouteKind::Tcp || set.routes.is_empty());
        if joins && !there {
            set.routes.push(route);
        }
        if joins || there {
            attached = true;
        } else {
            winner = set.routes.first().map(|first| &first.name).or(winner);
        }
    }
    // A route that finds all of its ports taken does nothing; one that gets some is in force.
    match winner {
        Some(winner) if !attached => {
            let target = notice::service(&service.name);
            let mut notice = Notice::conflicted(&route.name, &parent.field, &target, winner);
            if winner.kind != route.name.kind {
                let remedy =
                    "a port has routes of one kind, GRPCRoute before HTTPRoute, TLSRoute and TCPRoute";
                remedy.clone_into(&mut notice.finding.remedy);
            }
            notices.push(notice);
            Condition::bad(RouteReason::Conflicted, format!("{winner} holds for {target} already"))
        }
        _ => Condition::good(RouteReason::Accepted),
    }
}

/// Whether a route with this parentRef is for `port`.
fn names(parent: &ParentRef, port: &ServicePort) -> bool {
    port.protocol == Protocol::Tcp
        && parent.port.is_none_or(|number| number == port.port)
        && parent.section.as_ref().is_none_or(|section| *section == port.name)
}

fn fits(kind: RouteKind, parent: &ParentRef, port: &ServicePort) -> bool {
    names(parent, port) && carries(kind, port.speaks)
}

/// Why a route cannot attach to `service` here.
fn refusal(service: &Service, route: &Route, parent: &ParentRef) -> Option<(String, String)> {
    let (name, kind) = (&service.name, route.name.kind);
    if service.kind == ServiceKind::ExternalName {
        let message = format!("{name} is an ExternalName, whose connections the mesh does not see");
        return Some((message, "attach the route to a Service with a ClusterIP".into()));
    }
    if service.kind == ServiceKind::Headless {
        let message = format!("{name} is headless: clients dial its pods, where no route applies");
        return Some((message, "attach the route to a Service with a ClusterIP".into()));
    }
    if service.ports.iter().any(|port| fits(kind, parent, port)) {
        return None;
    }
    if let Some(port) = service.ports.iter().find(|port| names(parent, port)) {
        let spoken = port.app_protocol.as_deref().unwrap_or_default();
        let message = format!("port {} of {name} speaks {spoken}, which no {kind} carries", port.port);
        return Some((message, "correct the port's appProtocol, or write another kind of route".into()));
    }
    let ports = service.ports.iter().map(|p| format!("{}/{} \"{}\"", p.port, p.protocol, p.name));
    let remedy = format!("its ports are {}", ports.collect::<Vec<_>>().join(", "));
    Some((format!("{name} has no such TCP port"), remedy))
}
