//! One table for each kind.

use std::time::Duration;

use weft_telemetry::api::{
    ConnectionView, EndpointView, PolicyView, RuleView, ServicePortView, ServiceView, WorkloadView,
};

use crate::{
    flow,
    table::{Column, Table},
    units,
};

pub(crate) fn services<'a>(list: impl Iterator<Item = &'a ServiceView> + Clone) -> Table {
    let mut table = Table::new([
        Column::whole("NAMESPACE"),
        Column::whole("NAME"),
        Column::whole("TYPE"),
        Column::folding("CLUSTER-IP"),
        Column::folding("PORTS"),
        Column::whole("ENDPOINTS"),
        Column::folding("BALANCING"),
    ]);
    for service in list {
        let port = |port: &ServicePortView| format!("{}/{}", port.port, port.protocol);
        let eligible: usize = service.ports.iter().map(|port| port.eligible).sum();
        let all: usize = service.ports.iter().map(|port| port.endpoints).sum();
        table.row([
            service.namespace.clone(),
            service.name.clone(),
            service.kind.clone(),
            joined(&service.ips),
            service.ports.iter().map(port).collect::<Vec<_>>().join(", "),
            format!("{eligible}/{all}"),
            balancing(service),
        ]);
    }
    table
}

/// The weight is shown only where a route splits a Service.
pub(crate) fn endpoints<'a>(list: impl Iterator<Item = &'a EndpointView> + Clone) -> Table {
    let split = list.clone().any(|endpoint| endpoint.weight != 1 || endpoint.backend.is_some());
    let weight = split.then(|| [Column::number("WEIGHT"), Column::extra("BACKEND")]);
    let columns = [
        Column::whole("NAMESPACE"),
        Column::whole("SERVICE"),
        Column::whole("PORT"),
        Column::whole("ADDRESS"),
        Column::whole("POD"),
        Column::whole("STATE"),
        Column::whole("USED"),
    ];
    let place = [Column::extra("NODE"), Column::extra("ZONE")];
    let mut table = Table::new(columns.into_iter().chain(weight.into_iter().flatten()).chain(place));
    for endpoint in list {
        let backend = bare(endpoint.backend.as_deref(), &endpoint.namespace);
        let weight = split.then(|| [endpoint.weight.to_string(), backend]);
        let cells = [
            endpoint.namespace.clone(),
            endpoint.service.clone(),
            format!("{}/{}", endpoint.port, endpoint.protocol),
            endpoint.address.to_string(),
            bare(endpoint.pod.as_deref(), &endpoint.namespace),
            endpoint.state.to_string(),
            if endpoint.eligible { "yes" } else { "no" }.to_owned(),
        ];
        let place = [endpoint.node.clone().unwrap_or_default(), endpoint.zone.clone().unwrap_or_default()];
        table.push(cells.into_iter().chain(weight.into_iter().flatten()).chain(place).collect());
    }
    table
}

pub(crate) fn workloads<'a>(list: impl Iterator<Item = &'a WorkloadView> + Clone) -> Table {
    let mut table = Table::new([
        Column::whole("NAMESPACE"),
        Column::whole("NAME"),
        Column::folding("IPS"),
        Column::whole("NODE"),
        Column::whole("SERVICE-ACCOUNT"),
        Column::whole("MESH"),
        Column::whole("STATE"),
    ]);
    for workload in list {
        table.row([
            workload.namespace.clone(),
            workload.name.clone(),
            joined(&workload.ips),
            node(workload),
            workload.service_account.clone(),
            if workload.enrolled { "yes" } else { "no" }.to_owned(),
            state(workload).to_owned(),
        ]);
    }
    table
}

pub(crate) fn policies<'a>(list: impl Iterator<Item = &'a PolicyView> + Clone) -> Table {
    let mut table = Table::new([
        Column::whole("NAMESPACE"),
        Column::whole("NAME"),
        Column::whole("ACTION"),
        Column::whole("MODE"),
        Column::folding("TARGET"),
        Column::number("PODS"),
        Column::folding("RULES"),
    ]);
    for policy in list {
        table.row([
            policy.namespace.clone(),
            policy.name.clone(),
            policy.action.clone(),
            policy.mode.clone(),
            policy.target.clone(),
            policy.pods.len().to_string(),
            rules(&policy.rules),
        ]);
    }
    table
}

