//! `targetRefs`: what a policy is for.

use std::{fmt, sync::Arc};

use schemars::JsonSchema;
use serde::Deserialize;
use weft_model::Selector;

use super::{schema, selector::LabelSelector};
use crate::{
    finding::Report,
    object::{Kind, Names},
    syntax,
};

/// What a policy is for, in the policy's own namespace.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [
    schema::rule_at(
        ".group",
        "self.?group.orValue('') == (self.kind in ['Pod', 'Service'] ? '' : 'gateway.networking.k8s.io')",
        "not the kind's group: write \"\" for a Pod or Service, gateway.networking.k8s.io for a route",
    ),
    schema::rule_at(
        ".selector",
        "(self.kind == 'Pod') == has(self.selector)",
        "pods are targeted by selector: {matchLabels: {...}}, or {} for all of the namespace; other kinds by name: \
         add selector, or remove it",
    ),
    schema::rule_at(
        ".name",
        "(self.kind != 'Pod') == has(self.name)",
        "Services and routes are targeted by name, pods by selector: add name, or remove it",
    ),
    schema::rule_at(
        ".sectionName",
        "!has(self.sectionName) || self.kind in ['HTTPRoute', 'GRPCRoute']",
        "only routes have sections that a policy could be for: remove sectionName",
    ),
]))]
pub(super) struct TargetRef {
    /// The kind's API group: "" for a Pod or Service, gateway.networking.k8s.io for a route.
    #[schemars(length(max = 253), extend("default" = ""))]
    group: Option<String>,
    /// The kind; the same in all targets of a policy.
    kind: TargetKind,
    /// The name of the Service or route.
    #[schemars(with = "Option<schema::Name>")]
    name: Option<String>,
    /// The name of one rule of the route; absent: all of them.
    #[schemars(length(min = 1, max = 253))]
    section_name: Option<String>,
    /// For kind Pod: the labels of the pods. An empty selector is every pod of the namespace; in weft's own namespace
    /// it is every pod of the mesh.
    selector: Option<LabelSelector>,
}

#[derive(Clone, Copy, Debug, Deserialize, JsonSchema, PartialEq, Eq)]
pub(super) enum TargetKind {
    Pod,
    Service,
    #[serde(rename = "HTTPRoute")]
    HttpRoute,
    #[serde(rename = "GRPCRoute")]
    GrpcRoute,
}

/// Valid targets, all of one kind.
#[derive(Debug)]
pub(super) enum Targets {
    Pods(Selector),
    Services(Vec<Arc<str>>),
    Routes(Vec<RouteTarget>),
}

/// A route, or one of its rules.
#[derive(Debug)]
pub(super) struct RouteTarget {
    pub(super) kind: Kind,
    pub(super) name: Arc<str>,
    /// The rule's name.
    pub(super) section: Option<Arc<str>>,
}

/// At most so many targets, as the CRDs have it.
const MAX_TARGETS: usize = 16;
const FIELD: &str = "spec.targetRefs";

