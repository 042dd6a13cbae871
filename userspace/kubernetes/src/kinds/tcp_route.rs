//! TCPRoute (Gateway API), with Services as parents.

use serde::Deserialize;

use super::route::{self, Backend, Context, Parent};
use crate::object::{Created, Route, RouteRule};

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Spec {
    #[serde(default)]
    parent_refs: Vec<Parent>,
    #[serde(default)]
    rules: Vec<RuleSpec>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct RuleSpec {
    name: Option<String>,
    #[serde(default)]
    backend_refs: Vec<Backend>,
}

pub(super) fn check(spec: &Spec, created: Created, context: &mut Context<'_, '_>) -> Route {
    let parents = route::parents(&spec.parent_refs, context);
    let names = route::rule_names(spec.rules.iter().map(|rule| rule.name.as_ref()), context);
    if spec.rules.len() != 1 {
        let message = format!("{} rules; a TCPRoute has exactly one", spec.rules.len());
        let remedy = "a connection has nothing to match on: list all backendRefs in one rule";
        context.report.error("spec.rules", message, remedy);
    }
    let mut rules = Vec::new();
    if let [rule] = spec.rules.as_slice() {
        let backends = Backend::check_all(&rule.backend_refs, "spec.rules[0].backendRefs", context);
        rules.extend(names.into_iter().map(|name| RouteRule { name, ..RouteRule::default() }));
        rules[0].backends = backends;
    }
    Route { name: context.route(), created, parents, hostnames: Vec::new(), rules }
}
