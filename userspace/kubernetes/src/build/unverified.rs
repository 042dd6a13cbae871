//! Rules that ask for tokens which nobody verifies where they apply: a provider's name that is misspelt, or an
//! `AuthenticationPolicy` that is missing or for other pods.

use std::{collections::BTreeSet, sync::Arc};

use weft_model::{Action, JwtProvider, ObjectName, PolicyTarget, ROOT_NAMESPACE, Workload};

use super::{
    Built, NameSet, jwt,
    notice::Notice,
    objects::{Dirty, Objects, within},
    telemetry::level,
};
use crate::object::{AuthorizationPolicy, Key, Kind};

/// The policies of which this may have changed.
pub(super) fn touched(objects: &Objects, dirty: &Dirty) -> NameSet {
    let around = dirty.targeted.iter().chain(&dirty.redefined).map(|name| &name.namespace);
    let mut namespaces: BTreeSet<_> = around.cloned().collect();
    if !namespaces.is_empty() {
        namespaces.insert(ROOT_NAMESPACE.into());
    }
    let around = namespaces.iter().flat_map(|namespace| within(&objects.authorization, namespace));
    let asking = around.filter(|(_, policy)| policy.rules.iter().any(|rule| rule.token.is_some()));
    asking.map(|(name, _)| name).chain(&dirty.policies).cloned().collect()
}

/// What of the policy `name` asks for tokens that nobody verifies.
pub(super) fn notices(objects: &Objects, built: &Built, name: &ObjectName) -> Vec<Notice> {
    let Some(policy) = objects.authorization.get(name) else { return Vec::new() };
    let rules = policy.rules.iter().enumerate();
    let asked = rules.filter_map(|(index, rule)| Some((index, &*rule.token.as_ref()?.provider)));
    let found = asked.filter_map(|(index, provider)| {
        let message = wrong(objects, built, policy, provider)?;
        let remedy =
            "declare it under spec.jwt of an AuthenticationPolicy for these pods, or correct the name";
        Some(Notice::warning(key(name), &format!("spec.rules[{index}].jwt.provider"), message, remedy))
    });
    found.collect()
}

/// The policy `name`, as messages have it.
pub(super) fn key(name: &ObjectName) -> Key {
    Key { kind: Kind::AuthorizationPolicy, name: name.clone() }
}

fn wrong(objects: &Objects, built: &Built, policy: &AuthorizationPolicy, provider: &str) -> Option<String> {
    let namespace = &policy.name.namespace;
    let meaning = match policy.action {
        Action::Allow => "the rule allows nobody",
        Action::Deny => "the rule denies whatever its other parts match",
    };
    if let PolicyTarget::Routes(_) = policy.target {
        return Some(format!("no token is verified where a route is taken: {meaning}"));
    }
    let reaches = |pod: &Workload| {
        let mesh = matches!(policy.target, PolicyTarget::Pods(_)) && **namespace == *ROOT_NAMESPACE;
        (mesh || pod.name.namespace == *namespace) && pod.enrolled
    };
    let mut pods = built.workloads.values().filter(|pod| reaches(pod));
    pods.find_map(|pod| {
        level(objects, namespace, &policy.target, pod)?;
        let declared = jwt::of_pod(objects, pod);
        let declared = declared.as_deref().unwrap_or_default();
        let is_known = declared.iter().any(|known| *known.name == *provider);
        (!is_known).then(|| told(provider, pod, declared, policy.action, meaning))
    })
}

/// At a pod where tokens are looked at, one of an unknown provider is never there; elsewhere nobody knows.
fn told(provider: &str, pod: &Workload, declared: &[JwtProvider], action: Action, meaning: &str) -> String {
    if declared.is_empty() {
        return format!("no AuthenticationPolicy has tokens verified for Pod {}: {meaning} there", pod.name);
    }
    let meaning = if action == Action::Deny { "the rule denies nobody" } else { meaning };
    let known: Vec<_> = declared.iter().map(|known| Arc::clone(&known.name)).collect();
    format!(
        "Pod {} takes tokens of {}, and no AuthenticationPolicy declares a provider {provider} for it: {meaning} there",
        pod.name,
        known.join(", ")
    )
}
