//! How flows and connections name their ends.

use std::net::{IpAddr, SocketAddr};

use weft_telemetry::api::{Destination, Source};

/// `shop/web-1:41234`, or the bare address.
pub(crate) fn source(end: &Source) -> String {
    pod(end.namespace.as_deref(), end.pod.as_deref(), end.ip, end.port)
}

/// `shop/api (shop/api-1:8080)`: the Service and the pod that it came to.
pub(crate) fn destination(end: &Destination) -> String {
    let pod = pod(end.namespace.as_deref(), end.pod.as_deref(), end.ip, end.port);
    match service(end) {
        Some(service) => format!("{service} ({pod})"),
        None => pod,
    }
}

/// `shop/api`.
pub(crate) fn service(end: &Destination) -> Option<String> {
    let service = end.service.as_deref()?;
    Some(
        end.namespace
            .as_ref()
            .map_or_else(|| service.to_owned(), |namespace| format!("{namespace}/{service}")),
    )
}

/// `shop/api-1:8080`.
pub(crate) fn server(end: &Destination) -> String {
    pod(end.namespace.as_deref(), end.pod.as_deref(), end.ip, end.port)
}

/// A port of 0 is one that was not chosen yet: the connection was refused before.
fn pod(namespace: Option<&str>, pod: Option<&str>, ip: IpAddr, port: u16) -> String {
    match (namespace, pod, port) {
        (Some(namespace), Some(pod), 0) => format!("{namespace}/{pod}"),
        (Some(namespace), Some(pod), _) => format!("{namespace}/{pod}:{port}"),
        (_, _, 0) => ip.to_string(),
        _ => SocketAddr::new(ip, port).to_string(),
    }
}