/// Checks `refs`, whose kinds must be among `allowed`. `None` when there is nothing to go by.
pub(super) fn check(
    refs: &[TargetRef],
    allowed: &[TargetKind],
    names: &mut Names,
    report: &mut Report<'_>,
) -> Option<Targets> {
    let kind = match refs {
        [] => {
            report.error(FIELD, "a policy names what it is for", "add a target: {kind: Service, name: ...}");
            return None;
        }
        [first, ..] => first.kind,
    };
    if refs.len() > MAX_TARGETS {
        let message = format!("{} targets; a policy has at most {MAX_TARGETS}", refs.len());
        report.error(FIELD, message, "write a second policy");
    }
    for (i, target) in refs.iter().enumerate() {
        let field = format!("{FIELD}[{i}]");
        if !allowed.contains(&target.kind) {
            let words: Vec<_> = allowed.iter().map(ToString::to_string).collect();
            let message = format!("this policy cannot be for a {}", target.kind);
            report.error(&format!("{field}.kind"), message, format!("write one of {}", words.join(", ")));
        } else if target.kind != kind {
            let message = format!("a {} beside a {kind}; a policy is for one kind", target.kind);
            report.error(&format!("{field}.kind"), message, "write a policy for each kind");
        }
        target.check(&field, report);
        let same = |other: &&TargetRef| {
            (other.kind, &other.name, &other.section_name)
                == (target.kind, &target.name, &target.section_name)
        };
        if target.name.is_some() && refs[..i].iter().any(|other| same(&other)) {
            report.error(&field, "the same target twice", "remove one of the two");
        }
    }
    let by_name = refs.iter().filter_map(|target| Some((target, names.share(target.name.as_deref()?))));
    let by_name: Vec<_> = by_name.collect();
    let mut route = |kind, (target, name): (&TargetRef, Arc<str>)| RouteTarget {
        kind,
        name,
        section: target.section_name.as_deref().map(|section| names.share(section)),
    };
    Some(match kind {
        TargetKind::Pod => {
            if refs.len() > 1 {
                let message = "a policy for pods has one target";
                report.error(
                    &format!("{FIELD}[1]"),
                    message,
                    "use matchExpressions, or write a second policy",
                );
            }
            let selector = refs[0].selector.as_ref();
            Targets::Pods(
                selector.map(|s| s.check(&format!("{FIELD}[0].selector"), report)).unwrap_or_default(),
            )
        }
        TargetKind::Service => Targets::Services(by_name.into_iter().map(|(_, name)| name).collect()),
        TargetKind::HttpRoute => {
            Targets::Routes(by_name.into_iter().map(|target| route(Kind::HttpRoute, target)).collect())
        }
        TargetKind::GrpcRoute => {
            Targets::Routes(by_name.into_iter().map(|target| route(Kind::GrpcRoute, target)).collect())
        }
    })
}

impl TargetRef {
    fn check(&self, field: &str, report: &mut Report<'_>) {
        let group = self.kind.group();
        if let Some(written) = self.group.as_deref().filter(|written| *written != group) {
            let message = format!("a {} is not of group \"{written}\"", self.kind);
            report.error(&format!("{field}.group"), message, format!("write group: \"{group}\""));
        }
        if self.kind == TargetKind::Pod {
            if self.name.is_some() {
                let message = "pods are targeted by their labels, not by name";
                report.error(&format!("{field}.name"), message, "write selector: {matchLabels: {...}}");
            }
            if self.selector.is_none() {
                let remedy =
                    "add selector: {matchLabels: {...}}, or selector: {} for every pod of the namespace";
                report.error(&format!("{field}.selector"), "required, and not there", remedy);
            }
        } else {
            if self.selector.is_some() {
                let message = format!("a {} is targeted by its name", self.kind);
                report.error(&format!("{field}.selector"), message, "write name, or target kind: Pod");
            }
            match self.name.as_deref().map(|name| (name, syntax::dns_subdomain(name))) {
                None => report.error(&format!("{field}.name"), "required, and not there", "add name"),
                Some((name, Err(why))) => {
                    report.error(&format!("{field}.name"), format!("\"{name}\" {why}"), "correct the name");
                }
                Some(_) => {}
            }
        }
        let has_sections = matches!(self.kind, TargetKind::HttpRoute | TargetKind::GrpcRoute);
        if self.section_name.is_some() && !has_sections {
            let message = format!("a {} has no sections that a policy could be for", self.kind);
            report.error(&format!("{field}.sectionName"), message, "remove sectionName");
        }
    }
}

impl TargetKind {
    fn group(self) -> &'static str {
        match self {
            Self::Pod | Self::Service => "",
            Self::HttpRoute | Self::GrpcRoute => "gateway.networking.k8s.io",
        }
    }
}

impl fmt::Display for TargetKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Pod => "Pod",
            Self::Service => "Service",
            Self::HttpRoute => "HTTPRoute",
            Self::GrpcRoute => "GRPCRoute",
        })
    }
}
