//! What all objects share, and the two kinds that are little more than that.

use std::collections::BTreeMap;

use k8s_openapi::{api::core::v1 as api, apimachinery::pkg::apis::meta::v1::ObjectMeta};

use crate::{
    document::entry_path,
    finding::Report,
    object::{Created, Names, Namespace, Node},
    syntax,
};

/// The label by which a namespace or a pod joins the mesh.
pub(crate) const ENROLMENT: &str = "weft.dev/mesh";
const ZONE: &str = "topology.kubernetes.io/zone";

/// Checks labels, whose syntax an API server would have checked.
pub(crate) fn object_meta(metadata: &ObjectMeta, report: &mut Report<'_>) {
    for (key, value) in metadata.labels.iter().flatten() {
        let field = entry_path("metadata.labels", key);
        if let Err(why) = syntax::label_key(key) {
            report.error(&field, format!("\"{key}\" {why}"), "correct the label's key");
        } else if let Err(why) = syntax::label_value(value) {
            report.error(&field, format!("\"{value}\" {why}"), "correct the label's value");
        }
        if key == ENROLMENT && !["enabled", "disabled"].contains(&value.as_str()) {
            let message = format!("\"{value}\" neither enrols nor keeps out of the mesh");
            report.warning(&field, message, "write enabled or disabled");
        }
    }
}

pub(crate) fn namespace(object: &api::Namespace) -> Namespace {
    let mut labels = labels(&object.metadata);
    // The API server sets this one; selectors count on it.
    let name = object.metadata.name.clone().unwrap_or_default();
    labels.entry("kubernetes.io/metadata.name".into()).or_insert(name);
    Namespace { uid: object.metadata.uid.as_deref().map(Into::into), labels }
}

pub(crate) fn node(object: &api::Node, names: &mut Names) -> Node {
    let zone = object.metadata.labels.as_ref().and_then(|labels| labels.get(ZONE));
    Node { zone: zone.filter(|zone| !zone.is_empty()).map(|zone| names.share(zone)) }
}

pub(crate) fn created(metadata: &ObjectMeta) -> Created {
    Created::new(metadata.creation_timestamp.as_ref().map(|at| at.0.as_nanosecond()))
}

pub(super) fn labels(metadata: &ObjectMeta) -> BTreeMap<String, String> {
    metadata.labels.clone().unwrap_or_default()
}
