//! Services, with the routes and policies that name them.

use std::{net::IpAddr, sync::Arc};

use weft_model::{
    LoadBalancer, ObjectName, PolicyTarget, PortRouting, RouteKind, Service, ServiceKind, ServicePort,
};

use super::{
    attach::{self, Attachment, PortRoutes},
    backend, endpoints,
    notice::{self, Notice},
    objects::Objects,
    routing::Routing,
    traffic,
};
use crate::object::{self, Key, Kind};

/// The Service `name` and what became of the routes that name it as a parent, unless there is none;
/// `notices` gets what is wrong with whatever names it.
pub(super) fn build(
    objects: &Objects,
    name: &ObjectName,
    notices: &mut Vec<Notice>,
) -> Option<(Service, Vec<Attachment>)> {
    let Some(service) = objects.services.get(name) else {
        note_missing(objects, name, notices);
        return None;
    };
    let policy = traffic::of_service(objects, service, notices);
    let settings = policy.map(|policy| Arc::clone(&policy.settings)).unwrap_or_default();
    let (routes, attachments) = attach::routes(objects, service, notices);
    let fields = policy.map(|policy| policy.fields.clone()).unwrap_or_default();
    let mut routing = Routing::new(objects, Arc::clone(&settings), fields);
    let mut ports = Vec::new();
    for (port, routes) in service.ports.iter().zip(&routes) {
        let routing = routing.port(service, port, routes, notices);
        ports.push(service_port(objects, service, port, routes, routing));
    }
    if let Some(policy) = policy {
        traffic::note_idle(policy, ports.iter().any(|port| port.routing.is_some()), notices);
    }
    let built = Service {
        name: name.clone(),
        kind: service.kind,
        ips: ips(objects, service, notices),
        ports,
        session_affinity: service.session_affinity,
        load_balancer: policy.map_or_else(LoadBalancer::default, |policy| policy.load_balancer),
        accelerate: service.accelerate,
        proxy_failure: service.proxy_failure,
        traffic: settings,
    };
    Some((built, attachments))
}

fn service_port(
    objects: &Objects,
    service: &object::Service,
    port: &object::ServicePort,
    routes: &PortRoutes<'_>,
    routing: Option<PortRouting>,
) -> ServicePort {
    let tcp = routes.get(&None).filter(|set| set.kind == RouteKind::Tcp).and_then(|set| set.routes.first());
    let groups = match tcp {
        _ if service.kind == ServiceKind::ExternalName => Vec::new(),
        Some(route) => {
            // No connection goes there, but policies that target this Service go on protecting it.
            let own = endpoints::group(objects, service, port, 0);
            backend::groups(objects, route).into_iter().chain([own]).collect()
        }
        None => vec![endpoints::group(objects, service, port, 1)],
    };
    ServicePort {
        name: Arc::clone(&port.name),
        port: port.port,
        protocol: port.protocol,
        app_protocol: port.app_protocol.clone(),
        groups,
        routing: routing.map(Arc::new),
    }
}

/// The ClusterIPs that no other Service has.
fn ips(objects: &Objects, service: &object::Service, notices: &mut Vec<Notice>) -> Vec<IpAddr> {
    let mut ips = service.ips.clone();
    ips.retain(|ip| {
        let Some(owner) = objects.owner_of(*ip).filter(|owner| **owner != service.name) else { return true };
        let message = format!("Conflicted: Service {owner} has the address {ip}, and keeps it");
        let remedy = "give each Service an address of its own";
        notices.push(Notice::warning(notice::service(&service.name), "spec.clusterIP", message, remedy));
        false
    });
    ips
}

/// Says so of everything that names a Service which is not there.
fn note_missing(objects: &Objects, name: &ObjectName, notices: &mut Vec<Notice>) {
    for key in objects.references_to(name) {
        for field in fields_naming(objects, key, name) {
            let message = format!("there is no Service {name}");
            let remedy =
                "add the Service, or correct the name; it takes effect as soon as the Service is there";
            notices.push(Notice::missing(key.clone(), &field, message, remedy));
        }
    }
}

/// Where `key` names the Service as parent or target; backendRefs are told of where the route's status is made.
fn fields_naming(objects: &Objects, key: &Key, name: &ObjectName) -> Vec<String> {
    if let Some(route) = key.route() {
        let parents = objects.routes.get(&route).map(|route| route.parents.as_slice());
        let missing = parents.unwrap_or_default().iter().filter(|parent| parent.service == *name);
        return missing.map(|parent| parent.field.clone()).collect();
    }
    if key.kind == Kind::TrafficPolicy {
        let targets = objects.traffic.get(&key.name).map(|policy| policy.targets.as_slice());
        let service = notice::service(name);
        let missing = targets.unwrap_or_default().iter().filter(|target| target.key == service);
        return missing.map(|target| target.field.clone()).collect();
    }
    let target = objects.authorization.get(&key.name).map(|policy| &policy.target);
    let Some(PolicyTarget::Services(services)) = target else { return Vec::new() };
    let missing = services.iter().enumerate().filter(|(_, service)| **service == name.name);
    missing.map(|(i, _)| format!("spec.targetRefs[{i}]")).collect()
}
