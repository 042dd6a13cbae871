//! The Services and routes of weft's path.

use std::net::Ipv4Addr;

use weft_tests::manifests::{documents, http_route, service, traffic_policy};

use super::path::{Path, Port};

/// The address of the Service `shop/<name>`.
pub(super) fn vip(number: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 96, 7, number)
}

/// A Service in front of the pods labelled `app: <name>`, whose requests take a route that matches a header, with
/// a timeout and a retry policy.
pub(super) fn routed(name: &str, number: u8) -> String {
    let ports: Vec<_> = Port::ALL
        .iter()
        .map(|port| {
            let (front, back) = (port.of_proxy(Path::Weft), port.of_server());
            let spoken = if port.is_http2() { "kubernetes.io/h2c" } else { "http" };
            format!("{{name: p{front}, port: {front}, targetPort: {back}, appProtocol: {spoken}}}")
        })
        .collect();
    let spec =
        format!("{{clusterIP: {}, selector: {{app: {name}}}, ports: [{}]}}", vip(number), ports.join(", "));
    let routes = Port::ALL.iter().map(|port| route(name, *port));
    documents(&[service(&format!("shop/{name}"), &spec)].into_iter().chain(routes).collect::<Vec<_>>())
}

/// The same without a route: connections stay in the kernel.
pub(super) fn unrouted(name: &str, app: &str, number: u8) -> String {
    let (front, back) = (Port::Http1.of_proxy(Path::Weft), Port::Http1.of_server());
    let ip = vip(number);
    let spec = format!(
        "{{clusterIP: {ip}, selector: {{app: {app}}}, ports: [{{port: {front}, targetPort: {back}}}]}}"
    );
    service(&format!("shop/{name}"), &spec)
}

fn route(name: &str, port: Port) -> String {
    let number = port.of_proxy(Path::Weft);
    let parent = format!("parentRefs: [{{group: \"\", kind: Service, name: {name}, port: {number}}}]");
    let backend = format!("backendRefs: [{{name: {name}, port: {number}}}]");
    let matches = "matches: [{headers: [{name: x-bench, value: \"1\"}]}]";
    let full = format!("shop/{name}-{number}");
    if port == Port::Grpc {
        // Its route has neither of the two fields.
        let route = format!(
            "apiVersion: gateway.networking.k8s.io/v1\nkind: GRPCRoute\n\
             metadata: {{namespace: shop, name: {name}-{number}}}\n\
             spec: {{{parent}, rules: [{{{matches}, {backend}}}]}}\n"
        );
        let target = format!("{{group: gateway.networking.k8s.io, kind: GRPCRoute, name: {name}-{number}}}");
        let policy = traffic_policy(
            &full,
            &format!(
                "{{targetRefs: [{target}], timeouts: {{request: 60s}}, \
                 retry: {{attempts: 2, grpcCodes: [UNAVAILABLE]}}}}"
            ),
        );
        return documents(&[route, policy]);
    }
    let handling = "timeouts: {request: 60s}, retry: {attempts: 2, codes: [503]}";
    http_route(&full, &format!("{{{parent}, rules: [{{{matches}, {handling}, {backend}}}]}}"))
}
