//! Whether a pod is in the mesh, for whoever has no agent to ask: what an API server says, and what an agent has kept.
//!
//! There is one meaning of it: the objects are read, and the workload is built of them, as an agent does.

use std::{
    collections::BTreeMap,
    fs, io,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    sync::Arc,
};

use kube::{
    Client,
    api::GetParams,
    core::{Request, Status},
};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use weft_model::{ObjectName, Snapshot};

use super::{Connection, resource::Resource, trim, trouble::Trouble};
use crate::{
    assembly::Assembly,
    decode::versions,
    object::{Key, Kind},
};

/// Why it is not known whether a pod is in the mesh.
#[derive(Debug, thiserror::Error)]
pub enum Unknown {
    /// The kubeconfig cannot be used.
    #[error(transparent)]
    Connection(#[from] crate::Error),
    /// The API server is away, or refuses.
    #[error("the API server does not say what {what} is: {message}")]
    NotSaid {
        /// The object.
        what: String,
        /// What it says instead.
        message: String,
    },
    /// The API server has no such pod, or another one of that name.
    #[error("the API server has no Pod {pod} with the UID {uid}")]
    NoSuchPod {
        /// Its name.
        pod: ObjectName,
        /// Its UID.
        uid: String,
    },
}

/// What the API server says of the pod now.
pub async fn ask_membership(connection: &Connection, pod: &ObjectName, uid: &str) -> Result<bool, Unknown> {
    let (client, _) = connection.client().await?;
    let mesh = versions(Kind::MeshConfig).first().copied().unwrap_or_default();
    let (pods, namespaces) = (Resource::core(Kind::Pod), Resource::core(Kind::Namespace));
    let meshes = Resource::optional(Kind::MeshConfig, mesh);
    let within = format!("{}/{}/pods", namespaces.path(), pod.namespace);
    let (all_namespaces, all_meshes) = (namespaces.path(), meshes.path());
    let (object, namespace, mesh) = tokio::join!(
        get(&client, &within, &pod.name, "the Pod"),
        get(&client, &all_namespaces, &pod.namespace, "the Namespace"),
        get(&client, &all_meshes, "default", "the MeshConfig"),
    );
    let no_such_pod = || Unknown::NoSuchPod { pod: pod.clone(), uid: uid.to_owned() };
    let object = object?.ok_or_else(no_such_pod)?;
    if trim::placed(&object).is_none_or(|placed| *placed.uid != *uid) {
        return Err(no_such_pod());
    }
    let mut assembly = Assembly::new("".into(), false);
    let objects = [
        (Kind::Pod, pods, Some(object)),
        (Kind::Namespace, namespaces, namespace?),
        (Kind::MeshConfig, meshes, mesh?),
    ];
    for (kind, resource, object) in objects {
        let Some(mut object) = object else { continue };
        trim::trim(&resource, &mut object);
        let Some(name) = trim::name(&object) else { continue };
        assembly.catalog.put_object(&Key { kind, name }.to_string().into(), &object);
    }
    let snapshot = assembly.snapshot();
    snapshot.workloads.get(pod).map(|workload| workload.enrolled).ok_or_else(no_such_pod)
}

async fn get(client: &Client, path: &str, name: &str, what: &str) -> Result<Option<Value>, Unknown> {
    let not_said = |message: String| Unknown::NotSaid { what: format!("{what} {name}"), message };
    let request = Request::new(path).get(name, &GetParams::default());
    let request = request.map_err(|error| not_said(error.to_string()))?;
    match client.request(request).await {
        Ok(object) => Ok(Some(object)),
        // A kind that is not there at all is 404, too.
        Err(kube::Error::Api(status)) if is_absent(&status) => Ok(None),
        Err(error) => Err(not_said(Trouble::of(&error).to_string())),
    }
}

fn is_absent(status: &Status) -> bool {
    status.code == 404
}

/// Who was in the mesh when an agent was last there, of the pods of its node.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Members {
    /// By UID.
    pods: BTreeMap<Arc<str>, Member>,
}

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Member {
    name: ObjectName,
    enrolled: bool,
}

impl Members {
    /// Those of `uids`.
    pub(super) fn of(snapshot: &Snapshot, uids: &BTreeMap<ObjectName, Arc<str>>) -> Self {
        let member = |(name, uid): (&ObjectName, &Arc<str>)| {
            let enrolled = snapshot.workloads.get(name)?.enrolled;
            Some((Arc::clone(uid), Member { name: name.clone(), enrolled }))
        };
        Self { pods: uids.iter().filter_map(member).collect() }
    }

    /// Puts them in the place of what `folder` has, in one step.
    pub(super) fn write(&self, folder: &Path) -> io::Result<()> {
        let draft = folder.join(".draft-members");
        let mut options = fs::OpenOptions::new();
        let mut to =
            io::BufWriter::new(options.write(true).create(true).truncate(true).mode(0o600).open(&draft)?);
        serde_json::to_writer(&mut to, self)?;
        to.into_inner()?.sync_data()?;
        fs::rename(&draft, members_file(folder))
    }
}

/// Where the agent that keeps what was in force last in `folder` keeps which of its node's pods are in the mesh.
pub fn members_file(folder: &Path) -> PathBuf {
    folder.join("members.json")
}

/// What `file` (see [`members_file`]) says of the pod; `None` where it says nothing, or is not there.
pub fn kept_membership(file: &Path, pod: &ObjectName, uid: &str) -> Option<bool> {
    let members: Members = serde_json::from_slice(&fs::read(file).ok()?).ok()?;
    let member = members.pods.get(uid).filter(|member| member.name == *pod)?;
    Some(member.enrolled)
}

#[cfg(test)]
mod tests {
    use weft_model::{ServiceAccount, Workload};

    use super::*;

    fn workload(name: &str, enrolled: bool) -> Workload {
        Workload {
            name: ObjectName::new("shop", name),
            service_account: ServiceAccount::new("shop", "default"),
            ips: Vec::new(),
            node: None,
            local: true,
            labels: Arc::default(),
            enrolled,
            netns: None,
            ports: Vec::new(),
            owner: name.into(),
            ready: true,
            passage: weft_model::Passage::Done,
            terminating: false,
            created: 0,
        }
    }

    #[test]
    fn what_is_kept_says_of_a_pod_what_was_known_of_that_very_one() {
        let folder = tempfile::tempdir().unwrap();
        let all = [workload("in", true), workload("out", false)];
        let uids =
            all.iter().map(|pod| (pod.name.clone(), format!("uid-{}", pod.name.name).into())).collect();
        let workloads = all.into_iter().map(|pod| (pod.name.clone(), Arc::new(pod))).collect();
        let snapshot = Snapshot { workloads: Arc::new(workloads), ..Snapshot::default() };
        Members::of(&snapshot, &uids).write(folder.path()).unwrap();
        let file = members_file(folder.path());
        let says = |name: &str, uid: &str| kept_membership(&file, &ObjectName::new("shop", name), uid);
        assert_eq!((says("in", "uid-in"), says("out", "uid-out")), (Some(true), Some(false)));
        assert_eq!(says("in", "uid-in-2"), None, "one of the same name");
        assert_eq!(says("out", "uid-in"), None);
        assert_eq!(
            kept_membership(&folder.path().join("nothing"), &ObjectName::new("shop", "in"), "uid-in"),
            None
        );
    }

    #[test]
    fn what_an_agent_of_another_release_has_kept_says_the_same() {
        let member = Member { name: ObjectName::new("shop", "web"), enrolled: true };
        let members = Members { pods: [("u1".into(), member)].into() };
        crate::release::agrees("members.json", &members, &["pods"]);
    }
}
