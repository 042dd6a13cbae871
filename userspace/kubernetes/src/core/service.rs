//! Services.

use std::{net::IpAddr, time::Duration};

use k8s_openapi::{api::core::v1 as api, apimachinery::pkg::util::intstr::IntOrString};
use weft_model::{AppProtocol, Distribution, ObjectName, ProxyFailure, Selector, ServiceKind};

use super::{address, port, protocol, spelt};
use crate::{
    finding::Report,
    object::{Names, Service, ServicePort, TargetPort},
    syntax,
};

const ACCELERATE: &str = "weft.dev/accelerate";
const PROXY_FAILURE: &str = "weft.dev/proxy-failure";
const DEFAULT_AFFINITY_SECONDS: i32 = 10_800;
const MAX_AFFINITY_SECONDS: i32 = 86_400;
const TYPES: [&str; 4] = ["ClusterIP", "NodePort", "LoadBalancer", "ExternalName"];

/// The compact form of `object`.
pub(crate) fn service(
    object: &api::Service,
    name: &ObjectName,
    names: &mut Names,
    report: &mut Report<'_>,
) -> Service {
    let absent = api::ServiceSpec::default();
    let spec = object.spec.as_ref().unwrap_or(&absent);
    let (kind, ips) = addresses(spec, report);
    let ports = ports(spec, kind, names, report);
    let labels = spec.selector.clone().unwrap_or_default();
    Service {
        name: name.clone(),
        kind,
        families: families(spec, &ips),
        ips,
        ports,
        selector: (!labels.is_empty()).then(|| Selector { labels, expressions: Vec::new() }),
        session_affinity: session_affinity(spec, report),
        node_local: node_local(spec, report),
        distribution: distribution(spec, report),
        publish_not_ready: spec.publish_not_ready_addresses.unwrap_or(false),
        accelerate: accelerate(object, report),
        proxy_failure: proxy_failure(object, report),
        exposed: ["NodePort", "LoadBalancer"].into_iter().find(|kind| spec.type_.as_deref() == Some(kind)),
    }
}

fn addresses(spec: &api::ServiceSpec, report: &mut Report<'_>) -> (ServiceKind, Vec<IpAddr>) {
    match spec.type_.as_deref().unwrap_or("ClusterIP") {
        "ExternalName" => return (ServiceKind::ExternalName, Vec::new()),
        "ClusterIP" | "NodePort" | "LoadBalancer" => {}
        other => {
            report.error("spec.type", format!("\"{other}\" is no type of Service"), spelt(other, &TYPES));
        }
    }
    let several = spec.cluster_ips.as_deref().unwrap_or_default();
    let single = spec.cluster_ip.as_deref().filter(|ip| !ip.is_empty());
    if single == Some("None") || several.iter().any(|ip| ip == "None") {
        return (ServiceKind::Headless, Vec::new());
    }
    let mut ips: Vec<IpAddr> = Vec::new();
    for (i, text) in several.iter().enumerate() {
        let field = format!("spec.clusterIPs[{i}]");
        let Some(ip) = address(text, &field, report) else { continue };
        if ips.iter().any(|other| other.is_ipv4() == ip.is_ipv4()) {
            report.error(
                &field,
                "a second address of the same family",
                "one IPv4 and one IPv6 address at most",
            );
        }
        ips.push(ip);
    }
    if let Some(ip) = single.and_then(|ip| address(ip, "spec.clusterIP", report)) {
        match ips.first() {
            None => ips.push(ip),
            Some(first) if *first == ip => {}
            Some(first) => {
                let message = format!("{ip} is not the first of clusterIPs, {first}");
                report.error("spec.clusterIP", message, "make the two agree, or leave one out");
            }
        }
    }
    if several.is_empty() && single.is_none() {
        let remedy =
            "without an API server nobody assigns one: add spec.clusterIP, or None for a headless Service";
        report.warning("spec.clusterIP", "there is no address to balance", remedy);
    }
    (ServiceKind::ClusterIp, ips)
}

