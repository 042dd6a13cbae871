//! HTTPRoute (Gateway API), with Services as parents.

use serde::{Deserialize, de::IgnoredAny};
use weft_model::Filter as Ready;

use super::route::{
    self, Context, FilterSpec, FilteredBackend, HttpMatch, Parent, Place, Retry, SessionSpec, Timeouts,
};
use crate::object::{Created, Filter, Route, RouteRule};

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Spec {
    #[serde(default)]
    parent_refs: Vec<Parent>,
    #[serde(default, rename = "useDefaultGateways")]
    _use_default_gateways: IgnoredAny,
    #[serde(default)]
    hostnames: Vec<String>,
    rules: Option<Vec<RuleSpec>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct RuleSpec {
    name: Option<String>,
    #[serde(default)]
    matches: Vec<HttpMatch>,
    #[serde(default)]
    filters: Vec<FilterSpec>,
    #[serde(default)]
    backend_refs: Vec<FilteredBackend>,
    timeouts: Option<Timeouts>,
    retry: Option<Retry>,
    session_persistence: Option<SessionSpec>,
}

pub(super) fn check(spec: &Spec, created: Created, context: &mut Context<'_, '_>) -> Route {
    route::hostnames(&spec.hostnames, context.report);
    let parents = route::parents(&spec.parent_refs, context);
    let default = [RuleSpec::default()];
    let rules = spec.rules.as_deref().unwrap_or(&default);
    if rules.is_empty() {
        let remedy = "add a rule, or leave rules out to answer every request with 500";
        context.report.error("spec.rules", "an HTTPRoute has at least one rule", remedy);
    }
    let names = route::rule_names(rules.iter().map(|rule| rule.name.as_ref()), context);
    route::paths_total(rules.iter().map(|rule| rule.matches.len()), context.report);
    let rules = rules.iter().zip(names).enumerate();
    let rules =
        rules.map(|(i, (rule, name))| RouteRule { name, ..rule.check(&format!("spec.rules[{i}]"), context) });
    let rules = rules.collect();
    Route { name: context.route(), created, parents, hostnames: Vec::new(), rules }
}

impl RuleSpec {
    fn check(&self, field: &str, context: &mut Context<'_, '_>) -> RouteRule {
        let matches: Vec<_> = self.matches.iter().enumerate().collect();
        let matches: Vec<_> =
            matches.into_iter().map(|(i, m)| m.check(&format!("{field}.matches[{i}]"), context)).collect();
        let place =
            Place::Rule { prefix: route::only_prefix(&matches), has_backends: !self.backend_refs.is_empty() };
        let filters = route::filters(&self.filters, &format!("{field}.filters"), &place, context);
        let backends = format!("{field}.backendRefs");
        let backends = FilteredBackend::check_all(&self.backend_refs, &backends, &matches, context);
        let answers = filters
            .iter()
            .any(|filter| matches!(filter, Filter::Ready(Ready::Redirect(_)) | Filter::Unsupported(_)));
        if self.backend_refs.is_empty() && !answers {
            let message = "no backendRefs and no RequestRedirect: requests are answered with 500";
            context.report.warning(field, message, "add backendRefs; the Service itself may be one");
        }
        RouteRule {
            name: None,
            filters,
            backends,
            timeouts: self
                .timeouts
                .as_ref()
                .map(|timeouts| timeouts.check(&format!("{field}.timeouts"), context.report))
                .unwrap_or_default(),
            retry: self.retry.as_ref().map(|retry| retry.check(&format!("{field}.retry"), context.report)),
            session: self
                .session_persistence
                .as_ref()
                .map(|session| session.check(&format!("{field}.sessionPersistence"), context)),
            matches,
        }
    }
}
