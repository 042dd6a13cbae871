//! The configuration as people read it: [`Snapshot`] to the types of the API.

mod authz;
mod route;

use std::{collections::BTreeMap, sync::Arc};

pub use authz::{AskedRequest, Authenticate, authz, authz_of_pod};
pub use route::routes;
use weft_model::{
    Action, AuthorizationPolicy, Distribution, Endpoint, EndpointGroup, LoadBalancer, Mode, ObjectName,
    PolicyTarget, PortRange, Rule, Selector, Service, ServiceKind, ServicePort, Snapshot, Source, Workload,
    eligible,
};
use weft_policy::Policies;

use crate::api::{
    EndpointState, EndpointView, PolicyView, RuleView, ServicePortView, ServiceView, WorkloadView,
};

/// All Services.
pub fn services(snapshot: &Snapshot) -> Vec<ServiceView> {
    snapshot.services.values().map(|service| view_service(snapshot, service)).collect()
}

/// All endpoints of all Services.
pub fn endpoints(snapshot: &Snapshot) -> Vec<EndpointView> {
    snapshot.services.values().flat_map(|service| endpoints_of(snapshot, service)).collect()
}

/// The endpoints of one Service.
pub fn endpoints_of(snapshot: &Snapshot, service: &Service) -> Vec<EndpointView> {
    let groups = service.ports.iter().flat_map(|port| port.groups.iter().map(move |group| (port, group)));
    groups.flat_map(|(port, group)| view_group(snapshot, service, port, group)).collect()
}

/// All pods.
pub fn workloads(snapshot: &Snapshot) -> Vec<WorkloadView> {
    snapshot.workloads.values().map(|workload| view_workload(snapshot, workload)).collect()
}

/// All policies, each with the pods of this node that it protects.
pub fn policies(snapshot: &Snapshot) -> Vec<PolicyView> {
    let policies = Policies::new(snapshot);
    let mut pods: BTreeMap<ObjectName, Vec<String>> = BTreeMap::new();
    for workload in snapshot.workloads.values().filter(|workload| workload.local) {
        for applied in policies.protection(workload).policies {
            pods.entry(applied.policy.name.clone()).or_default().push(workload.name.to_string());
        }
    }
    let mut view = |policy: &Arc<AuthorizationPolicy>| {
        view_policy(policy, pods.remove(&policy.name).unwrap_or_default())
    };
    snapshot.policies.values().map(&mut view).collect()
}

/// One Service.
pub fn view_service(snapshot: &Snapshot, service: &Service) -> ServiceView {
    let port = |port: &ServicePort| ServicePortView {
        name: port.name.to_string(),
        port: port.port,
        protocol: port.protocol,
        app_protocol: port.app_protocol.as_ref().map(ToString::to_string),
        eligible: routed(port).map(|group| eligible(group, &snapshot.locality).len()).sum(),
        endpoints: routed(port).map(|group| group.endpoints.len()).sum(),
    };
    ServiceView {
        namespace: service.name.namespace.to_string(),
        name: service.name.name.to_string(),
        kind: match service.kind {
            ServiceKind::ClusterIp => "ClusterIP",
            ServiceKind::Headless => "Headless",
            ServiceKind::ExternalName => "ExternalName",
        }
        .to_owned(),
        ips: service.ips.clone(),
        ports: service.ports.iter().map(port).collect(),
        load_balancer: match service.load_balancer {
            LoadBalancer::Random => "Random",
            LoadBalancer::RoundRobin => "RoundRobin",
            LoadBalancer::LeastRequest => "LeastRequest",
            LoadBalancer::SourceIpHash { .. } => "ConsistentHash",
        }
        .to_owned(),
        session_affinity_seconds: service.session_affinity.map(|timeout| timeout.as_secs()),
        traffic_distribution: distribution(service),
        accelerate: service.accelerate,
    }
}

/// One pod.
pub fn view_workload(snapshot: &Snapshot, workload: &Workload) -> WorkloadView {
    WorkloadView {
        namespace: workload.name.namespace.to_string(),
        name: workload.name.name.to_string(),
        service_account: workload.service_account.name.to_string(),
        identity: workload.service_account.spiffe(&snapshot.trust_domain),
        ips: workload.ips.clone(),
        node: workload.node.as_ref().map(ToString::to_string),
        local: workload.local,
        enrolled: workload.enrolled,
        ready: workload.ready,
        terminating: workload.terminating,
        workload: workload.owner.to_string(),
        netns: workload.netns.as_ref().map(|path| path.display().to_string()),
        labels: BTreeMap::clone(&workload.labels),
    }
}

