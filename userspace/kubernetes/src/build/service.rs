//! Services, with the routes and policies that name them.

use std::sync::Arc;

use weft_model::{EndpointGroup, LoadBalancer, ObjectName, Protocol, Service, ServiceKind, ServicePort};

use super::{Notice, attach, endpoints, objects::Objects};
use crate::object;

/// The Service `name`, unless there is none; `notices` gets what is wrong with whatever names it.
pub(super) fn build(objects: &Objects, name: &ObjectName, notices: &mut Vec<Notice>) -> Option<Service> {
    let Some(service) = objects.services.get(name) else {
        attach::note_missing(objects, name, notices);
        return None;
    };
    let load_balancer = attach::traffic_policy(objects, name, notices)
        .map_or_else(LoadBalancer::default, |policy| policy.load_balancer);
    let routes = attach::routes(objects, service, notices);
    let ports = service.ports.iter().map(|port| {
        let route = routes.iter().find(|(_, parent)| attaches(parent, port)).map(|(route, _)| *route);
        let groups = match route {
            _ if service.kind == ServiceKind::ExternalName => Vec::new(),
            Some(route) => {
                // No connection goes there, but policies that target this Service go on protecting it.
                let own = endpoints::group(objects, service, port, 0);
                attach::groups(objects, route).into_iter().chain([own]).collect()
            }
            None => vec![endpoints::group(objects, service, port, 1)],
        };
        service_port(port, groups)
    });
    Some(Service {
        name: name.clone(),
        kind: service.kind,
        ips: attach::ips(objects, service, notices),
        ports: ports.collect(),
        session_affinity: service.session_affinity,
        load_balancer,
        accelerate: service.accelerate,
        proxy_failure: service.proxy_failure,
    })
}

/// Whether a route with this parentRef takes over `port`.
pub(super) fn attaches(parent: &object::ParentRef, port: &object::ServicePort) -> bool {
    port.protocol == Protocol::Tcp
        && parent.port.is_none_or(|number| number == port.port)
        && parent.section.as_ref().is_none_or(|section| **section == *port.name)
}

fn service_port(port: &object::ServicePort, groups: Vec<EndpointGroup>) -> ServicePort {
    ServicePort {
        name: Arc::clone(&port.name),
        port: port.port,
        protocol: port.protocol,
        app_protocol: port.app_protocol.clone(),
        groups,
        routing: None,
    }
}
