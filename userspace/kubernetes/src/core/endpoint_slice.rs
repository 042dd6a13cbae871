//! EndpointSlices.

use std::{net::IpAddr, sync::Arc};

use k8s_openapi::api::discovery::v1 as api;
use weft_model::{Hints, ObjectName, Protocol};

use super::{address, port, protocol, spelt};
use crate::{
    finding::Report,
    object::{EndpointSlice, Names, SliceEndpoint},
};

const SERVICE_NAME: &str = "kubernetes.io/service-name";
const ADDRESS_TYPES: [&str; 3] = ["IPv4", "IPv6", "FQDN"];
/// The API's own limit.
const MAX_ENDPOINTS: usize = 1000;

/// The compact form of `object`; `None` for one whose addresses are names.
pub(crate) fn endpoint_slice(
    object: &api::EndpointSlice,
    name: &ObjectName,
    names: &mut Names,
    report: &mut Report<'_>,
) -> Option<EndpointSlice> {
    let endpoints = object.endpoints.as_deref().unwrap_or_default();
    let service = object.metadata.labels.as_ref().and_then(|labels| labels.get(SERVICE_NAME));
    let Some(service) = service.filter(|service| !service.is_empty()) else {
        let message = format!("the label {SERVICE_NAME} is missing, so no Service has these endpoints");
        report.error("metadata.labels", message, format!("add {SERVICE_NAME}: <the Service's name>"));
        return None;
    };
    let is_v4 = match object.address_type.as_str() {
        "IPv4" => true,
        "IPv6" => false,
        "FQDN" => {
            report.warning(
                "addressType",
                "names are no endpoints for the mesh",
                "use IPv4 or IPv6 addresses",
            );
            return None;
        }
        "" => {
            report.error("addressType", "required, and not there", "add addressType: IPv4 or IPv6");
            return None;
        }
        other => {
            report.error(
                "addressType",
                format!("\"{other}\" is no address type"),
                spelt(other, &ADDRESS_TYPES),
            );
            return None;
        }
    };
    if endpoints.len() > MAX_ENDPOINTS {
        let message = format!("{} endpoints; a slice holds at most {MAX_ENDPOINTS}", endpoints.len());
        report.error("endpoints", message, "spread them over several slices of the same Service");
    }
    let ports = ports(object.ports.as_deref().unwrap_or_default(), names, report);
    let endpoints = endpoints.iter().enumerate();
    let endpoints =
        endpoints.filter_map(|(i, e)| endpoint(e, i, is_v4, &name.namespace, names, report)).collect();
    let service = ObjectName::new(Arc::clone(&name.namespace), names.share(service));
    Some(EndpointSlice { service, ports, endpoints })
}

fn ports(
    ports: &[api::EndpointPort],
    names: &mut Names,
    report: &mut Report<'_>,
) -> Box<[(Arc<str>, Protocol, u16)]> {
    let mut read: Vec<(Arc<str>, Protocol, u16)> = Vec::new();
    for (i, declared) in ports.iter().enumerate() {
        let field = format!("ports[{i}]");
        let name = names.share(declared.name.as_deref().unwrap_or_default());
        let Some(number) = declared.port else {
            report.warning(
                &field,
                "a port without a number is skipped, as kube-proxy does",
                "add port: <number>",
            );
            continue;
        };
        let number = port(number, &format!("{field}.port"), report);
        let protocol = protocol(declared.protocol.as_deref(), &format!("{field}.protocol"), report);
        if read.iter().any(|(other, ..)| *other == name) {
            report.error(
                &format!("{field}.name"),
                format!("two ports have the name \"{name}\""),
                "name each port once",
            );
        }
        if let (Some(number), Some(protocol)) = (number, protocol) {
            read.push((name, protocol, number));
        }
    }
    read.into()
}

fn endpoint(
    endpoint: &api::Endpoint,
    index: usize,
    is_v4: bool,
    namespace: &Arc<str>,
    names: &mut Names,
    report: &mut Report<'_>,
) -> Option<SliceEndpoint> {
    // Clients of the API use the first address only; the field is a list for history's sake.
    let Some(first) = endpoint.addresses.first() else {
        let field = format!("endpoints[{index}].addresses");
        report.error(&field, "an endpoint has an address", "add addresses: [...]");
        return None;
    };
    let Some(ip) = first.parse::<IpAddr>().ok().filter(|ip| ip.is_ipv4() == is_v4) else {
        let field = format!("endpoints[{index}].addresses[0]");
        if address(first, &field, report).is_some() {
            let message = format!("{first} is not of the slice's addressType");
            report.error(&field, message, "put IPv4 and IPv6 addresses into slices of their own");
        }
        return None;
    };
    let conditions = endpoint.conditions.as_ref();
    let ready = conditions.and_then(|c| c.ready).unwrap_or(true);
    let target = endpoint.target_ref.as_ref().filter(|target| target.kind.as_deref() == Some("Pod"));
    let pod = target.and_then(|target| {
        let namespace = match target.namespace.as_deref().filter(|other| **other != **namespace) {
            Some(other) => names.share(other),
            None => Arc::clone(namespace),
        };
        Some(ObjectName::new(namespace, target.name.as_deref()?))
    });
    Some(SliceEndpoint {
        address: ip,
        ready,
        serving: conditions.and_then(|c| c.serving).unwrap_or(ready),
        terminating: conditions.and_then(|c| c.terminating).unwrap_or(false),
        node: endpoint.node_name.as_deref().map(|node| names.share(node)),
        zone: endpoint.zone.as_deref().map(|zone| names.share(zone)),
        hints: endpoint.hints.as_ref().and_then(|hints| self::hints(hints, names)),
        pod,
    })
}

fn hints(hints: &api::EndpointHints, names: &mut Names) -> Option<Arc<Hints>> {
    let zones: Vec<_> = hints.for_zones.iter().flatten().map(|zone| names.share(&zone.name)).collect();
    let nodes: Vec<_> = hints.for_nodes.iter().flatten().map(|node| names.share(&node.name)).collect();
    (!zones.is_empty() || !nodes.is_empty()).then(|| Arc::new(Hints { zones, nodes }))
}
