//! ReferenceGrant (Gateway API): read and checked, and without effect in the mesh.

use serde::Deserialize;

use super::check;
use crate::finding::Report;

#[derive(Debug, Deserialize)]
pub(super) struct Spec {
    #[serde(default)]
    from: Vec<From>,
    #[serde(default)]
    to: Vec<To>,
}

#[derive(Debug, Deserialize)]
struct From {
    #[serde(rename = "group")]
    _group: String,
    #[serde(rename = "kind")]
    _kind: String,
    #[serde(rename = "namespace")]
    _namespace: String,
}

#[derive(Debug, Deserialize)]
struct To {
    #[serde(rename = "group")]
    _group: String,
    #[serde(rename = "kind")]
    _kind: String,
    #[serde(rename = "name")]
    _name: Option<String>,
}

const MAX_ENTRIES: usize = 16;

pub(super) fn check(spec: &Spec, report: &mut Report<'_>) {
    for (list, field, what) in
        [(spec.from.len(), "spec.from", "sources"), (spec.to.len(), "spec.to", "targets")]
    {
        check::at_most(list, MAX_ENTRIES, what, field, report);
        if list == 0 {
            report.error(
                field,
                format!("a grant without {what} grants nothing"),
                "add an entry, or remove the grant",
            );
        }
    }
    let remedy = "nothing to do: a backendRef to another namespace needs no grant in the mesh";
    report.warning("kind", "ReferenceGrant is ignored", remedy);
}
