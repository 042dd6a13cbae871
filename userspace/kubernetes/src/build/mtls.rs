//! Which mode of mutual TLS holds for a pod: MeshConfig's, then that of the policy for all pods of its namespace, then
//! that of the one for some; of two for the same, the older one's.
//!
//! What a more specific policy says of the mode holds for all ports but those that it names itself.

use weft_model::{MtlsMode, PodMtls, Workload};

use super::{
    objects::{Objects, within},
    telemetry::level,
};
use crate::object::AuthenticationPolicy;

/// The mode of pods that no policy is for.
pub(super) fn of_mesh(objects: &Objects) -> MtlsMode {
    objects.mesh.as_ref().map(|mesh| mesh.mtls).unwrap_or_default()
}

/// The modes of `workload`, where a policy is for it.
pub(super) fn of_pod(objects: &Objects, workload: &Workload) -> Option<PodMtls> {
    let mut levels: [Option<&AuthenticationPolicy>; 2] = [None, None];
    let policies = within(&objects.authentication, &workload.name.namespace).map(|(_, policy)| policy);
    for policy in policies.filter(|policy| policy.mode.is_some() || !policy.ports.is_empty()) {
        let Some(level) = level(objects, &policy.name.namespace, &policy.target, workload) else { continue };
        let winner = &mut levels[level];
        if winner.is_none_or(|winner| (&policy.created, &policy.name) < (&winner.created, &winner.name)) {
            *winner = Some(policy);
        }
    }
    let mesh = PodMtls { mode: of_mesh(objects), ports: [].into() };
    let policies = levels.into_iter().flatten();
    policies.fold(None, |held: Option<PodMtls>, policy| {
        let mut held = held.unwrap_or_else(|| mesh.clone());
        if let Some(mode) = policy.mode {
            held = PodMtls { mode, ports: [].into() };
        }
        held.ports.extend(&policy.ports);
        Some(held)
    })
}