/// Why one is unprotected is shown only where one is.
pub(crate) fn connections<'a>(list: impl Iterator<Item = &'a ConnectionView> + Clone) -> Table {
    let some = list.clone().any(|connection| connection.unprotected.is_some());
    let unprotected = some.then(|| Column::whole("UNPROTECTED"));
    let columns = [
        Column::whole("PROTO"),
        Column::whole("SOURCE"),
        Column::whole("SERVICE"),
        Column::whole("DESTINATION"),
        Column::whole("PATH"),
    ];
    let more = [
        Column::whole("SENT/RECEIVED"),
        Column::extra("AGE"),
        Column::extra("RTT"),
        Column::extra("STATE"),
        Column::extra("CLIENT-IDENTITY"),
    ];
    let mut table = Table::new(columns.into_iter().chain(unprotected).chain(more));
    for connection in list {
        let amount = |bytes: Option<u64>| bytes.map_or_else(|| "?".to_owned(), units::bytes);
        let path = if connection.managed { connection.path.to_string() } else { "unmanaged".to_owned() };
        let why = some.then(|| connection.unprotected.map(|why| why.to_string()).unwrap_or_default());
        let cells = [
            connection.protocol.to_string(),
            flow::source(&connection.source),
            flow::service(&connection.destination).unwrap_or_default(),
            flow::server(&connection.destination),
            path,
        ];
        let more = [
            format!("{}/{}", amount(connection.bytes_sent), amount(connection.bytes_received)),
            connection.duration_ms.map(|ms| units::span(Duration::from_millis(ms))).unwrap_or_default(),
            connection.rtt_us.map(|us| units::span(Duration::from_micros(us.into()))).unwrap_or_default(),
            connection.state.clone(),
            connection.source.identity.as_deref().unwrap_or_default().to_owned(),
        ];
        table.push(cells.into_iter().chain(why).chain(more).collect());
    }
    table
}

/// `from shop/web, 10.0.0.0/8 to 8080; from anybody`.
fn rules(rules: &[RuleView]) -> String {
    let rule = |rule: &RuleView| {
        let from = match &rule.sources {
            None => "anybody".to_owned(),
            Some(sources) if sources.is_empty() => "nobody".to_owned(),
            Some(sources) => sources.join(", "),
        };
        let to = rule.ports.as_ref().map(|ports| format!(" to {}", ports.join(", "))).unwrap_or_default();
        let with = if rule.l7 { " with HTTP attributes" } else { "" };
        format!("from {from}{to}{with}")
    };
    rules.iter().map(rule).collect::<Vec<_>>().join("; ")
}

/// The node's name; a pod that names none is of every agent's node.
pub(crate) fn node(workload: &WorkloadView) -> String {
    workload.node.clone().unwrap_or_else(|| "any".to_owned())
}

pub(crate) fn state(workload: &WorkloadView) -> &'static str {
    match (workload.terminating, workload.ready) {
        (true, _) => "Terminating",
        (false, true) => "Ready",
        (false, false) => "NotReady",
    }
}

/// `Random, sticky 3h, PreferSameZone, accelerated`; nothing where nothing is balanced.
pub(crate) fn balancing(service: &ServiceView) -> String {
    if service.kind != "ClusterIP" {
        return String::new();
    }
    let sticky =
        service.session_affinity_seconds.map(|s| format!("sticky {}", units::span(Duration::from_secs(s))));
    let accelerated = service.accelerate.then(|| "accelerated".to_owned());
    let all =
        [Some(service.load_balancer.clone()), sticky, service.traffic_distribution.clone(), accelerated];
    all.into_iter().flatten().collect::<Vec<_>>().join(", ")
}

/// A name without the namespace that stands beside it.
pub(crate) fn bare(name: Option<&str>, namespace: &str) -> String {
    let name = name.unwrap_or_default();
    let own = name.strip_prefix(namespace).and_then(|rest| rest.strip_prefix('/'));
    own.unwrap_or(name).to_owned()
}

pub(crate) fn joined<T: ToString>(items: &[T]) -> String {
    items.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}
