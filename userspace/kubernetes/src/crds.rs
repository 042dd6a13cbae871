//! The `CustomResourceDefinition`s of weft's kinds, generated from the types that read them.
//!
//! ```text
//! kinds: Spec, doc comments, rules ──► schemars ──► structural ──┐
//!        names, columns, status ─────────────────────────────────┴──► deploy/crds
//! ```
//!
//! A schema has defaults only for what is never merged: a stored default looks like a value that the user set, and would
//! beat a less specific policy.

mod definition;
mod status;
mod structural;
#[cfg(test)]
mod tests;

use serde_json::{Value, json};

use self::definition::{DEFINITIONS, Definition};
use crate::kinds;

const GROUP: &str = "weft.dev";

/// All five, ready to be applied.
pub fn crds() -> Vec<Value> {
    DEFINITIONS.iter().map(crd).collect()
}

fn crd(definition: &Definition) -> Value {
    let kind = definition.kind.name();
    let plural = definition.plural;
    let mut metadata = json!({"name": format!("{plural}.{GROUP}")});
    if let Some(policy) = definition.policy {
        metadata["labels"] = json!({"gateway.networking.k8s.io/policy": policy});
    }
    let scope = if definition.kind.is_cluster_scoped() { "Cluster" } else { "Namespaced" };
    let columns = definition
        .columns
        .iter()
        .map(|column| json!({"name": column.name, "type": column.r#type, "jsonPath": column.path}));
    json!({
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": metadata,
        "spec": {
            "group": GROUP,
            "names": {
                "kind": kind,
                "listKind": format!("{kind}List"),
                "plural": plural,
                "singular": kind.to_lowercase(),
                "shortNames": [definition.short],
                "categories": ["gateway-api", "weft"],
            },
            "scope": scope,
            "versions": [{
                "name": "v1alpha1",
                "served": true,
                "storage": true,
                "subresources": {"status": {}},
                "additionalPrinterColumns": columns.collect::<Vec<_>>(),
                "schema": {"openAPIV3Schema": root(definition)},
            }],
        },
    })
}

fn root(definition: &Definition) -> Value {
    let spec = kinds::spec_schema(definition.kind).expect("every definition is of a kind with a schema");
    let spec = structural::structural(spec.to_value());
    let description = spec["description"].clone();
    let status = if definition.policy.is_some() { status::of_policy() } else { status::of_mesh() };
    let mut root = json!({
        "type": "object",
        "description": description,
        "required": ["spec"],
        "properties": {
            "apiVersion": {"type": "string", "description": "weft.dev/v1alpha1."},
            "kind": {"type": "string", "description": format!("{}.", definition.kind.name())},
            "metadata": {"type": "object"},
            "spec": spec,
            "status": status,
        },
    });
    root["properties"]["spec"]["description"] = "What is wanted.".into();
    if let Some((rule, message)) = definition.rule {
        root["x-kubernetes-validations"] = json!([{"rule": rule, "message": message}]);
    }
    root
}
