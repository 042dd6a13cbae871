//! Whose requests are logged: MeshConfig, then the policies for all pods of a namespace, then those for some.

use std::sync::Arc;

use weft_model::{AccessLog, ObjectName, PolicyTarget, Workload};

use super::{NameSet, notice::Notice, objects::Objects};
use crate::object::{Key, Kind, LogSettings, TelemetryPolicy};

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

/// `changed`, and the policies of their namespaces: any of them may have a conflict with one that changed.
pub(super) fn beside(objects: &Objects, changed: &NameSet) -> NameSet {
    let namespaces = changed.iter().map(|policy| &policy.namespace);
    let beside = namespaces.flat_map(|namespace| super::objects::within(&objects.telemetry, namespace));
    beside.map(|(name, _)| name).chain(changed).cloned().collect()
}

/// That another policy for the very same target wins over `name`.
pub(super) fn conflicts(objects: &Objects, name: &ObjectName) -> Vec<Notice> {
    let Some(policy) = objects.telemetry.get(name) else { return Vec::new() };
    let order = |policy: &TelemetryPolicy| (policy.created.clone(), policy.name.clone());
    let others = super::objects::within(&objects.telemetry, &name.namespace).map(|(_, other)| other);
    let before = others.filter(|other| other.target == policy.target && order(other) < order(policy));
    let winner = before.min_by_key(|other| order(other));
    let notice = |winner: &Arc<TelemetryPolicy>| {
        Notice::conflicted(key(name), "spec.targetRefs", "the same target", key(&winner.name))
    };
    winner.map(notice).into_iter().collect()
}

/// The policy `name`, as messages have it.
pub(super) fn key(name: &ObjectName) -> Key {
    Key { kind: Kind::TelemetryPolicy, name: name.clone() }
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
