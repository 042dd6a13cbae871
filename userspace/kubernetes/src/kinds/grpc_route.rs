//! GRPCRoute (Gateway API), with Services as parents.

use std::sync::Arc;

use serde::{Deserialize, de::IgnoredAny};
use weft_model::{NameMatch, PathMatch, RouteMatch};

use super::{
    check,
    route::{self, Context, FilterSpec, FilteredBackend, HeaderMatch, Parent, Place, SessionSpec},
};
use crate::{
    finding::Report,
    object::{Created, Filter, Route, RouteRule},
    syntax,
};

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
    matches: Vec<GrpcMatch>,
    #[serde(default)]
    filters: Vec<FilterSpec>,
    #[serde(default)]
    backend_refs: Vec<FilteredBackend>,
    session_persistence: Option<SessionSpec>,
}

#[derive(Debug, Deserialize)]
struct GrpcMatch {
    method: Option<MethodMatch>,
    #[serde(default)]
    headers: Vec<HeaderMatch>,
}

#[derive(Debug, Deserialize)]
struct MethodMatch {
    r#type: Option<MethodType>,
    service: Option<String>,
    method: Option<String>,
}

#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
enum MethodType {
    Exact,
    RegularExpression,
}

const MAX_NAME: usize = 1024;

pub(super) fn check(spec: &Spec, created: Created, context: &mut Context<'_, '_>) -> Route {
    route::hostnames(&spec.hostnames, context.report);
    let parents = route::parents(&spec.parent_refs, context);
    let names = route::rule_names(spec.rules.iter().map(|rule| rule.name.as_ref()), context);
    route::paths_total(spec.rules.iter().map(|rule| rule.matches.len()), context.report);
    let rules = spec.rules.iter().zip(names).enumerate();
    let rules =
        rules.map(|(i, (rule, name))| RouteRule { name, ..rule.check(&format!("spec.rules[{i}]"), context) });
    let rules = rules.collect();
    Route { name: context.route(), created, parents, hostnames: Vec::new(), rules }
}

impl RuleSpec {
    fn check(&self, field: &str, context: &mut Context<'_, '_>) -> RouteRule {
        let matches = self.matches.iter().enumerate();
        let matches: Vec<_> =
            matches.map(|(i, m)| m.check(&format!("{field}.matches[{i}]"), context)).collect();
        let place = Place::Rule { prefix: None, has_backends: !self.backend_refs.is_empty() };
        let filters = route::filters(&self.filters, &format!("{field}.filters"), &place, context);
        let backends = format!("{field}.backendRefs");
        let backends = FilteredBackend::check_all(&self.backend_refs, &backends, &matches, context);
        let answers = filters.iter().any(|filter| matches!(filter, Filter::Unsupported(_)));
        if self.backend_refs.is_empty() && !answers {
            let message = "no backendRefs: calls are answered with UNAVAILABLE";
            context.report.warning(field, message, "add backendRefs; the Service itself may be one");
        }
        let session = self.session_persistence.as_ref();
        RouteRule {
            filters,
            backends,
            session: session.map(|session| session.check(&format!("{field}.sessionPersistence"), context)),
            matches,
            ..RouteRule::default()
        }
    }
}

impl GrpcMatch {
    fn check(&self, field: &str, context: &mut Context<'_, '_>) -> RouteMatch {
        let any = PathMatch::Grpc { service: None, method: None };
        let method = self.method.as_ref();
        RouteMatch {
            path: method.map_or(any, |method| method.check(&format!("{field}.method"), context.report)),
            method: None,
            headers: route::headers(&self.headers, &format!("{field}.headers"), context),
            query: Vec::new(),
        }
    }
}

impl MethodMatch {
    fn check(&self, field: &str, report: &mut Report<'_>) -> PathMatch {
        if self.service.is_none() && self.method.is_none() {
            let remedy = "add service or method, or remove the match to take every call";
            report.error(field, "neither service nor method is there", remedy);
        }
        let regex = self.r#type == Some(MethodType::RegularExpression);
        let name = |name: Option<&String>, word: &str, is_name: fn(&str) -> bool, report: &mut Report<'_>| {
            let name = name?;
            let field = format!("{field}.{word}");
            if name.len() > MAX_NAME {
                let message = format!("{} characters; a name has at most {MAX_NAME}", name.len());
                report.error(&field, message, "write a shorter name");
            }
            if regex {
                check::regex(name, &field, report);
                return Some(NameMatch::Regex(Arc::from(name.as_str())));
            }
            if !is_name(name) {
                let remedy = "write letters, digits and _, not beginning with a digit";
                report.error(&field, format!("\"{name}\" is no name of a {word}"), remedy);
            }
            // A leading dot says "fully qualified"; calls do not carry it.
            Some(NameMatch::Exact(name.strip_prefix('.').unwrap_or(name).into()))
        };
        PathMatch::Grpc {
            service: name(self.service.as_ref(), "service", syntax::grpc_service, report),
            method: name(self.method.as_ref(), "method", syntax::grpc_method, report),
        }
    }
}
