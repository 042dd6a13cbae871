//! XMesh (Gateway API, experimental): that the cluster has a mesh, whose it is, and what it can.

use serde::{Deserialize, de::IgnoredAny};

use crate::{finding::Report, object::XMesh};

/// How weft is called where a field names a controller.
pub(crate) const CONTROLLER_NAME: &str = "weft.dev/controller";

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Spec {
    controller_name: String,
    #[serde(rename = "description")]
    _description: Option<IgnoredAny>,
    parameters_ref: Option<ParametersRef>,
}

#[derive(Debug, Deserialize)]
struct ParametersRef {
    group: String,
    kind: String,
    name: String,
    namespace: Option<String>,
}

/// A mesh of somebody else has nothing that could be wrong here.
pub(super) fn check(spec: &Spec, report: &mut Report<'_>) -> XMesh {
    let ours = spec.controller_name == CONTROLLER_NAME;
    let parameters = spec.parameters_ref.as_ref().filter(|_| ours);
    if let Some(parameters) = parameters {
        parameters.check(report);
    }
    XMesh { ours, has_parameters: parameters.is_some() }
}

impl ParametersRef {
    fn check(&self, report: &mut Report<'_>) {
        let remedy = "write group: weft.dev, kind: MeshConfig, name: default, or leave parametersRef out";
        if (&*self.group, &*self.kind) != ("weft.dev", "MeshConfig") {
            let message =
                format!("the mesh has no parameters of kind {} of group \"{}\"", self.kind, self.group);
            report.error("spec.parametersRef.kind", message, remedy);
        } else if self.name != "default" {
            let message = format!("there is one MeshConfig, named default, not {}", self.name);
            report.error("spec.parametersRef.name", message, remedy);
        }
        if self.namespace.is_some() {
            report.error(
                "spec.parametersRef.namespace",
                "a MeshConfig is in no namespace",
                "remove namespace",
            );
        }
    }
}
