//! What the kinds of routes have in common (Gateway API v1).

mod backend;
mod cors;
mod filter;
mod handling;
mod headers;
mod matching;
mod parent;
mod rewrite;

use std::sync::Arc;

use weft_model::RouteName;

pub(super) use self::{
    backend::{Backend, FilteredBackend, only_prefix},
    filter::{FilterSpec, Place, check as filters},
    handling::{Retry, SessionSpec, Timeouts},
    matching::{HeaderMatch, HttpMatch, headers, paths_total},
    parent::{Parent, check as parents},
};
use super::check;
use crate::{
    finding::Report,
    object::{Key, Names},
    syntax,
};

const MAX_RULES: usize = 16;
const MAX_HOSTNAMES: usize = 16;

/// A route while it is checked.
pub(super) struct Context<'c, 'n> {
    pub(super) key: &'c Key,
    pub(super) names: &'c mut Names,
    pub(super) report: &'c mut Report<'n>,
}

impl Context<'_, '_> {
    /// The route's own name.
    pub(super) fn route(&self) -> RouteName {
        self.key.route().expect("only routes are checked here")
    }
}

/// The names of rules, which policies may point at: each once.
pub(super) fn rule_names<'r>(
    rules: impl Iterator<Item = Option<&'r String>>,
    context: &mut Context<'_, '_>,
) -> Vec<Option<Arc<str>>> {
    let mut names: Vec<Option<Arc<str>>> = Vec::new();
    for (i, name) in rules.enumerate() {
        let field = format!("spec.rules[{i}].name");
        let name = name.map(|name| context.names.share(name));
        if let Some(name) = &name {
            if let Err(why) = syntax::dns_subdomain(name) {
                context.report.error(&field, format!("\"{name}\" {why}"), "rename the rule");
            }
            if names.contains(&Some(Arc::clone(name))) {
                let message = format!("two rules have the name \"{name}\"");
                context.report.error(&field, message, "give each rule a name of its own, or none");
            }
        }
        names.push(name);
    }
    check::at_most(names.len(), MAX_RULES, "rules", "spec.rules", context.report);
    names
}

/// `hostnames` of an HTTPRoute or a GRPCRoute: in the mesh the Service's address decides.
pub(super) fn hostnames(hostnames: &[String], report: &mut Report<'_>) {
    check::at_most(hostnames.len(), MAX_HOSTNAMES, "hostnames", "spec.hostnames", report);
    for (i, name) in hostnames.iter().enumerate() {
        check::hostname(name, true, &format!("spec.hostnames[{i}]"), report);
    }
    if !hostnames.is_empty() {
        let message = "hostnames are not looked at: in the mesh the Service's address decides";
        report.warning("spec.hostnames", message, "match on the header host instead, or remove them");
    }
}
