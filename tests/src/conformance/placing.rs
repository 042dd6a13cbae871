//! Conformance cases on a machine: where their pods are, and what has to listen there.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use serde_yaml::{Mapping, Value};

use super::{Case, Client, Connection, Family, Server};

/// The client of a connection, as [`addresses`] has it, and the address that it dials.
pub fn ends(case: &Case, connection: &Connection) -> (IpAddr, (IpAddr, u16)) {
    let Connection { from, to, family, .. } = connection;
    let client = match from {
        Client::Ip { ip } => *ip,
        Client::Pod { pod } => ips(find(case, "Pod", pod))[0],
    };
    let to = match to {
        Server::Pod { pod, port } => {
            (family.of(&ips(find(case, "Pod", pod))).expect("the pod has an address of the family"), *port)
        }
        Server::Service { service, port } => (cluster_ip(find(case, "Service", service), *family), *port),
    };
    (client, to)
}

/// The case, with its pods where they are on this machine.
pub fn placed(case: &Case, netns: impl Fn(&IpAddr) -> Option<String>) -> Case {
    let mut case = case.clone();
    for pod in case.objects.iter_mut().filter(|object| object["kind"] == "Pod") {
        let here = ips(pod).first().and_then(&netns).expect("every pod's address is somewhere");
        let metadata = pod["metadata"].as_mapping_mut().expect("a pod has metadata");
        let annotations =
            metadata.entry("annotations".into()).or_insert_with(|| Value::Mapping(Mapping::default()));
        annotations["weft.dev/netns"] = here.into();
    }
    case
}

/// Every pod's and every client's addresses, IPv4 first.
pub fn addresses(cases: &[Case]) -> Vec<Vec<IpAddr>> {
    let mut all: BTreeMap<IpAddr, Vec<IpAddr>> = BTreeMap::new();
    for case in cases {
        let pods = case.objects.iter().filter(|object| object["kind"] == "Pod").map(ips);
        let clients = case.connections.iter().filter_map(|connection| match connection.from {
            Client::Ip { ip } => Some(vec![ip]),
            Client::Pod { .. } => None,
        });
        for ips in pods.chain(clients) {
            let known = all.entry(ips[0]).or_default();
            if ips.len() > known.len() {
                *known = ips;
            }
        }
    }
    all.into_values().collect()
}

/// The addresses, as [`addresses`] has them, of the pods that anything may end at.
pub fn servers(cases: &[Case]) -> BTreeSet<IpAddr> {
    let of = |case: &Case| {
        let dialled = case.connections.iter().filter_map(|connection| match &connection.to {
            Server::Pod { pod, .. } => Some(ips(find(case, "Pod", pod))[0]),
            Server::Service { .. } => None,
        });
        let service = case.objects.iter().find(|object| object["kind"] == "Service");
        let selectable = case.objects.iter().filter(|object| object["kind"] == "Pod" && service.is_some());
        dialled.chain(selectable.map(|pod| ips(pod)[0])).collect::<Vec<_>>()
    };
    cases.iter().flat_map(of).collect()
}

/// Every port that anything may end at.
pub fn ports(cases: &[Case]) -> BTreeSet<u16> {
    let mut ports = BTreeSet::new();
    for case in cases {
        for connection in &case.connections {
            let (Server::Pod { port, .. } | Server::Service { port, .. }) = connection.to;
            ports.insert(port);
        }
        let specs = case.objects.iter().filter(|object| object["kind"] != "AuthorizationPolicy");
        specs.for_each(|object| numbers(object, &mut ports));
    }
    ports
}

/// The values of fields that name a port.
fn numbers(value: &Value, ports: &mut BTreeSet<u16>) {
    match value {
        Value::Mapping(fields) => fields.iter().for_each(|(field, value)| {
            let is_port = matches!(field.as_str(), Some("port" | "targetPort" | "containerPort"));
            match value.as_u64().filter(|_| is_port) {
                Some(port) => drop(ports.insert(u16::try_from(port).expect("a port"))),
                None => numbers(value, ports),
            }
        }),
        Value::Sequence(values) => values.iter().for_each(|value| numbers(value, ports)),
        _ => {}
    }
}

/// An object of the case.
pub fn find<'c>(case: &'c Case, kind: &str, name: &str) -> &'c Value {
    let (namespace, name) = name.split_once('/').expect("a namespaced name");
    let is = |object: &&Value| {
        object["kind"] == kind
            && object["metadata"]["namespace"] == namespace
            && object["metadata"]["name"] == name
    };
    case.objects.iter().find(is).expect("the case has it")
}

/// A pod's addresses.
pub fn ips(pod: &Value) -> Vec<IpAddr> {
    let ips = pod["status"]["podIPs"].as_sequence().expect("a pod has addresses");
    ips.iter().map(|ip| ip["ip"].as_str().expect("text").parse().expect("an address")).collect()
}

/// A Service's address of this family.
pub fn cluster_ip(service: &Value, family: Family) -> IpAddr {
    let spec = &service["spec"];
    let more = spec["clusterIPs"].as_sequence().into_iter().flatten();
    let ips: Vec<IpAddr> =
        more.chain([&spec["clusterIP"]]).filter_map(|ip| ip.as_str()?.parse().ok()).collect();
    family.of(&ips).expect("the Service has an address of the family")
}
