//! `parentRefs`: the Services that a route is for.

use std::sync::Arc;

use serde::Deserialize;
use weft_model::ObjectName;

use super::{Context, check};
use crate::{
    object::{Kind, ParentRef},
    syntax,
};

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::kinds) struct Parent {
    group: Option<String>,
    kind: Option<String>,
    namespace: Option<String>,
    name: String,
    section_name: Option<String>,
    port: Option<i64>,
}

const GATEWAY_GROUP: &str = "gateway.networking.k8s.io";
const MAX_PARENTS: usize = 32;
const FIELD: &str = "spec.parentRefs";

/// The Services among `parents`, each with another port or section.
pub(in crate::kinds) fn check(parents: &[Parent], context: &mut Context<'_, '_>) -> Vec<ParentRef> {
    check::at_most(parents.len(), MAX_PARENTS, "parents", FIELD, context.report);
    let mut checked: Vec<ParentRef> = Vec::new();
    for (i, parent) in parents.iter().enumerate() {
        let Some(parent) = parent.check(format!("{FIELD}[{i}]"), context) else { continue };
        let same = |other: &ParentRef| {
            (&other.service, other.port, &other.section) == (&parent.service, parent.port, &parent.section)
        };
        if checked.iter().any(same) {
            let remedy = "remove one, or let them differ in port or sectionName";
            context.report.error(&parent.field, "the same parent twice", remedy);
        }
        checked.push(parent);
    }
    checked
}

impl Parent {
    /// `None` for a parent that is no business of the mesh, or wrong.
    fn check(&self, field: String, context: &mut Context<'_, '_>) -> Option<ParentRef> {
        let Context { key, names, report } = context;
        let group = self.group.as_deref().unwrap_or(GATEWAY_GROUP);
        match (group, self.kind.as_deref().unwrap_or("Gateway")) {
            ("", "Service") => {}
            (_, "Service") => {
                let message = format!("a Service is not of group \"{group}\"");
                let remedy = "write group: \"\", which is not the default";
                report.error(&format!("{field}.group"), message, remedy);
                return None;
            }
            (_, kind) => {
                let message = format!("a {kind} is no parent in the mesh");
                let remedy = "write group: \"\", kind: Service to route a Service's connections";
                report.warning(&field, message, remedy);
                return None;
            }
        }
        let own = &key.name.namespace;
        let namespace = match self.namespace.as_deref().filter(|namespace| *namespace != &**own) {
            Some(namespace) if key.kind == Kind::TcpRoute => {
                let message =
                    "a route for a Service of another namespace (a consumer route) is not enforced for TCP";
                report.warning(&field, message, format!("put the route into namespace {namespace}"));
                return None;
            }
            Some(namespace) => {
                if let Err(why) = syntax::dns_label(namespace) {
                    let message = format!("\"{namespace}\" {why}");
                    report.error(&format!("{field}.namespace"), message, "correct the namespace");
                }
                names.share(namespace)
            }
            None => Arc::clone(own),
        };
        let port = self.port.map(|port| check::port(port, &format!("{field}.port"), report));
        Some(ParentRef {
            service: ObjectName::new(namespace, names.share(&self.name)),
            port: port.flatten(),
            section: self.section_name.as_deref().map(|section| names.share(section)),
            field,
        })
    }
}
