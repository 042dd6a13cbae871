//! AuthorizationPolicies in the snapshot's form, and what others show of them.

use std::{collections::BTreeSet, sync::Arc};

use weft_model::{AuthorizationPolicy, ObjectName, PolicyTarget, Rule, Source};

use super::{
    Built, NameSet,
    notice::Notice,
    objects::{Dirty, Objects, within},
    unverified,
};
use crate::object;

/// The policy in the snapshot's form: a SPIFFE ID of our own trust domain is a ServiceAccount.
pub(super) fn build(
    policy: &object::AuthorizationPolicy,
    ours: impl Fn(&str) -> bool,
) -> AuthorizationPolicy {
    let source = |source: &Source| match source {
        Source::Spiffe(id) if ours(&id.trust_domain) => {
            id.service_account().map_or_else(|| source.clone(), Source::ServiceAccount)
        }
        other => other.clone(),
    };
    let rule = |rule: &Rule| Rule {
        sources: rule.sources.as_ref().map(|sources| sources.iter().map(source).collect()),
        ..rule.clone()
    };
    AuthorizationPolicy {
        name: policy.name.clone(),
        action: policy.action,
        mode: policy.mode,
        target: policy.target.clone(),
        rules: policy.rules.iter().map(rule).collect(),
    }
}

/// The policies of which there may be something else to tell.
pub(super) fn touched(objects: &Objects, dirty: &Dirty) -> NameSet {
    let namespaces: BTreeSet<_> =
        dirty.routes.iter().map(|route| Arc::clone(&route.name.namespace)).collect();
    let beside = namespaces.iter().flat_map(|namespace| within(&objects.authorization, namespace));
    let for_routes = beside.filter(|(_, policy)| matches!(policy.target, PolicyTarget::Routes(_)));
    let for_routes = for_routes.map(|(name, _)| name.clone());
    unverified::touched(objects, dirty).into_iter().chain(for_routes).collect()
}

/// Tokens that nobody verifies, and routes that are not there; of a Service that is not there its own place tells.
pub(super) fn notices(objects: &Objects, built: &Built, name: &ObjectName) -> Vec<Notice> {
    let mut notices = unverified::notices(objects, built, name);
    let target = objects.authorization.get(name).map(|policy| &policy.target);
    let Some(PolicyTarget::Routes(routes)) = target else { return notices };
    for (i, route) in routes.iter().enumerate().filter(|(_, route)| !objects.routes.contains_key(route)) {
        let remedy = "add the route, or correct the name; it takes effect as soon as the route is there";
        let field = format!("spec.targetRefs[{i}]");
        notices.push(Notice::missing(unverified::key(name), &field, format!("there is no {route}"), remedy));
    }
    notices
}
