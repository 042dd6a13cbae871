//! Whose requests are logged: MeshConfig, then the policies for all pods of a namespace, then those for some.

use std::sync::Arc;

use weft_model::{AccessLog, ObjectName, PolicyTarget, Workload};

use super::objects::Objects;
use crate::object::{LogSettings, TelemetryPolicy};

/// The access log of `workload`'s requests; `None` where they are not logged.
pub(super) fn access_log(objects: &Objects, workload: &Workload) -> Option<AccessLog> {
    let mut levels: [Option<&TelemetryPolicy>; 2] = [None, None];
    for (_, policy) in super::objects::within(&objects.telemetry, &workload.name.namespace) {
        let Some(level) = level(objects, &policy.name.namespace, &policy.target, workload) else { continue };
        let winner = &mut levels[level];
        if winner.is_none_or(|winner| (&policy.created, &policy.name) < (&winner.created, &winner.name)) {
            *winner = Some(policy);
        }
    }
    let mesh = objects.mesh.as_ref().map(|mesh| mesh.access_log.clone()).unwrap_or_default();
    let held = levels.into_iter().flatten().fold(mesh, |held, policy| policy.access_log.over(held));
    let log = AccessLog { format: held.format.unwrap_or_default(), filter: held.filter };
    held.enabled.unwrap_or(false).then_some(log)
}

/// 0 for a policy that is for every pod of its namespace, 1 for one that names some; `None` for another's.
pub(super) fn level(
    objects: &Objects,
    namespace: &Arc<str>,
    target: &PolicyTarget,
    workload: &Workload,
) -> Option<usize> {
    match target {
        PolicyTarget::Pods(selector) if selector.is_empty() => Some(0),
        PolicyTarget::Pods(selector) => selector.matches(&workload.labels).then_some(1),
        PolicyTarget::Services(names) => {
            let service = |name: &Arc<str>| ObjectName::new(Arc::clone(namespace), Arc::clone(name));
            let selects = |name: &Arc<str>| {
                let service = objects.services.get(&service(name));
                service
                    .and_then(|service| service.selector.as_ref())
                    .is_some_and(|s| s.matches(&workload.labels))
            };
            names.iter().any(selects).then_some(1)
        }
        PolicyTarget::Routes(_) => None,
    }
}

impl LogSettings {
    /// These, and what they do not say from `less`.
    fn over(&self, less: Self) -> Self {
        Self {
            enabled: self.enabled.or(less.enabled),
            format: self.format.or(less.format),
            filter: self.filter.clone().or(less.filter),
        }
    }
}
