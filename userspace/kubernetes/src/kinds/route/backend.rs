//! `backendRefs`: where a rule leads.

use std::sync::Arc;

use serde::Deserialize;
use weft_model::{ObjectName, PathMatch, RouteMatch};

use super::{Context, FilterSpec, Place, check, filters};
use crate::{
    object::{BackendRef, Kind, Target},
    syntax,
};

/// A backendRef of a TCPRoute or a TLSRoute.
#[derive(Debug, Deserialize)]
pub(in crate::kinds) struct Backend {
    group: Option<String>,
    kind: Option<String>,
    namespace: Option<String>,
    name: String,
    port: Option<i64>,
    weight: Option<i64>,
}

/// A backendRef of an HTTPRoute or a GRPCRoute.
#[derive(Debug, Deserialize)]
pub(in crate::kinds) struct FilteredBackend {
    group: Option<String>,
    kind: Option<String>,
    namespace: Option<String>,
    name: String,
    port: Option<i64>,
    weight: Option<i64>,
    #[serde(default)]
    filters: Vec<FilterSpec>,
}

/// A backendRef that is no share of anything.
#[derive(Debug, Deserialize)]
pub(super) struct Reference {
    group: Option<String>,
    kind: Option<String>,
    namespace: Option<String>,
    name: String,
    port: Option<i64>,
}

const MAX_BACKENDS: usize = 16;
const MAX_WEIGHT: i64 = 1_000_000;

impl Backend {
    /// The backends of a rule that has nothing else.
    pub(in crate::kinds) fn check_all(
        backends: &[Self],
        field: &str,
        context: &mut Context<'_, '_>,
    ) -> Vec<BackendRef> {
        if !(1..=MAX_BACKENDS).contains(&backends.len()) {
            let message = format!("{} backends; a rule has 1 to {MAX_BACKENDS}", backends.len());
            context.report.error(field, message, "name 1 to 16 Services");
        }
        let check = |(i, backend): (usize, &Self)| {
            backend.reference().check(&format!("{field}[{i}]"), backend.weight, context)
        };
        backends.iter().enumerate().filter_map(check).collect()
    }

    fn reference(&self) -> Named<'_> {
        Named {
            group: self.group.as_deref(),
            kind: self.kind.as_deref(),
            namespace: self.namespace.as_deref(),
            name: &self.name,
            port: self.port,
        }
    }
}

impl FilteredBackend {
    /// The backends of a rule with these `matches`.
    pub(in crate::kinds) fn check_all(
        backends: &[Self],
        field: &str,
        matches: &[RouteMatch],
        context: &mut Context<'_, '_>,
    ) -> Vec<BackendRef> {
        check::at_most(backends.len(), MAX_BACKENDS, "backends", field, context.report);
        let mut checked = Vec::new();
        for (i, backend) in backends.iter().enumerate() {
            let field = format!("{field}[{i}]");
            let named = Named {
                group: backend.group.as_deref(),
                kind: backend.kind.as_deref(),
                namespace: backend.namespace.as_deref(),
                name: &backend.name,
                port: backend.port,
            };
            let reference = named.check(&field, backend.weight, context);
            let place = Place::Backend { prefix: only_prefix(matches) };
            let filters = filters(&backend.filters, &format!("{field}.filters"), &place, context);
            checked.extend(reference.map(|reference| BackendRef { filters, ..reference }));
        }
        checked
    }
}

impl Reference {
    pub(super) fn check(&self, field: &str, context: &mut Context<'_, '_>) -> Option<BackendRef> {
        let named = Named {
            group: self.group.as_deref(),
            kind: self.kind.as_deref(),
            namespace: self.namespace.as_deref(),
            name: &self.name,
            port: self.port,
        };
        named.check(field, None, context)
    }
}

/// What every kind of backendRef says.
struct Named<'r> {
    group: Option<&'r str>,
    kind: Option<&'r str>,
    namespace: Option<&'r str>,
    name: &'r str,
    port: Option<i64>,
}

impl Named<'_> {
    fn check(&self, field: &str, weight: Option<i64>, context: &mut Context<'_, '_>) -> Option<BackendRef> {
        let Context { key, names, report } = context;
        check::range(weight, &(0..=MAX_WEIGHT), &format!("{field}.weight"), report);
        let weight = u32::try_from(weight.unwrap_or(1)).unwrap_or_default();
        let (group, kind) = (self.group.unwrap_or(""), self.kind.unwrap_or("Service"));
        if (group, kind) != ("", "Service") {
            // What answers with an error must be a request: a TCPRoute has none.
            if key.kind == Kind::TcpRoute {
                let message = format!("a {kind} of group \"{group}\" is no backend");
                report.error(field, message, "write kind: Service, with group \"\" or none");
            }
            let to = Target::Other { kind: names.share(&format!("{kind} of group \"{group}\"")) };
            return Some(BackendRef { field: field.to_owned(), to, weight, filters: Vec::new() });
        }
        let Some(port) = self.port else {
            let remedy = "add port: <the Service's port>";
            report.error(&format!("{field}.port"), "a Service as backend needs a port", remedy);
            return None;
        };
        let port = check::port(port, &format!("{field}.port"), report)?;
        let namespace = match self.namespace.filter(|other| **other != *key.name.namespace) {
            Some(other) => {
                if let Err(why) = syntax::dns_label(other) {
                    let message = format!("\"{other}\" {why}");
                    report.error(&format!("{field}.namespace"), message, "correct the namespace");
                }
                names.share(other)
            }
            None => Arc::clone(&key.name.namespace),
        };
        let to = Target::Service { name: ObjectName::new(namespace, names.share(self.name)), port };
        Some(BackendRef { field: field.to_owned(), to, weight, filters: Vec::new() })
    }
}

/// The prefix of a rule that has exactly one match, and in it a `PathPrefix`.
pub(in crate::kinds) fn only_prefix(matches: &[RouteMatch]) -> Option<Arc<str>> {
    match matches {
        [] => Some("".into()),
        [RouteMatch { path: PathMatch::Prefix(prefix), .. }] => Some(Arc::clone(prefix)),
        _ => None,
    }
}
