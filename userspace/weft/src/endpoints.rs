//! Where a Service's endpoints are, for an agent that is no pod: the Service's own address may mean nothing to it.

use std::net::SocketAddr;

use weft_model::{ObjectName, Protocol, ServicePort, Snapshot};

/// The addresses of the ready endpoints of those TCP ports of `service` that are `wanted`, some of them.
pub(crate) fn endpoints(
    snapshot: &Snapshot,
    service: &ObjectName,
    wanted: impl Fn(&ServicePort) -> bool,
) -> Vec<SocketAddr> {
    let ports = snapshot.services.get(service).into_iter().flat_map(|service| &service.ports);
    let ports = ports.filter(|port| port.protocol == Protocol::Tcp && wanted(port));
    let endpoints = ports.flat_map(|port| &port.groups).flat_map(|group| &group.endpoints);
    let ready = endpoints.filter(|endpoint| endpoint.ready && !endpoint.terminating);
    ready.map(|endpoint| endpoint.address).take(MOST).collect()
}

/// Each is asked only where those before it do not answer.
const MOST: usize = 4;
