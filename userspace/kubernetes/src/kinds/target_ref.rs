//! `targetRefs`: what a policy is for.

use std::{fmt, sync::Arc};

use serde::Deserialize;
use weft_model::Selector;

use super::selector::LabelSelector;
use crate::{
    finding::Report,
    object::{Kind, Names},
    syntax,
};

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct TargetRef {
    group: Option<String>,
    kind: TargetKind,
    name: Option<String>,
    section_name: Option<String>,
    selector: Option<LabelSelector>,
}

#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
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
