//! TLSRoute (Gateway API), with Services as parents: passthrough by SNI.

use std::sync::Arc;

use serde::{Deserialize, de::IgnoredAny};

use super::{
    check,
    route::{self, Backend, Context, Parent},
};
use crate::object::{Created, Route, RouteRule};

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Spec {
    #[serde(default)]
    parent_refs: Vec<Parent>,
    #[serde(default, rename = "useDefaultGateways")]
    _use_default_gateways: IgnoredAny,
    #[serde(default)]
    hostnames: Vec<String>,
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

const MAX_HOSTNAMES: usize = 1024;

pub(super) fn check(spec: &Spec, created: Created, context: &mut Context<'_, '_>) -> Route {
    let parents = route::parents(&spec.parent_refs, context);
    if spec.hostnames.is_empty() {
        let remedy = "add hostnames: [server.example]; a TCPRoute takes connections without looking at SNI";
        context.report.error("spec.hostnames", "a TLSRoute has at least one hostname", remedy);
    }
    check::at_most(spec.hostnames.len(), MAX_HOSTNAMES, "hostnames", "spec.hostnames", context.report);
    for (i, name) in spec.hostnames.iter().enumerate() {
        check::hostname(name, true, &format!("spec.hostnames[{i}]"), context.report);
    }
    let names = route::rule_names(spec.rules.iter().map(|rule| rule.name.as_ref()), context);
    if spec.rules.len() != 1 {
        let message = format!("{} rules; a TLSRoute has exactly one", spec.rules.len());
        context.report.error("spec.rules", message, "list all backendRefs in one rule");
    }
    let rules = spec.rules.iter().take(1).zip(names).map(|(rule, name)| {
        let backends = Backend::check_all(&rule.backend_refs, "spec.rules[0].backendRefs", context);
        RouteRule { name, backends, ..RouteRule::default() }
    });
    let rules = rules.collect();
    let hostnames = spec.hostnames.iter().map(|name| Arc::from(name.as_str())).collect();
    Route { name: context.route(), created, parents, hostnames, rules }
}
