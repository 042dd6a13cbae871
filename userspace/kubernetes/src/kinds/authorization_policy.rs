//! AuthorizationPolicy: who may reach what.

mod request;

use std::sync::Arc;

use schemars::JsonSchema;
use serde::Deserialize;
use weft_model::{
    Action, Mode, ObjectName, PolicyTarget, PortRange, RouteKind, RouteName, Rule, ServiceAccount, Source,
    SpiffeId,
};

use self::request::{HttpAttributes, Jwt};
use super::{
    check, schema,
    target_ref::{self, TargetKind, TargetRef, Targets},
};
use crate::{
    finding::Report,
    object::{AuthorizationPolicy, Key, Kind, Names},
    syntax,
};

/// Who may reach what. Without a policy that allows, everybody may; with one, nobody but those that it allows; whoever
/// a policy denies may not in any case.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("required" = ["targetRefs"], "x-kubernetes-validations" = [
    schema::rule_at(
        ".rules",
        "!has(self.action) || self.action != 'DENY' || (has(self.rules) && self.rules.size() > 0)",
        "a DENY policy without rules denies nothing: add rules; to deny everything write an ALLOW policy without rules",
    ),
    schema::rule_at(
        ".rules",
        "self.targetRefs.all(target, target.kind in ['Pod', 'Service']) || !has(self.rules) \
         || self.rules.all(r, !has(r.networkAttributes) \
         || (!has(r.networkAttributes.ports) && !has(r.networkAttributes.portRanges)))",
        "ports are pods', and a route is judged before it leads to one: remove networkAttributes, \
         or target kind: Service",
    ),
]))]
pub(super) struct Spec {
    /// What the policy protects: the pods that a selector matches, the pods behind Services, or requests that take a
    /// route or one of its rules. Policies never merge: all that are for a target are asked.
    #[serde(default)]
    #[schemars(length(min = 1, max = 16), extend(
        "x-kubernetes-list-type" = "atomic",
        "x-kubernetes-validations" = schema::targets(&["Pod", "Service", "HTTPRoute", "GRPCRoute"]),
    ))]
    target_refs: Vec<TargetRef>,
    /// What happens to those whom a rule matches. DENY goes before ALLOW.
    #[schemars(extend("default" = "ALLOW"))]
    action: Option<ActionWord>,
    /// Audit is a dry run: verdicts are logged and counted, and nobody is refused.
    #[schemars(extend("default" = "Enforce"))]
    mode: Option<ModeWord>,
    /// One of them has to match. An ALLOW policy without rules allows nobody.
    #[serde(default)]
    #[schemars(length(max = 32), extend("x-kubernetes-list-type" = "atomic"))]
    rules: Vec<RuleSpec>,
}

#[derive(Clone, Copy, Debug, Deserialize, JsonSchema, PartialEq, Eq)]
enum ActionWord {
    #[serde(rename = "ALLOW")]
    Allow,
    #[serde(rename = "DENY")]
    Deny,
}

#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
enum ModeWord {
    Enforce,
    Audit,
}

/// All that a rule names has to match.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [schema::rule(
    "has(self.sources) || has(self.jwt) \
     || (has(self.networkAttributes) && (has(self.networkAttributes.ports) || has(self.networkAttributes.portRanges))) \
     || (has(self.httpAttributes) && (self.httpAttributes.?methods.orValue([]).size() > 0 \
     || self.httpAttributes.?paths.orValue([]).size() > 0 || self.httpAttributes.?hosts.orValue([]).size() > 0 \
     || self.httpAttributes.?headers.orValue([]).size() > 0))",
    "the rule names nothing, which would match everyone: to mean everyone write sources: \
     [{type: CIDR, cidr: 0.0.0.0/0}, {type: CIDR, cidr: \"::/0\"}], or leave the policy out",
)]))]
struct RuleSpec {
    /// Who asks; one of them has to be it. Absent, or null: anybody, with or without an identity. An empty list is
    /// nobody.
    #[schemars(length(max = 64), extend("x-kubernetes-list-type" = "atomic"))]
    sources: Option<Vec<SourceSpec>>,
    /// Ports that are asked for.
    network_attributes: Option<NetworkAttributes>,
    /// What the request is like. Where there is no HTTP, a rule of ALLOW with it does not match, and one of DENY
    /// matches without it.
    http_attributes: Option<HttpAttributes>,
    /// What the request's token says.
    jwt: Option<Jwt>,
}

/// Who asks: of the fields beside type the one that it names.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [
    schema::member("ServiceAccount", "serviceAccount"),
    schema::member("SPIFFE", "spiffe"),
    schema::member("CIDR", "cidr"),
]))]
struct SourceSpec {
    /// What the source is named by.
    r#type: SourceType,
    /// A ServiceAccount of this mesh, proven by a certificate or the kernel.
    service_account: Option<ServiceAccountRef>,
    /// A SPIFFE ID, proven by a certificate, like `spiffe://cluster.local/ns/shop/sa/web`.
    #[schemars(with = "Option<schema::SpiffeId>")]
    spiffe: Option<String>,
    /// A block of addresses without host bits, like 10.8.0.0/16.
    #[schemars(with = "Option<schema::Cidr>")]
    cidr: Option<String>,
}

