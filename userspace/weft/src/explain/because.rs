//! Why a connection leaves the kernel path (contract, section 3).

use weft_model::{AppProtocol, HashKey, HttpLoadBalancer, PortRouting, RouteSet, Service, TrafficSettings};

/// Everything that takes the connections to a port to the proxy.
pub(super) fn because(service: &Service, routing: &PortRouting) -> Vec<String> {
    let mut all = Vec::new();
    let sets = std::iter::once(&routing.producer).chain(routing.consumers.values());
    for set in sets {
        let (kind, routes) = match set {
            RouteSet::None => continue,
            RouteSet::Http(routes) => ("HTTPRoute", routes),
            RouteSet::Grpc(routes) => ("GRPCRoute", routes),
            RouteSet::Tls(routes) => {
                all.extend(routes.iter().map(|route| format!("TLSRoute {} is for it", route.name)));
                continue;
            }
        };
        for route in routes {
            all.push(format!("{kind} {} is for it", route.name));
            if route.rules.iter().any(|rule| rule.session.is_some()) {
                all.push(format!("{kind} {} has session persistence", route.name));
            }
        }
    }
    let sections = sections(&routing.traffic);
    if !sections.is_empty() {
        all.push(format!("a TrafficPolicy for Service {} has {}", service.name, sections.join(", ")));
    }
    all
}

/// What is spoken on a port.
pub(super) fn protocol(protocol: AppProtocol) -> &'static str {
    match protocol {
        AppProtocol::Detect => "what the first bytes say",
        AppProtocol::Http => "HTTP",
        AppProtocol::Http2 => "HTTP/2",
        AppProtocol::Tls => "TLS, passed through",
        AppProtocol::Tcp => "TCP, passed through",
    }
}

/// The sections of a TrafficPolicy that look at requests.
fn sections(settings: &TrafficSettings) -> Vec<&'static str> {
    let by_request = match &settings.load_balancer {
        Some(HttpLoadBalancer::PeakEwma) => Some("loadBalancer.type PeakEWMA"),
        Some(HttpLoadBalancer::ConsistentHash { key, .. }) if *key != HashKey::SourceIp => {
            Some("loadBalancer.consistentHash by header, cookie or query")
        }
        _ => None,
    };
    let sections = [
        ("circuitBreaker", settings.circuit_breaker.is_some()),
        ("outlierDetection", settings.outlier_detection.is_some()),
        ("timeouts.request", settings.timeouts.request.is_some()),
        ("timeouts.backendRequest", settings.timeouts.backend_request.is_some()),
        ("retry", settings.retry.is_some()),
        ("rateLimit", settings.rate_limit.is_some()),
        ("faultInjection", settings.faults.is_some()),
    ];
    by_request.into_iter().chain(sections.into_iter().filter(|(_, has)| *has).map(|(name, _)| name)).collect()
}
