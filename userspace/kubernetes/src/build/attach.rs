//! Which route and which policy holds for a Service, and who loses.

use std::net::IpAddr;

use weft_model::{
    AuthorizationPolicy, EndpointGroup, ObjectName, PolicyTarget, Protocol, Rule, ServiceKind, Severity,
    Source,
};

use super::{Notice, endpoints, objects::Objects, service::attaches};
use crate::{
    finding::Finding,
    object::{self, BackendRef, Key, Kind, ParentRef, Service, TcpRoute, TrafficPolicy},
};

/// The policy in the snapshot's form: a SPIFFE ID of our own trust domain is a ServiceAccount.
pub(super) fn authorization(
    policy: &object::AuthorizationPolicy,
    ours: impl Fn(&str) -> bool,
) -> AuthorizationPolicy {
    let source = |source: &Source| match source {
        Source::Spiffe(id) if ours(&id.trust_domain) => {
            id.service_account().map_or_else(|| source.clone(), Source::ServiceAccount)
        }
        other => other.clone(),
    };
    let rule = |rule: &Rule| Rule {
        sources: rule.sources.as_ref().map(|sources| sources.iter().map(source).collect()),
        ..rule.clone()
    };
    AuthorizationPolicy {
        name: policy.name.clone(),
        action: policy.action,
        mode: policy.mode,
        target: policy.target.clone(),
        rules: policy.rules.iter().map(rule).collect(),
    }
}

/// The ClusterIPs that no other Service has.
pub(super) fn ips(objects: &Objects, service: &Service, notices: &mut Vec<Notice>) -> Vec<IpAddr> {
    let mut ips = service.ips.clone();
    ips.retain(|ip| {
        let Some(owner) = objects.owner_of(*ip).filter(|owner| **owner != service.name) else { return true };
        let message = format!("Conflicted: Service {owner} has the address {ip}, and keeps it");
        let remedy = "give each Service an address of its own";
        notices.push(warning(Kind::Service, &service.name, "spec.clusterIP", message, remedy.into()));
        false
    });
    ips
}

/// The TrafficPolicy that holds for `service`: the oldest, then the first by name.
pub(super) fn traffic_policy<'o>(
    objects: &'o Objects,
    service: &ObjectName,
    notices: &mut Vec<Notice>,
) -> Option<&'o TrafficPolicy> {
    let keys = objects.references_to(service).filter(|key| key.kind == Kind::TrafficPolicy);
    let mut policies: Vec<_> = keys.filter_map(|key| objects.traffic.get(&key.name)).collect();
    policies.sort_by(|a, b| (&a.created, &a.name).cmp(&(&b.created, &b.name)));
    let (winner, losers) = policies.split_first()?;
    for loser in losers {
        let field = loser.services.iter().find(|(_, target)| target == service).map(|(field, _)| field);
        notices.push(conflicted(Kind::TrafficPolicy, &loser.name, field, service, &winner.name));
    }
    Some(winner)
}

/// The TCPRoutes that hold for ports of `service`, each with the parentRef that attaches it.
pub(super) fn routes<'o>(
    objects: &'o Objects,
    service: &Service,
    notices: &mut Vec<Notice>,
) -> Vec<(&'o TcpRoute, &'o ParentRef)> {
    let keys = objects.references_to(&service.name).filter(|key| key.kind == Kind::TcpRoute);
    let routes = keys.filter_map(|key| objects.routes.get(&key.name));
    let parents = routes.flat_map(|route| route.parents.iter().map(move |parent| (&**route, parent)));
    let mut attached: Vec<(&TcpRoute, &ParentRef)> = Vec::new();
    let mut candidates: Vec<_> = parents.filter(|(_, parent)| parent.service == service.name).collect();
    candidates.sort_by(|(a, _), (b, _)| (&a.created, &a.name).cmp(&(&b.created, &b.name)));
    for (route, parent) in candidates {
        if let Some(why) = refusal(service, parent) {
            notices.push(warning(Kind::TcpRoute, &route.name, &parent.field, why.0, why.1));
            continue;
        }
        // A route that finds all of its ports taken does nothing; one that gets some is in force.
        let mut ports = service.ports.iter().filter(|port| attaches(parent, port));
        let taken = |port: &object::ServicePort| attached.iter().find(|(_, other)| attaches(other, port));
        let free = ports.clone().any(|port| taken(port).is_none());
        match ports.find_map(taken) {
            Some((winner, _)) if !free && winner.name != route.name => {
                let field = Some(&parent.field);
                notices.push(conflicted(Kind::TcpRoute, &route.name, field, &service.name, &winner.name));
            }
            _ => {
                for backend in &route.backends {
                    notices.extend(backend_notice(objects, route, backend));
                }
                attached.push((route, parent));
            }
        }
    }
    attached
}