#[derive(Clone, Copy, Debug, Deserialize, JsonSchema, PartialEq, Eq)]
enum SourceType {
    ServiceAccount,
    #[serde(rename = "SPIFFE")]
    Spiffe,
    #[serde(rename = "CIDR")]
    Cidr,
}

#[derive(Debug, Deserialize, JsonSchema)]
struct ServiceAccountRef {
    /// Its namespace.
    #[schemars(with = "schema::ServiceName")]
    namespace: String,
    /// Its name, or "*" for all of the namespace.
    #[schemars(with = "schema::AccountName")]
    name: String,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [schema::rule(
    "(!has(self.ports) && !has(self.portRanges)) || (has(self.ports) ? self.ports.size() : 0) \
     + (has(self.portRanges) ? self.portRanges.size() : 0) > 0",
    "no port is named, so nothing could match: name ports, or remove networkAttributes",
)]))]
struct NetworkAttributes {
    /// Ports of the pod, whatever the Service's are.
    #[schemars(length(max = 64), inner(range(min = 1, max = 65535)), extend("x-kubernetes-list-type" = "atomic"))]
    ports: Option<Vec<i64>>,
    /// Ranges of such ports.
    #[schemars(length(max = 64), extend("x-kubernetes-list-type" = "atomic"))]
    port_ranges: Option<Vec<PortRangeSpec>>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[schemars(extend("x-kubernetes-validations" = [schema::rule_at(
    ".end",
    "self.start <= self.end",
    "the range ends before it starts: write start <= end",
)]))]
struct PortRangeSpec {
    /// The first port.
    #[schemars(range(min = 1, max = 65535))]
    start: i64,
    /// The last port.
    #[schemars(range(min = 1, max = 65535))]
    end: i64,
}

pub(super) fn check(
    spec: &Spec,
    key: &Key,
    names: &mut Names,
    report: &mut Report<'_>,
) -> Option<AuthorizationPolicy> {
    let allowed = [TargetKind::Pod, TargetKind::Service, TargetKind::HttpRoute, TargetKind::GrpcRoute];
    let targets = target_ref::check(&spec.target_refs, &allowed, names, report);
    let action = spec.action.unwrap_or(ActionWord::Allow);
    if action == ActionWord::Deny && spec.rules.is_empty() {
        let remedy = "add rules; to deny everything write an ALLOW policy without rules";
        report.error("spec.rules", "a DENY policy without rules denies nothing", remedy);
    }
    let targets = targets?;
    let by_route = matches!(targets, Targets::Routes(_));
    let rules = spec.rules.iter().enumerate();
    let rules =
        rules.map(|(i, rule)| rule.check(&format!("spec.rules[{i}]"), by_route, names, report)).collect();
    let target = match targets {
        Targets::Pods(selector) => PolicyTarget::Pods(selector),
        Targets::Services(services) => PolicyTarget::Services(services),
        Targets::Routes(routes) => {
            let message =
                "holds for requests that take the route; what goes to pods' own addresses takes none";
            let remedy = "target kind: Service or kind: Pod where that matters";
            report.warning("spec.targetRefs", message, remedy);
            let routes = routes.into_iter().map(|route| RouteName {
                kind: if route.kind == Kind::GrpcRoute { RouteKind::Grpc } else { RouteKind::Http },
                name: ObjectName::new(Arc::clone(&key.name.namespace), route.name),
            });
            PolicyTarget::Routes(routes.collect())
        }
    };
    Some(AuthorizationPolicy {
        name: key.name.clone(),
        action: if action == ActionWord::Allow { Action::Allow } else { Action::Deny },
        mode: if matches!(spec.mode, Some(ModeWord::Audit)) { Mode::Audit } else { Mode::Enforce },
        target,
        rules,
    })
}

impl RuleSpec {
    fn check(&self, field: &str, by_route: bool, names: &mut Names, report: &mut Report<'_>) -> Rule {
        if self.names_nothing() {
            let message = "the rule names nothing, which would match everyone";
            let remedy = "to mean everyone write sources: [{type: CIDR, cidr: 0.0.0.0/0}, {type: CIDR, cidr: \"::/0\"}], \
                          or leave the policy out";
            report.error(field, message, remedy);
        }
        let sources = self.sources.as_ref().map(|sources| {
            let sources = sources.iter().enumerate();
            sources
                .filter_map(|(i, source)| source.check(&format!("{field}.sources[{i}]"), names, report))
                .collect()
        });
        let network = self.network_attributes.as_ref();
        let network = network.filter(|network| network.ports.is_some() || network.port_ranges.is_some());
        let ports = network.map(|network| network.check(&format!("{field}.networkAttributes"), report));
        if ports.is_some() && by_route {
            let message = "ports are pods', and a route is judged before it leads to one";
            let remedy = "remove networkAttributes, or target kind: Service";
            report.error(&format!("{field}.networkAttributes"), message, remedy);
        }
        let http = self.http_attributes.as_ref().filter(|http| !http.is_empty());
        let http = http.map(|http| http.check(&format!("{field}.httpAttributes"), names, report));
        let token = self.jwt.as_ref().map(|jwt| jwt.check(&format!("{field}.jwt"), names, report));
        Rule { sources, ports, l7: http.is_some() || token.is_some(), http, token }
    }

