//! One object with all that touches it.

use std::sync::Arc;

use weft_model::ObjectName;

use super::Agent;
use crate::{
    api::{ConnectionView, Failure, Flow, FlowFilter, PodDescription, ServiceDescription},
    views,
};

/// The pod, if there is one of that name.
pub(super) fn describe_pod(
    agent: &dyn Agent,
    namespace: &str,
    name: &str,
) -> Result<Option<PodDescription>, Failure> {
    let snapshot = agent.snapshot();
    let full = ObjectName::new(namespace, name);
    let Some(workload) = snapshot.workloads.get(&full) else { return Ok(None) };
    let full = full.to_string();
    let mut connections = agent.connections()?;
    connections.retain(|connection| ends(connection).contains(&(Some(namespace), Some(name))));
    let mut endpoints = views::endpoints(&snapshot);
    endpoints.retain(|endpoint| endpoint.pod.as_ref() == Some(&full));
    let mut policies = views::policies(&snapshot);
    policies.retain(|policy| policy.pods.contains(&full));
    let status = agent.status().pods.into_iter().find(|pod| pod.name == full);
    let of_pod = FlowFilter { pod: Some(full), ..FlowFilter::default() };
    let flows: Vec<Arc<Flow>> = agent.flows().last(&of_pod, LAST_FLOWS);
    Ok(Some(PodDescription {
        workload: views::view_workload(&snapshot, workload),
        status,
        endpoints,
        policies,
        connections,
        flows,
    }))
}

/// The Service, if there is one of that name.
pub(super) fn describe_service(
    agent: &dyn Agent,
    namespace: &str,
    name: &str,
) -> Result<Option<ServiceDescription>, Failure> {
    let snapshot = agent.snapshot();
    let Some(service) = snapshot.services.get(&ObjectName::new(namespace, name)) else { return Ok(None) };
    let mut connections = agent.connections()?;
    connections.retain(|connection| {
        let to = &connection.destination;
        (to.namespace.as_deref(), to.service.as_deref()) == (Some(namespace), Some(name))
    });
    Ok(Some(ServiceDescription {
        service: views::view_service(&snapshot, service),
        endpoints: views::endpoints_of(&snapshot, service),
        connections,
    }))
}

fn ends(connection: &ConnectionView) -> [(Option<&str>, Option<&str>); 2] {
    let (from, to) = (&connection.source, &connection.destination);
    [(from.namespace.as_deref(), from.pod.as_deref()), (to.namespace.as_deref(), to.pod.as_deref())]
}

/// Flows shown with a pod.
const LAST_FLOWS: usize = 10;
