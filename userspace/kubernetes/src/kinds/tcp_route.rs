//! TCPRoute (Gateway API), with Services as parents.

use std::sync::Arc;

use serde::Deserialize;
use weft_model::ObjectName;

use super::check;
use crate::{
    finding::Report,
    object::{BackendRef, Created, Key, Names, ParentRef, TcpRoute},
};

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Spec {
    #[serde(default)]
    parent_refs: Vec<Parent>,
    #[serde(default)]
    rules: Vec<Rule>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Parent {
    group: Option<String>,
    kind: Option<String>,
    namespace: Option<String>,
    name: String,
    section_name: Option<String>,
    port: Option<i64>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Rule {
    #[serde(default, rename = "name")]
    _name: Option<String>,
    #[serde(default)]
    backend_refs: Vec<Backend>,
}

#[derive(Debug, Deserialize)]
struct Backend {
    group: Option<String>,
    kind: Option<String>,
    namespace: Option<String>,
    name: String,
    port: Option<i64>,
    weight: Option<i64>,
}

const GATEWAY_GROUP: &str = "gateway.networking.k8s.io";
const MAX_BACKENDS: usize = 16;
const MAX_WEIGHT: i64 = 1_000_000;

pub(super) fn check(
    spec: &Spec,
    key: &Key,
    created: Created,
    names: &mut Names,
    report: &mut Report<'_>,
) -> TcpRoute {
    let mut parents: Vec<ParentRef> = Vec::new();
    for (i, parent) in spec.parent_refs.iter().enumerate() {
        let Some(parent) = parent.check(format!("spec.parentRefs[{i}]"), key, names, report) else {
            continue;
        };
        let same = |other: &ParentRef| {
            (&other.service, other.port, &other.section) == (&parent.service, parent.port, &parent.section)
        };
        if parents.iter().any(same) {
            let remedy = "remove one, or let them differ in port or sectionName";
            report.error(&parent.field, "the same parent twice", remedy);
        }
        parents.push(parent);
    }
    if spec.rules.len() != 1 {
        let message = format!("{} rules; a TCPRoute has exactly one", spec.rules.len());
        report.error(
            "spec.rules",
            message,
            "a connection has nothing to match on: list all backendRefs in one rule",
        );
    }
    let backends = spec.rules.first().map(|rule| rule.backend_refs.as_slice()).unwrap_or_default();
    let field = "spec.rules[0].backendRefs";
    if spec.rules.len() == 1 && !(1..=MAX_BACKENDS).contains(&backends.len()) {
        let message = format!("{} backends; a rule has 1 to {MAX_BACKENDS}", backends.len());
        report.error(field, message, "name 1 to 16 Services");
    }
    let backends = backends.iter().enumerate();
    let backends = backends
        .filter_map(|(i, backend)| backend.check(format!("{field}[{i}]"), key, names, report))
        .collect();
    TcpRoute { name: key.name.clone(), created, parents, backends }
}

impl Parent {
    /// `None` for a parent that is no business of the mesh, or wrong.
    fn check(
        &self,
        field: String,
        key: &Key,
        names: &mut Names,
        report: &mut Report<'_>,
    ) -> Option<ParentRef> {
        let group = self.group.as_deref().unwrap_or(GATEWAY_GROUP);
        match (group, self.kind.as_deref().unwrap_or("Gateway")) {
            ("", "Service") => {}
            (_, "Service") => {
                let message = format!("a Service is not of group \"{group}\"");
                report.error(
                    &format!("{field}.group"),
                    message,
                    "write group: \"\", which is not the default",
                );
                return None;
            }
            (_, kind) => {
                let message = format!("a {kind} is no parent in the mesh");
                report.warning(
                    &field,
                    message,
                    "write group: \"\", kind: Service to route a Service's connections",
                );
                return None;
            }
        }
        let namespace = self.namespace.as_deref().unwrap_or(&key.name.namespace);
        if *namespace != *key.name.namespace {
            let message =
                "a route for a Service of another namespace (a consumer route) is not enforced for TCP";
            report.warning(&field, message, format!("put the route into namespace {namespace}"));
            return None;
        }
        let port = self.port.map(|port| check::port(port, &format!("{field}.port"), report));
        Some(ParentRef {
            service: ObjectName::new(Arc::clone(&key.name.namespace), names.share(&self.name)),
            port: port.flatten(),
            section: self.section_name.clone(),
            field,
        })
    }
}

impl Backend {
    fn check(
        &self,
        field: String,
        key: &Key,
        names: &mut Names,
        report: &mut Report<'_>,
    ) -> Option<BackendRef> {
        let (group, kind) = (self.group.as_deref().unwrap_or(""), self.kind.as_deref().unwrap_or("Service"));
        if (group, kind) != ("", "Service") {
            let message = format!("a {kind} of group \"{group}\" is no backend");
            report.error(&field, message, "write kind: Service, with group \"\" or none");
        }
        check::range(self.weight, &(0..=MAX_WEIGHT), &format!("{field}.weight"), report);
        let Some(port) = self.port else {
            report.error(
                &format!("{field}.port"),
                "a Service as backend needs a port",
                "add port: <the Service's port>",
            );
            return None;
        };
        let port = check::port(port, &format!("{field}.port"), report)?;
        let namespace = match self.namespace.as_deref().filter(|other| **other != *key.name.namespace) {
            Some(other) => names.share(other),
            None => Arc::clone(&key.name.namespace),
        };
        Some(BackendRef {
            service: ObjectName::new(namespace, names.share(&self.name)),
            port,
            weight: u32::try_from(self.weight.unwrap_or(1)).unwrap_or_default(),
            field,
        })
    }
}