    fn names_nothing(&self) -> bool {
        let network =
            self.network_attributes.as_ref().is_some_and(|n| n.ports.is_some() || n.port_ranges.is_some());
        let http = self.http_attributes.as_ref().is_some_and(|http| !http.is_empty());
        self.sources.is_none() && !network && !http && self.jwt.is_none()
    }
}

impl SourceSpec {
    fn check(&self, field: &str, names: &mut Names, report: &mut Report<'_>) -> Option<Source> {
        let kind = match self.r#type {
            SourceType::ServiceAccount => "ServiceAccount",
            SourceType::Spiffe => "SPIFFE",
            SourceType::Cidr => "CIDR",
        };
        let is = |kind| self.r#type == kind;
        let account = format!("{field}.serviceAccount");
        check::member(self.service_account.is_some(), is(SourceType::ServiceAccount), &account, kind, report);
        check::member(
            self.spiffe.is_some(),
            is(SourceType::Spiffe),
            &format!("{field}.spiffe"),
            kind,
            report,
        );
        check::member(self.cidr.is_some(), is(SourceType::Cidr), &format!("{field}.cidr"), kind, report);
        match self.r#type {
            SourceType::ServiceAccount => self.service_account.as_ref()?.check(&account, names, report),
            SourceType::Spiffe => match SpiffeId::parse(self.spiffe.as_ref()?) {
                Ok(id) => Some(Source::Spiffe(id)),
                Err(why) => {
                    let remedy = "write it like spiffe://cluster.local/ns/shop/sa/web";
                    report.error(&format!("{field}.spiffe"), format!("no SPIFFE ID: {why}"), remedy);
                    None
                }
            },
            SourceType::Cidr => match syntax::cidr(self.cidr.as_ref()?) {
                Ok(block) => Some(Source::Cidr(block)),
                Err((message, remedy)) => {
                    report.error(&format!("{field}.cidr"), message, remedy);
                    None
                }
            },
        }
    }
}

impl ServiceAccountRef {
    fn check(&self, field: &str, names: &mut Names, report: &mut Report<'_>) -> Option<Source> {
        if let Err(why) = syntax::dns_label(&self.namespace) {
            let message = format!("\"{}\" {why}", self.namespace);
            report.error(&format!("{field}.namespace"), message, "name one namespace");
            return None;
        }
        let namespace = names.share(&self.namespace);
        if self.name == "*" {
            return Some(Source::Namespace(namespace));
        }
        if let Err(why) = syntax::dns_subdomain(&self.name) {
            let message = format!("\"{}\" {why}", self.name);
            report.error(
                &format!("{field}.name"),
                message,
                "name one ServiceAccount, or \"*\" for all of the namespace",
            );
            return None;
        }
        Some(Source::ServiceAccount(ServiceAccount::new(namespace, names.share(&self.name))))
    }
}

impl NetworkAttributes {
    fn check(&self, field: &str, report: &mut Report<'_>) -> Vec<PortRange> {
        let mut ranges = Vec::new();
        for (i, number) in self.ports.iter().flatten().enumerate() {
            ranges.extend(check::port(*number, &format!("{field}.ports[{i}]"), report).map(PortRange::from));
        }
        for (i, range) in self.port_ranges.iter().flatten().enumerate() {
            let field = format!("{field}.portRanges[{i}]");
            let start = check::port(range.start, &format!("{field}.start"), report);
            let end = check::port(range.end, &format!("{field}.end"), report);
            if range.start > range.end {
                let message = format!("the range ends at {} before it starts at {}", range.end, range.start);
                report.error(&field, message, format!("write start: {}, end: {}", range.end, range.start));
            }
            ranges.extend(start.zip(end).map(|(start, end)| PortRange { start, end }));
        }
        let named = self.ports.as_ref().map_or(0, Vec::len) + self.port_ranges.as_ref().map_or(0, Vec::len);
        if named == 0 && (self.ports.is_some() || self.port_ranges.is_some()) {
            report.error(
                field,
                "no port is named, so nothing could match",
                "name ports, or remove networkAttributes",
            );
        }
        ranges
    }
}
