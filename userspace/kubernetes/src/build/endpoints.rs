//! What is behind one port of a Service.

use std::{net::SocketAddr, sync::Arc};

use weft_model::{Endpoint, EndpointGroup};

use super::objects::Objects;
use crate::object::{Pod, Service, ServicePort, SliceEndpoint, TargetPort};

/// The endpoints of `port` of `service`: from its EndpointSlices, else from the pods it selects.
pub(super) fn group(objects: &Objects, service: &Service, port: &ServicePort, weight: u32) -> EndpointGroup {
    let mut endpoints =
        from_slices(objects, service, port).unwrap_or_else(|| from_pods(objects, service, port));
    // The same address may be in two slices while it moves between them: the ready one counts.
    endpoints.sort_by_key(|endpoint| (endpoint.address, !endpoint.ready));
    endpoints.dedup_by(|next, first| next.address == first.address);
    EndpointGroup {
        service: service.name.clone(),
        weight,
        node_local: service.node_local,
        distribution: service.distribution,
        endpoints,
    }
}

/// `None` where the Service has no slices at all.
fn from_slices(objects: &Objects, service: &Service, port: &ServicePort) -> Option<Vec<Endpoint>> {
    let mut slices = objects.slices_of(&service.name).peekable();
    slices.peek()?;
    let mut endpoints = Vec::new();
    for slice in slices {
        let matching =
            |(name, protocol, _): &&(Arc<str>, _, u16)| (name, protocol) == (&port.name, &port.protocol);
        let Some((_, _, number)) = slice.ports.iter().find(matching) else { continue };
        let of_slice = slice.endpoints.iter();
        endpoints.extend(of_slice.map(|endpoint| slice_endpoint(objects, service, endpoint, *number)));
    }
    Some(endpoints)
}

fn slice_endpoint(objects: &Objects, service: &Service, endpoint: &SliceEndpoint, port: u16) -> Endpoint {
    let zone = endpoint.zone.as_ref().or_else(|| objects.zone_of(endpoint.node.as_ref()?));
    Endpoint {
        address: SocketAddr::new(endpoint.address, port),
        ready: endpoint.ready || service.publish_not_ready,
        serving: endpoint.serving,
        terminating: endpoint.terminating,
        node: endpoint.node.clone(),
        zone: zone.cloned(),
        hints: endpoint.hints.clone(),
        pod: endpoint.pod.clone(),
    }
}

fn from_pods(objects: &Objects, service: &Service, port: &ServicePort) -> Vec<Endpoint> {
    let pods = objects.selected(service).filter(|pod| !pod.gone);
    let mut endpoints = Vec::new();
    for pod in pods {
        let Some(number) = number(pod, port) else { continue };
        for (family, allowed) in service.families.into_iter().enumerate() {
            // A pod stands behind a Service with its first address of each family.
            let ip = pod.ips.iter().find(|ip| usize::from(ip.is_ipv6()) == family);
            if let Some(ip) = ip.filter(|_| allowed) {
                endpoints.push(pod_endpoint(objects, service, pod, SocketAddr::new(*ip, number)));
            }
        }
    }
    endpoints
}

/// As the EndpointSlice controller would have written it.
fn pod_endpoint(objects: &Objects, service: &Service, pod: &Pod, address: SocketAddr) -> Endpoint {
    Endpoint {
        address,
        ready: service.publish_not_ready || (pod.ready && !pod.terminating),
        serving: pod.ready,
        terminating: pod.terminating,
        node: pod.node.clone(),
        zone: pod.node.as_ref().and_then(|node| objects.zone_of(node)).cloned(),
        hints: None,
        pod: Some(pod.name.clone()),
    }
}

/// A named port may have another number in each pod.
fn number(pod: &Pod, port: &ServicePort) -> Option<u16> {
    match &port.target {
        TargetPort::Number(number) => Some(*number),
        TargetPort::Name(name) => {
            let mut ports = pod.ports.iter();
            Some(ports.find(|p| p.name == *name && p.protocol == port.protocol)?.port)
        }
    }
}
