//! Where a request may go.

use weft_abi::Reason;
use weft_model::{
    Backend, BackendTarget, Endpoint, EndpointGroup, Protocol, Service, ServicePort, Snapshot, eligible,
};
use weft_telemetry::api::ExplainedBackend;

/// A backend with its part of the requests.
pub(super) struct Share<'a> {
    pub(super) name: String,
    pub(super) weight: u32,
    pub(super) eligible: Vec<&'a Endpoint>,
    pub(super) endpoints: usize,
    pub(super) problem: Option<Reason>,
    detail: Option<String>,
}

impl Share<'_> {
    /// Its part among `all`.
    pub(super) fn percent(&self, all: &[Self]) -> f64 {
        let total: f64 = all.iter().map(|share| f64::from(share.weight)).sum();
        if total > 0.0 { f64::from(self.weight) * 100.0 / total } else { 0.0 }
    }

    pub(super) fn view(&self, all: &[Self]) -> ExplainedBackend {
        let problem = self.problem.map(|reason| match &self.detail {
            Some(detail) => format!("{reason}: {detail}"),
            None => reason.to_string(),
        });
        ExplainedBackend {
            name: self.name.clone(),
            weight: self.weight,
            share: self.percent(all),
            eligible: self.eligible.len(),
            endpoints: self.endpoints,
            problem,
        }
    }
}

/// The backends of a port without a rule: its own endpoints, or those that a TCPRoute splits it into.
pub(super) fn of_groups<'a>(
    snapshot: &'a Snapshot,
    service: &Service,
    port: &'a ServicePort,
) -> Vec<Share<'a>> {
    let own = |group: &EndpointGroup| group.service == service.name;
    let split = port.groups.iter().any(|group| !own(group) && group.weight > 0);
    let shown = port.groups.iter().filter(|group| !split || !own(group) || group.weight > 0);
    let name = |group: &EndpointGroup| {
        if own(group) { format!("{}:{}", group.service, port.port) } else { group.service.to_string() }
    };
    shown.map(|group| share(name(group), group.weight, Some(group), snapshot)).collect()
}

/// The backendRefs of a rule.
pub(super) fn of_rule<'a>(snapshot: &'a Snapshot, backends: &[Backend]) -> Vec<Share<'a>> {
    backends.iter().map(|backend| of_target(snapshot, &backend.target, backend.weight)).collect()
}

fn of_target<'a>(snapshot: &'a Snapshot, target: &BackendTarget, weight: u32) -> Share<'a> {
    match target {
        BackendTarget::Service { name, port } => {
            let ports = snapshot.services.get(name).map(|service| &service.ports);
            let tcp = |found: &&ServicePort| found.port == *port && found.protocol == Protocol::Tcp;
            let port_of = ports.and_then(|ports| ports.iter().find(tcp));
            let group = port_of.and_then(|port| port.groups.iter().find(|group| group.service == *name));
            share(format!("{name}:{port}"), weight, group, snapshot)
        }
        BackendTarget::Invalid { why } => Share {
            name: "-".to_owned(),
            weight,
            eligible: Vec::new(),
            endpoints: 0,
            problem: Some(Reason::INVALID_BACKEND),
            detail: Some(why.to_string()),
        },
    }
}

fn share<'a>(
    name: String,
    weight: u32,
    group: Option<&'a EndpointGroup>,
    snapshot: &'a Snapshot,
) -> Share<'a> {
    let eligible = group.map(|group| eligible(group, &snapshot.locality)).unwrap_or_default();
    let problem = eligible.is_empty().then_some(Reason::NO_ENDPOINTS);
    let endpoints = group.map_or(0, |group| group.endpoints.len());
    Share { name, weight, eligible, endpoints, problem, detail: None }
}
