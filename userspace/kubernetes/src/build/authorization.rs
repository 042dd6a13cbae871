//! AuthorizationPolicies in the snapshot's form.

use weft_model::{AuthorizationPolicy, Rule, Source};

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
