//! An agent's word that a pod has joined the mesh: an annotation, so that all who watch the pod hear of it together with the
//! pod.

use k8s_openapi::api::core::v1::{Namespace, Pod};
use kube::{
    Api,
    api::{Patch, PatchParams},
};
use serde_json::json;
use weft_model::ObjectName;

use super::{AskError, Cluster, answered};
use crate::core::{JOINED, NO_INSTALLATION};

impl Cluster {
    /// By which word agents of this installation say that a pod has joined: the UID of the mesh's own namespace. So what those
    /// of an installation that was removed have said counts for nothing.
    pub async fn installation(&self, system: &str) -> Result<String, AskError> {
        let namespaces: Api<Namespace> = Api::all(self.client());
        let found = answered("get", format!("Namespace {system}"), namespaces.get_opt(system)).await?;
        let uid = found.and_then(|namespace| namespace.metadata.uid);
        Ok(uid.unwrap_or_else(|| NO_INSTALLATION.to_owned()))
    }

    /// Says of `pod` that it has joined, by the word of [`Cluster::installation`], or without one that it has not. A pod that
    /// is gone is nobody's concern.
    pub async fn say_joined(&self, pod: &ObjectName, word: Option<&str>) -> Result<(), AskError> {
        let pods: Api<Pod> = Api::namespaced(self.client(), &pod.namespace);
        let patch = json!({"metadata": {"annotations": {JOINED: word}}});
        let params = PatchParams::default();
        let said = answered("patch", format!("status of Pod {pod}"), async {
            match pods.patch_status(&pod.name, &params, &Patch::Merge(patch)).await {
                Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
                said => said.map(drop),
            }
        });
        said.await
    }
}
