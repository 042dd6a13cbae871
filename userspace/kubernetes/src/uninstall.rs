//! What was installed is taken out of a cluster: agents first, which take the mesh out of their nodes.

use std::time::Duration;

use kube::{
    Api,
    api::{DeleteParams, DynamicObject},
    core::{ApiResource, GroupVersionKind},
};
use serde_json::Value;
use tokio::time::{Instant, sleep};

use crate::cluster::{AskError, Cluster, answered};

/// Why not all is gone.
#[derive(Debug, thiserror::Error)]
pub enum UninstallError {
    /// The API server refuses.
    #[error(transparent)]
    Ask(#[from] AskError),
    /// An object stays.
    #[error(
        "{what} is still there after {} s: look at its pods and finalizers; asking again goes on with the rest",
        time.as_secs()
    )]
    Stays {
        /// Which.
        what: String,
        /// How long it was waited for.
        time: Duration,
    },
}

/// What becomes of an object, as it happens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Uninstalled {
    /// It is being deleted.
    Deleting(String),
    /// It is gone.
    Gone(String),
}

/// Deletes `objects`, as they were made, in the opposite order and agents before everything else; each is waited for
/// where others need it. What is not there is no failure. `tell` hears of each.
///
/// Agents are deleted with the DaemonSet that they belong to, and this returns when their pods have ended, or fails after
/// `time`.
pub async fn uninstall(
    cluster: &Cluster,
    objects: &[Value],
    time: Duration,
    mut tell: impl FnMut(Uninstalled),
) -> Result<(), UninstallError> {
    let deadline = Instant::now() + time;
    for object in in_order(objects) {
        let (api, name, what) = of(cluster, object);
        // What belongs to it goes before it does.
        match answered("delete", &what, api.delete(&name, &DeleteParams::foreground())).await {
            Err(AskError::Missing { .. }) => continue,
            Err(error) => return Err(error.into()),
            Ok(_) => tell(Uninstalled::Deleting(what.clone())),
        }
        while answered("get", &what, api.get_metadata_opt(&name)).await?.is_some() {
            if Instant::now() > deadline {
                return Err(UninstallError::Stays { what, time });
            }
            sleep(LOOK).await;
        }
        tell(Uninstalled::Gone(what));
    }
    Ok(())
}

/// Agents first, while they have their rights; then the last that was made.
fn in_order(objects: &[Value]) -> Vec<&Value> {
    let (agents, others): (Vec<_>, Vec<_>) = objects.iter().partition(|object| object["kind"] == "DaemonSet");
    agents.into_iter().chain(others.into_iter().rev()).collect()
}

fn of(cluster: &Cluster, object: &Value) -> (Api<DynamicObject>, String, String) {
    let text = |path: &str| object.pointer(path).and_then(Value::as_str).unwrap_or_default();
    let (version, kind, name) = (text("/apiVersion"), text("/kind"), text("/metadata/name"));
    let (group, version) = version.split_once('/').unwrap_or(("", version));
    let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, kind));
    let (api, what) = match text("/metadata/namespace") {
        "" => (Api::all_with(cluster.client(), &resource), format!("{kind} {name}")),
        namespace => (
            Api::namespaced_with(cluster.client(), namespace, &resource),
            format!("{kind} {namespace}/{name}"),
        ),
    };
    (api, name.to_owned(), what)
}

/// Between two looks whether an object is gone.
const LOOK: Duration = Duration::from_millis(500);

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn agents_go_before_their_rights_and_the_namespace_last() {
        let made = ["Namespace", "ServiceAccount", "ClusterRole", "DaemonSet", "Deployment"];
        let objects = made.map(|kind| json!({"kind": kind}));
        let order: Vec<_> = in_order(&objects).iter().filter_map(|object| object["kind"].as_str()).collect();
        assert_eq!(order, ["DaemonSet", "Deployment", "ClusterRole", "ServiceAccount", "Namespace"]);
    }
}
