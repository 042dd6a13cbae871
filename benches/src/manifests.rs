//! Many objects as text.

use std::fmt::Write as _;
use std::net::Ipv4Addr;

use weft_tests::manifests;

use crate::work::{ANSWER_AND_CLOSE, ANSWER_AND_KEEP, BLUE, DISCARD, DRAIN, GREEN, QUEUE};

/// A file's name and content.
pub(crate) type File = (String, String);

/// The address of Service number `index`.
pub(crate) fn service_ip(index: u32) -> Ipv4Addr {
    (u32::from(Ipv4Addr::new(10, 96, 0, 0)) + index).into()
}

/// Services that all lead to one server.
pub(crate) fn services(count: u32, server: Ipv4Addr) -> Vec<File> {
    files(count, |service| {
        let endpoints = format!("[{{addresses: [{server}], conditions: {{ready: true}}}}]");
        format!("{}---\n{}", with_ports(service, "{}"), slice(service, &endpoints))
    })
}

/// Services with endpoints that nobody answers at.
pub(crate) fn distant_services(count: u32, endpoints_each: u32) -> Vec<File> {
    files(count, |service| {
        let mut endpoints = String::from("[");
        for endpoint in service * endpoints_each..(service + 1) * endpoints_each {
            let ip = Ipv4Addr::from(u32::from(Ipv4Addr::new(10, 128, 0, 0)) + endpoint);
            let _ = write!(
                endpoints,
                "{{addresses: [{ip}], conditions: {{ready: true, serving: true, terminating: false}}, \
                 nodeName: node-{}, zone: zone-{}, targetRef: {{kind: Pod, namespace: shop, \
                 name: svc-{service}-7d9f8b6c5-{endpoint:05}}}}}, ",
                endpoint % 100,
                endpoint % 3
            );
        }
        endpoints.push(']');
        let ip = service_ip(service);
        let spec = format!("{{clusterIP: {ip}, ports: [{{name: keep, port: 80, targetPort: 8080}}]}}");
        let slice = manifests::endpoint_slice(
            &format!("shop/svc-{service}"),
            "x",
            "IPv4",
            "[{name: keep, port: 8080}]",
            &endpoints,
        );
        format!("{}---\n{slice}", manifests::service(&format!("shop/svc-{service}"), &spec))
    })
}

/// Service number `index` with the annotation that accelerates it.
pub(crate) fn accelerated_service(index: u32, server: Ipv4Addr) -> File {
    let endpoints = format!("[{{addresses: [{server}], conditions: {{ready: true}}}}]");
    let service = with_ports(index, "{weft.dev/accelerate: same-node}");
    ("accelerated.yaml".into(), format!("{service}---\n{}", slice(index, &endpoints)))
}

/// A Service whose only endpoint is blue, and the same with green.
pub(crate) fn blue_and_green(index: u32, server: Ipv4Addr) -> [String; 2] {
    [BLUE, GREEN].map(|port| {
        let spec = format!("{{clusterIP: {}, ports: [{{name: say, port: 80}}]}}", service_ip(index));
        let endpoints = format!("[{{addresses: [{server}], conditions: {{ready: true}}}}]");
        let ports = format!("[{{name: say, port: {port}}}]");
        let slice = manifests::endpoint_slice("shop/two", "x", "IPv4", &ports, &endpoints);
        format!("{}---\n{slice}", manifests::service("shop/two", &spec))
    })
}

/// Rules on the pods labelled `app: server`: all allow, half by ServiceAccount and half by block, and one of
/// them allows ServiceAccount shop/client.
pub(crate) fn policies(rules: u32) -> Vec<File> {
    let first = u32::from(Ipv4Addr::new(172, 16, 0, 0));
    let rule = |rule: u32| {
        let source = match rule {
            0 => "{type: ServiceAccount, serviceAccount: {namespace: shop, name: client}}".into(),
            _ if rule.is_multiple_of(2) => {
                format!(
                    "{{type: ServiceAccount, serviceAccount: {{namespace: ns-{}, name: sa-{rule}}}}}",
                    rule % 50
                )
            }
            _ => format!("{{type: CIDR, cidr: {}/28}}", Ipv4Addr::from(first + rule * 16)),
        };
        format!("{{sources: [{source}], networkAttributes: {{ports: [{QUEUE}, {DRAIN}]}}}}")
    };
    let policy = |number: u32| {
        let rules: Vec<_> = (number * 10..rules.min(number * 10 + 10)).map(rule).collect();
        let target = "{group: \"\", kind: Pod, selector: {matchLabels: {app: server}}}";
        let spec = format!("{{targetRefs: [{target}], action: ALLOW, rules: [{}]}}", rules.join(", "));
        manifests::authorization_policy(&format!("shop/allow-{number}"), &spec)
    };
    let policies: Vec<_> = (0..rules.div_ceil(10)).map(policy).collect();
    vec![("policies.yaml".into(), manifests::documents(&policies))]
}

fn with_ports(index: u32, annotations: &str) -> String {
    let spec = format!(
        "{{clusterIP: {}, ports: [{{name: keep, port: 80}}, {{name: close, port: 81}}, {{name: discard, port: 82}}, \
         {{name: queue, port: 83}}]}}",
        service_ip(index)
    );
    manifests::annotated_service(&format!("shop/svc-{index}"), annotations, &spec)
}

fn slice(index: u32, endpoints: &str) -> String {
    let ports = format!(
        "[{{name: keep, port: {ANSWER_AND_KEEP}}}, {{name: close, port: {ANSWER_AND_CLOSE}}}, \
         {{name: discard, port: {DISCARD}}}, {{name: queue, port: {QUEUE}}}]"
    );
    manifests::endpoint_slice(&format!("shop/svc-{index}"), "x", "IPv4", &ports, endpoints)
}

/// Fifty to a file.
fn files(count: u32, document: impl Fn(u32) -> String) -> Vec<File> {
    let starts = (0..count).step_by(50);
    let file = |start: u32| {
        let documents: Vec<_> = (start..count.min(start + 50)).map(&document).collect();
        (format!("services-{start:05}.yaml"), manifests::documents(&documents))
    };
    starts.map(file).collect()
}
