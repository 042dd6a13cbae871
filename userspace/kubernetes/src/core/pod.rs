//! Pods.

use std::{path::PathBuf, sync::Arc};

use k8s_openapi::api::core::v1 as api;
use weft_model::{ContainerPort, ObjectName, ServiceAccount};

use super::{
    address,
    metadata::{created, labels},
    port, protocol,
};
use crate::{
    finding::Report,
    object::{Names, Pod, Scraped},
    syntax,
};

/// Where a pod's network namespace is, without a container runtime to ask.
pub(crate) const NETNS: &str = "weft.dev/netns";
/// Which installation's agent has brought the pod into the mesh: others speak mutual TLS with it from then on.
pub(crate) const JOINED: &str = "weft.dev/joined";
/// The word of agents whose own namespace is not there.
pub(crate) const NO_INSTALLATION: &str = "none";

/// The compact form of `object`.
pub(crate) fn pod(object: &api::Pod, name: &ObjectName, names: &mut Names, report: &mut Report<'_>) -> Pod {
    let spec = object.spec.as_ref();
    let status = object.status.as_ref();
    let ips = ips(status, report);
    let netns = netns(object, ips.is_empty(), report);
    let account = spec.and_then(|spec| spec.service_account_name.as_deref()).filter(|name| !name.is_empty());
    if let Some(Err(why)) = account.map(syntax::dns_subdomain) {
        let message = format!("\"{}\" {why}", account.unwrap_or_default());
        report.error("spec.serviceAccountName", message, "name a ServiceAccount of this namespace");
    }
    let node = spec.and_then(|spec| spec.node_name.as_deref()).filter(|node| !node.is_empty());
    let phase = status.and_then(|status| status.phase.as_deref());
    let conditions = status.and_then(|status| status.conditions.as_deref()).unwrap_or_default();
    Pod {
        name: name.clone(),
        service_account: ServiceAccount::new(
            Arc::clone(&name.namespace),
            names.share(account.unwrap_or("default")),
        ),
        ips,
        node: node.map(|node| names.share(node)),
        labels: Arc::new(labels(&object.metadata)),
        host_network: spec.and_then(|spec| spec.host_network).unwrap_or(false),
        netns,
        ports: spec.map(|spec| named_ports(spec, names, report)).unwrap_or_default(),
        owner: owner(object, name, names),
        joined: object
            .metadata
            .annotations
            .as_ref()
            .and_then(|all| all.get(JOINED))
            .map(|by| names.share(by)),
        scraped: scraped(object),
        ready: conditions.iter().all(|condition| condition.type_ != "Ready" || condition.status == "True"),
        terminating: object.metadata.deletion_timestamp.is_some(),
        gone: matches!(phase, Some("Succeeded" | "Failed")),
        created: created(&object.metadata),
    }
}

fn ips(status: Option<&api::PodStatus>, report: &mut Report<'_>) -> Vec<std::net::IpAddr> {
    let Some(status) = status else { return Vec::new() };
    let all = status.pod_ips.iter().flatten().enumerate();
    let ips: Vec<_> =
        all.filter_map(|(i, ip)| address(&ip.ip, &format!("status.podIPs[{i}].ip"), report)).collect();
    match &status.pod_ip {
        Some(ip) if ips.is_empty() && !ip.is_empty() => {
            address(ip, "status.podIP", report).into_iter().collect()
        }
        _ => ips,
    }
}

fn netns(object: &api::Pod, without_ip: bool, report: &mut Report<'_>) -> Option<PathBuf> {
    let path = object.metadata.annotations.as_ref()?.get(NETNS)?;
    let field = format!("metadata.annotations[{NETNS}]");
    if !path.starts_with('/') {
        report.error(&field, format!("\"{path}\" is no absolute path"), "write it like /run/netns/web-1");
    } else if without_ip {
        let message = "the pod names its network namespace and no address";
        report.error(
            "status.podIPs",
            message,
            "add status.podIPs: [{ip: ...}], the address inside that namespace",
        );
    }
    Some(PathBuf::from(path))
}

/// Sidecars are init containers that go on running, so their ports count as well.
fn named_ports(spec: &api::PodSpec, names: &mut Names, report: &mut Report<'_>) -> Vec<ContainerPort> {
    let sidecars = spec.init_containers.iter().flatten().enumerate();
    let sidecars = sidecars.filter(|(_, c)| c.restart_policy.as_deref() == Some("Always"));
    let containers = spec.containers.iter().enumerate().map(|(i, c)| (format!("spec.containers[{i}]"), c));
    let all = containers.chain(sidecars.map(|(i, c)| (format!("spec.initContainers[{i}]"), c)));
    let mut ports = Vec::new();
    for (place, container) in all {
        for (i, declared) in container.ports.iter().flatten().enumerate() {
            let field = format!("{place}.ports[{i}]");
            let number = port(declared.container_port, &format!("{field}.containerPort"), report);
            let protocol = protocol(declared.protocol.as_deref(), &format!("{field}.protocol"), report);
            if let (Some(name), Some(port), Some(protocol)) = (&declared.name, number, protocol) {
                ports.push(ContainerPort { name: names.share(name), port, protocol });
            }
        }
    }
    ports
}

/// By the annotations that Prometheus' own example configuration goes by; `None` where they do not ask for it.
fn scraped(object: &api::Pod) -> Option<Scraped> {
    let annotations = object.metadata.annotations.as_ref()?;
    let port = annotations.get("prometheus.io/port").and_then(|port| port.parse().ok());
    let asked = annotations.get("prometheus.io/scrape").is_some_and(|scrape| scrape == "true");
    asked.then_some(port.map_or(Scraped::Declared, Scraped::Port))
}

/// The name to show in metrics: a Deployment's for its ReplicaSet's pods, any other controller's own.
fn owner(object: &api::Pod, name: &ObjectName, names: &mut Names) -> Arc<str> {
    let labels = object.metadata.labels.as_ref();
    let label = |key: &str| labels.and_then(|labels| labels.get(key)).filter(|v| !v.is_empty());
    let mut owners = object.metadata.owner_references.iter().flatten();
    if let Some(owner) = owners.find(|owner| owner.controller == Some(true)) {
        let hash = label("pod-template-hash").map(|hash| format!("-{hash}"));
        let deployment = match hash {
            Some(hash) => owner.name.strip_suffix(&hash),
            None => owner.name.rsplit_once('-').map(|(name, _)| name),
        };
        return names.share(deployment.filter(|_| owner.kind == "ReplicaSet").unwrap_or(&owner.name));
    }
    match label("app.kubernetes.io/name").or_else(|| label("app")) {
        Some(app) => names.share(app),
        None => Arc::clone(&name.name),
    }
}
