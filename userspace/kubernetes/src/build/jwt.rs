//! Whose tokens a pod takes: those that the policy for all pods of its namespace names, or in their place those of the
//! one for some; of two for the same, the older one's.

use std::sync::Arc;

use weft_model::{JwtProvider, Workload};

use super::{
    objects::{Objects, within},
    telemetry::level,
};
use crate::object::AuthenticationPolicy;

/// The providers whose tokens are verified for `workload`; `None` where nobody looks at tokens.
pub(super) fn of_pod(objects: &Objects, workload: &Workload) -> Option<Arc<[JwtProvider]>> {
    let mut levels: [Option<&AuthenticationPolicy>; 2] = [None, None];
    let policies = within(&objects.authentication, &workload.name.namespace).map(|(_, policy)| policy);
    for policy in policies.filter(|policy| policy.jwt.is_some()) {
        let Some(level) = level(objects, &policy.name.namespace, &policy.target, workload) else { continue };
        let winner = &mut levels[level];
        if winner.is_none_or(|winner| (&policy.created, &policy.name) < (&winner.created, &winner.name)) {
            *winner = Some(policy);
        }
    }
    let winner = levels.into_iter().flatten().next_back();
    let providers = winner.and_then(|policy| policy.jwt.clone());
    providers.filter(|providers| !providers.is_empty())
}
