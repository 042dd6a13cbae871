//! Pods to workloads: who is in the mesh.

use std::{collections::BTreeMap, sync::Arc};

use weft_model::{ObjectName, Passage, Workload};

use super::objects::Objects;
use crate::{
    core::{ENROLMENT, NO_INSTALLATION},
    object::{MeshConfig, Pod},
};

/// The workload of the pod `name`, unless it is not there or has run to its end.
pub(super) fn build(objects: &Objects, node: &Arc<str>, name: &ObjectName) -> Option<Workload> {
    let pod = objects.pods.get(name).filter(|pod| !pod.gone)?;
    let enrolled = !pod.host_network && is_enrolled(objects, pod);
    Some(Workload {
        name: name.clone(),
        service_account: pod.service_account.clone(),
        ips: pod.ips.clone(),
        node: pod.node.clone(),
        local: pod.node.as_ref().is_none_or(|on| on == node),
        labels: Arc::clone(&pod.labels),
        enrolled,
        passage: match (enrolled, has_joined(objects, pod)) {
            (true, Some(false)) => Passage::Joins,
            (false, Some(true)) => Passage::Leaves,
            _ => Passage::Done,
        },
        netns: pod.netns.clone(),
        ports: pod.ports.clone(),
        owner: Arc::clone(&pod.owner),
        ready: pod.ready,
        terminating: pod.terminating,
        created: pod.created.seconds(),
    })
}

/// Whether an agent of this installation says so; `None` where that does not count.
fn has_joined(objects: &Objects, pod: &Pod) -> Option<bool> {
    let system = objects.system.as_ref()?;
    let installation = objects.namespaces.get(system).and_then(|namespace| namespace.uid.as_deref());
    Some(pod.joined.as_deref() == Some(installation.unwrap_or(NO_INSTALLATION)))
}

/// The pod's own label wins over its namespace's.
fn is_enrolled(objects: &Objects, pod: &Pod) -> bool {
    match pod.labels.get(ENROLMENT).map(String::as_str) {
        Some("enabled") => return true,
        Some("disabled") => return false,
        _ => {}
    }
    let name = &pod.name.namespace;
    let unknown = || BTreeMap::from([("kubernetes.io/metadata.name".to_owned(), name.to_string())]);
    let labels = objects.namespaces.get(name).map_or_else(unknown, |namespace| namespace.labels.clone());
    match &objects.mesh {
        Some(mesh) => mesh.namespace_selector.matches(&labels),
        None => MeshConfig::default_namespace_selector().matches(&labels),
    }
}
