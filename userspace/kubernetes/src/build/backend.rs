//! Where backendRefs lead.

use weft_model::{AppProtocol, BackendTarget, EndpointGroup, Protocol, RouteKind, RouteReason, ServiceKind};

use super::{endpoints, objects::Objects};
use crate::object::{BackendRef, Route, Service, ServicePort, Target};

/// Why a backendRef leads nowhere.
#[derive(Debug)]
pub(super) struct Unresolved {
    pub(super) reason: RouteReason,
    pub(super) why: String,
}

/// The Service and its port that a backendRef of a route of `kind` leads to.
pub(super) fn resolve<'o>(
    objects: &'o Objects,
    kind: RouteKind,
    backend: &BackendRef,
) -> Result<(&'o Service, &'o ServicePort), Unresolved> {
    let unresolved = |reason, why: String| Unresolved { reason, why };
    let (name, number) = match &backend.to {
        Target::Service { name, port } => (name, *port),
        Target::Other { kind } => {
            return Err(unresolved(RouteReason::InvalidKind, format!("a {kind} is no backend")));
        }
    };
    let not_found = |why: String| unresolved(RouteReason::BackendNotFound, why);
    let service =
        objects.services.get(name).ok_or_else(|| not_found(format!("there is no Service {name}")))?;
    if service.kind == ServiceKind::ExternalName {
        let why = format!("Service {name} is an ExternalName, which has no endpoints");
        return Err(unresolved(RouteReason::InvalidKind, why));
    }
    let port = service.ports.iter().find(|port| port.port == number && port.protocol == Protocol::Tcp);
    let port = port.ok_or_else(|| not_found(format!("Service {name} has no TCP port {number}")))?;
    if !carries(kind, port.speaks) {
        let spoken = port.app_protocol.as_deref().unwrap_or_default();
        let why = format!("port {number} of Service {name} speaks {spoken}, which no {kind} carries");
        return Err(unresolved(RouteReason::UnsupportedProtocol, why));
    }
    Ok((service, port))
}

/// Whether a route of `kind` can carry what a port speaks.
pub(super) fn carries(kind: RouteKind, spoken: AppProtocol) -> bool {
    match (kind, spoken) {
        (_, AppProtocol::Detect) | (RouteKind::Tcp, _) => true,
        (RouteKind::Http, protocol) => matches!(protocol, AppProtocol::Http | AppProtocol::Http2),
        (RouteKind::Grpc, protocol) => protocol == AppProtocol::Http2,
        (RouteKind::Tls, protocol) => matches!(protocol, AppProtocol::Tls | AppProtocol::Tcp),
    }
}

/// The proxy's form of a backendRef.
pub(super) fn target(objects: &Objects, kind: RouteKind, backend: &BackendRef) -> BackendTarget {
    match resolve(objects, kind, backend) {
        Ok((service, port)) => BackendTarget::Service { name: service.name.clone(), port: port.port },
        Err(unresolved) => BackendTarget::Invalid { why: unresolved.why.into() },
    }
}

/// The kernel path's form of a TCPRoute: one group for each backendRef that has a weight. One that leads
/// nowhere refuses its share.
pub(super) fn groups(objects: &Objects, route: &Route) -> Vec<EndpointGroup> {
    let backends = route.rules.iter().flat_map(|rule| &rule.backends).filter(|backend| backend.weight > 0);
    let group = |backend: &BackendRef| match (resolve(objects, route.name.kind, backend), &backend.to) {
        (Ok((service, port)), _) => Some(endpoints::group(objects, service, port, backend.weight)),
        (Err(_), Target::Service { name, .. }) => Some(EndpointGroup {
            service: name.clone(),
            weight: backend.weight,
            node_local: false,
            distribution: weft_model::Distribution::Any,
            endpoints: Vec::new(),
        }),
        // A TCPRoute with another kind of backend is refused where it is read.
        (Err(_), Target::Other { .. }) => None,
    };
    backends.filter_map(group).collect()
}