/// The groups that connections go to.
fn routed(port: &ServicePort) -> impl Iterator<Item = &EndpointGroup> {
    port.groups.iter().filter(|group| group.weight > 0)
}

fn view_group(
    snapshot: &Snapshot,
    service: &Service,
    port: &ServicePort,
    group: &EndpointGroup,
) -> Vec<EndpointView> {
    let eligible = eligible(group, &snapshot.locality);
    let view = |endpoint: &Endpoint| EndpointView {
        namespace: service.name.namespace.to_string(),
        service: service.name.name.to_string(),
        port: port.port,
        protocol: port.protocol,
        address: endpoint.address,
        backend: (group.service != service.name).then(|| group.service.to_string()),
        weight: group.weight,
        pod: endpoint.pod.as_ref().map(ToString::to_string),
        node: endpoint.node.as_ref().map(ToString::to_string),
        zone: endpoint.zone.as_ref().map(ToString::to_string),
        state: match endpoint {
            Endpoint { ready: true, .. } => EndpointState::Ready,
            Endpoint { terminating: true, serving: true, .. } => EndpointState::Serving,
            Endpoint { terminating: true, .. } => EndpointState::Terminating,
            Endpoint { .. } => EndpointState::NotReady,
        },
        eligible: group.weight > 0 && eligible.iter().any(|taken| std::ptr::eq(*taken, endpoint)),
    };
    group.endpoints.iter().map(view).collect()
}

fn view_policy(policy: &AuthorizationPolicy, pods: Vec<String>) -> PolicyView {
    PolicyView {
        namespace: policy.name.namespace.to_string(),
        name: policy.name.name.to_string(),
        action: match policy.action {
            Action::Allow => "ALLOW",
            Action::Deny => "DENY",
        }
        .to_owned(),
        mode: match policy.mode {
            Mode::Enforce => "Enforce",
            Mode::Audit => "Audit",
        }
        .to_owned(),
        target: match &policy.target {
            PolicyTarget::Pods(selector) if selector.is_empty() => "all pods".to_owned(),
            PolicyTarget::Pods(selector) => format!("pods {}", view_selector(selector)),
            PolicyTarget::Services(names) => format!("service {}", names.join(",")),
            PolicyTarget::Routes(routes) => {
                let names: Vec<_> = routes.iter().map(|route| &*route.name.name).collect();
                format!("route {}", names.join(","))
            }
        },
        rules: policy.rules.iter().map(view_rule).collect(),
        pods,
    }
}

fn view_rule(rule: &Rule) -> RuleView {
    let port = |range: &PortRange| match range {
        PortRange { start, end } if start == end => start.to_string(),
        PortRange { start, end } => format!("{start}-{end}"),
    };
    RuleView {
        sources: rule.sources.as_ref().map(|sources| sources.iter().map(view_source).collect()),
        ports: rule.ports.as_ref().map(|ports| ports.iter().map(port).collect()),
        l7: rule.l7,
    }
}

/// As one would type it for `weft authz check --from`, or as the policy has it.
fn view_source(source: &Source) -> String {
    match source {
        Source::ServiceAccount(account) => account.to_string(),
        Source::Namespace(namespace) => format!("{namespace}/*"),
        Source::Spiffe(id) => id.to_string(),
        Source::Cidr(block) => block.to_string(),
    }
}

/// In kubectl's notation: `app=web,tier in (front,back),!canary`.
fn view_selector(selector: &Selector) -> String {
    use weft_model::Operator::{DoesNotExist, Exists, In, NotIn};
    let labels = selector.labels.iter().map(|(key, value)| format!("{key}={value}"));
    let expressions = selector.expressions.iter().map(|expression| match &expression.operator {
        In(values) => format!("{} in ({})", expression.key, values.join(",")),
        NotIn(values) => format!("{} notin ({})", expression.key, values.join(",")),
        Exists => expression.key.clone(),
        DoesNotExist => format!("!{}", expression.key),
    });
    labels.chain(expressions).collect::<Vec<_>>().join(",")
}

fn distribution(service: &Service) -> Option<String> {
    let own =
        service.ports.iter().flat_map(|port| &port.groups).find(|group| group.service == service.name)?;
    match own.distribution {
        _ if own.node_local => Some("Local".to_owned()),
        Distribution::Any => None,
        Distribution::PreferSameZone => Some("PreferSameZone".to_owned()),
        Distribution::PreferSameNode => Some("PreferSameNode".to_owned()),
    }
}

#[cfg(test)]
pub(crate) mod tests;