fn families(spec: &api::ServiceSpec, ips: &[IpAddr]) -> [bool; 2] {
    let named = spec.ip_families.as_deref().unwrap_or_default();
    if !ips.is_empty() {
        [ips.iter().any(IpAddr::is_ipv4), ips.iter().any(IpAddr::is_ipv6)]
    } else if named.is_empty() {
        [true, true]
    } else {
        [named.iter().any(|family| family == "IPv4"), named.iter().any(|family| family == "IPv6")]
    }
}

fn ports(
    spec: &api::ServiceSpec,
    kind: ServiceKind,
    names: &mut Names,
    report: &mut Report<'_>,
) -> Vec<ServicePort> {
    let declared = spec.ports.as_deref().unwrap_or_default();
    if declared.is_empty() && kind == ServiceKind::ClusterIp {
        report.error("spec.ports", "a Service with a ClusterIP has a port", "add ports: [{port: 80}]");
    }
    let mut ports: Vec<ServicePort> = Vec::new();
    for (i, declared_port) in declared.iter().enumerate() {
        let field = format!("spec.ports[{i}]");
        let name = declared_port.name.as_deref().unwrap_or_default();
        if name.is_empty() && declared.len() > 1 {
            report.error(
                &format!("{field}.name"),
                "one of several ports, and without a name",
                "name every port",
            );
        } else if let Some(Err(why)) = (!name.is_empty()).then(|| syntax::dns_label(name)) {
            report.error(&format!("{field}.name"), format!("\"{name}\" {why}"), "rename the port");
        }
        let Some(read) = service_port(declared_port, &field, names, report) else { continue };
        if ports.iter().any(|other| *other.name == *name) {
            report.error(
                &format!("{field}.name"),
                format!("two ports have the name \"{name}\""),
                "name each port once",
            );
        } else if ports.iter().any(|other| (other.port, other.protocol) == (read.port, read.protocol)) {
            let message = format!("port {}/{} is there twice", read.port, read.protocol);
            report.error(&format!("{field}.port"), message, "give each port its own number");
        }
        ports.push(read);
    }
    ports
}

fn service_port(
    declared: &api::ServicePort,
    field: &str,
    names: &mut Names,
    report: &mut Report<'_>,
) -> Option<ServicePort> {
    let number = port(declared.port, &format!("{field}.port"), report);
    let protocol = protocol(declared.protocol.as_deref(), &format!("{field}.protocol"), report);
    let target_field = format!("{field}.targetPort");
    let target = match &declared.target_port {
        None | Some(IntOrString::Int(0)) => number.map(TargetPort::Number),
        Some(IntOrString::Int(target)) => port(*target, &target_field, report).map(TargetPort::Number),
        Some(IntOrString::String(name)) => target_name(name, &target_field, names, report),
    };
    Some(ServicePort {
        name: names.share(declared.name.as_deref().unwrap_or_default()),
        port: number?,
        protocol: protocol?,
        app_protocol: declared.app_protocol.as_deref().map(|name| names.share(name)),
        speaks: AppProtocol::of(declared.app_protocol.as_deref()),
        target: target?,
    })
}

/// An IANA service name, as containers' ports have: `"8080"` in quotes is the usual mistake.
fn target_name(name: &str, field: &str, names: &mut Names, report: &mut Report<'_>) -> Option<TargetPort> {
    if !name.is_empty() && name.bytes().all(|b| b.is_ascii_digit()) {
        let message = format!("\"{name}\" in quotes is the name of a port, not its number");
        report.error(field, message, format!("write {name} without quotes"));
        return None;
    }
    let good =
        name.len() <= 15 && syntax::dns_label(name).is_ok() && name.bytes().any(|b| b.is_ascii_lowercase());
    if !good {
        let remedy =
            "write a number, or the name of a container's port: up to 15 of a-z, 0-9, '-', with a letter";
        report.error(field, format!("\"{name}\" is no port name"), remedy);
    }
    good.then(|| TargetPort::Name(names.share(name)))
}