/// One group for each backendRef that has a weight. One that leads nowhere refuses its share.
pub(super) fn groups(objects: &Objects, route: &TcpRoute) -> Vec<EndpointGroup> {
    let weighted = route.backends.iter().filter(|backend| backend.weight > 0);
    let group = |backend: &BackendRef| match resolve(objects, backend) {
        Ok((service, port)) => endpoints::group(objects, service, port, backend.weight),
        Err(_) => EndpointGroup {
            service: backend.service.clone(),
            weight: backend.weight,
            node_local: false,
            distribution: weft_model::Distribution::Any,
            endpoints: Vec::new(),
        },
    };
    weighted.map(group).collect()
}

/// Says so of everything that names a Service which is not there.
pub(super) fn note_missing(objects: &Objects, name: &ObjectName, notices: &mut Vec<Notice>) {
    for key in objects.references_to(name) {
        let fields: Vec<String> = match key.kind {
            Kind::TcpRoute => {
                let parents = objects.routes.get(&key.name).map(|route| route.parents.as_slice());
                let missing = parents.unwrap_or_default().iter().filter(|parent| parent.service == *name);
                missing.map(|parent| parent.field.clone()).collect()
            }
            Kind::TrafficPolicy => {
                let targets = objects.traffic.get(&key.name).map(|policy| policy.services.as_slice());
                let missing = targets.unwrap_or_default().iter().filter(|(_, target)| target == name);
                missing.map(|(field, _)| field.clone()).collect()
            }
            _ => {
                let target = objects.authorization.get(&key.name).map(|policy| &policy.target);
                let Some(PolicyTarget::Services(services)) = target else { continue };
                let missing = services.iter().enumerate().filter(|(_, service)| **service == name.name);
                missing.map(|(i, _)| format!("spec.targetRefs[{i}]")).collect()
            }
        };
        for field in fields {
            let message = format!("there is no Service {name}");
            let remedy =
                "add the Service, or correct the name; it takes effect as soon as the Service is there";
            notices.push(warning(key.kind, &key.name, &field, message, remedy.into()));
        }
    }
}

/// Why a route cannot attach to `service` here.
fn refusal(service: &Service, parent: &ParentRef) -> Option<(String, String)> {
    let name = &service.name;
    if service.kind == ServiceKind::ExternalName {
        let message = format!("{name} is an ExternalName, whose connections the mesh does not see");
        return Some((message, "attach the route to a Service with a ClusterIP".into()));
    }
    if service.kind == ServiceKind::Headless {
        let message = format!("{name} is headless: clients dial its pods, where no route applies");
        return Some((message, "attach the route to a Service with a ClusterIP".into()));
    }
    if !service.ports.iter().any(|port| attaches(parent, port)) {
        let ports = service.ports.iter().map(|p| format!("{}/{} \"{}\"", p.port, p.protocol, p.name));
        let remedy = format!("its ports are {}", ports.collect::<Vec<_>>().join(", "));
        return Some((format!("{name} has no such TCP port"), remedy));
    }
    None
}

fn backend_notice(objects: &Objects, route: &TcpRoute, backend: &BackendRef) -> Option<Notice> {
    let why = resolve(objects, backend).err()?;
    let message = format!("{why}: its share of connections is refused");
    let remedy = "correct the backendRef, or set its weight to 0";
    Some(warning(Kind::TcpRoute, &route.name, &backend.field, message, remedy.into()))
        .filter(|_| backend.weight > 0)
}

fn resolve<'o>(
    objects: &'o Objects,
    backend: &BackendRef,
) -> Result<(&'o Service, &'o object::ServicePort), String> {
    let name = &backend.service;
    let service = objects.services.get(name).ok_or_else(|| format!("there is no Service {name}"))?;
    let mut ports = service.ports.iter();
    let port = ports.find(|port| port.port == backend.port && port.protocol == Protocol::Tcp);
    let port = port.ok_or_else(|| format!("Service {name} has no TCP port {}", backend.port))?;
    Ok((service, port))
}

fn conflicted(
    kind: Kind,
    loser: &ObjectName,
    field: Option<&String>,
    service: &ObjectName,
    winner: &ObjectName,
) -> Notice {
    let message = format!("Conflicted: {} {winner} holds for Service {service} already", kind.name());
    let remedy = "the oldest wins, then the first by name: merge the two, or remove one";
    warning(kind, loser, field.map(String::as_str).unwrap_or_default(), message, remedy.into())
}

fn warning(kind: Kind, name: &ObjectName, field: &str, message: String, remedy: String) -> Notice {
    let finding = Finding { severity: Severity::Warning, field: field.to_owned(), line: 0, message, remedy };
    Notice { key: Key { kind, name: name.clone() }, finding }
}