fn session_affinity(spec: &api::ServiceSpec, report: &mut Report<'_>) -> Option<Duration> {
    match spec.session_affinity.as_deref().unwrap_or("None") {
        "None" => return None,
        "ClientIP" => {}
        other => {
            let remedy = spelt(other, &["ClientIP", "None"]);
            report.error("spec.sessionAffinity", format!("\"{other}\" is no session affinity"), remedy);
        }
    }
    let client = spec.session_affinity_config.as_ref().and_then(|config| config.client_ip.as_ref());
    let seconds = client.and_then(|client| client.timeout_seconds).unwrap_or(DEFAULT_AFFINITY_SECONDS);
    if !(1..=MAX_AFFINITY_SECONDS).contains(&seconds) {
        let field = "spec.sessionAffinityConfig.clientIP.timeoutSeconds";
        report.error(field, format!("{seconds} seconds is out of range"), "write 1 to 86400 seconds");
    }
    Some(Duration::from_secs(u64::try_from(seconds).unwrap_or_default()))
}

fn node_local(spec: &api::ServiceSpec, report: &mut Report<'_>) -> bool {
    match spec.internal_traffic_policy.as_deref().unwrap_or("Cluster") {
        "Cluster" => false,
        "Local" => true,
        other => {
            let remedy = spelt(other, &["Cluster", "Local"]);
            report.error("spec.internalTrafficPolicy", format!("\"{other}\" is no traffic policy"), remedy);
            false
        }
    }
}

fn distribution(spec: &api::ServiceSpec, report: &mut Report<'_>) -> Distribution {
    match spec.traffic_distribution.as_deref() {
        None => Distribution::Any,
        Some("PreferClose" | "PreferSameZone") => Distribution::PreferSameZone,
        Some("PreferSameNode") => Distribution::PreferSameNode,
        Some(other) => {
            let remedy = spelt(other, &["PreferSameZone", "PreferSameNode", "PreferClose"]);
            report.error(
                "spec.trafficDistribution",
                format!("\"{other}\" is no traffic distribution"),
                remedy,
            );
            Distribution::Any
        }
    }
}

fn proxy_failure(object: &api::Service, report: &mut Report<'_>) -> ProxyFailure {
    let annotations = object.metadata.annotations.as_ref();
    match annotations.and_then(|all| all.get(PROXY_FAILURE)).map(String::as_str) {
        None | Some("closed") => ProxyFailure::Closed,
        Some("open") => ProxyFailure::Open,
        Some(other) => {
            let field = format!("metadata.annotations[{PROXY_FAILURE}]");
            let remedy = "write closed (refuse, the default) or open (take the kernel path)";
            report.error(&field, format!("\"{other}\" is no answer to a failed proxy"), remedy);
            ProxyFailure::Closed
        }
    }
}

fn accelerate(object: &api::Service, report: &mut Report<'_>) -> bool {
    let Some(value) = object.metadata.annotations.as_ref().and_then(|all| all.get(ACCELERATE)) else {
        return false;
    };
    if value != "same-node" {
        let field = format!("metadata.annotations[{ACCELERATE}]");
        report.error(
            &field,
            format!("\"{value}\" is no acceleration"),
            "write same-node, or remove the annotation",
        );
    }
    value == "same-node"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_app_protocol_says_what_the_proxy_may_expect() {
        for (protocol, names) in [
            (AppProtocol::Http, ["http", "HTTP", "kubernetes.io/ws", "grpc-web"]),
            (AppProtocol::Http2, ["kubernetes.io/h2c", "grpc", "http2", "h2c"]),
            (AppProtocol::Tls, ["https", "tls", "kubernetes.io/wss", "wss"]),
            (AppProtocol::Tcp, ["tcp", "redis", "mysql", "example.com/own"]),
        ] {
            assert!(
                names.into_iter().all(|name| AppProtocol::of(Some(name)) == protocol),
                "{protocol:?} {names:?}"
            );
        }
    }
}
