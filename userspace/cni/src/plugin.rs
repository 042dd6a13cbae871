//! What the plugin does, for each command.

use std::{
    fs,
    os::unix::{fs::MetadataExt as _, process::parent_id},
    time::Duration,
};

use serde_json::json;
use tokio::time::timeout;
use weft_telemetry::api::{Attached, Attachment, Sandboxes};

use crate::{
    Call, Membership, Pod,
    agent::{Agent, Unheard},
    call::{Command, VERSIONS, without_links},
    error::{Code, Error},
    membership::is_member,
};

/// Does what the runtime asks; what it is to be told on standard output.
///
/// An ADD is answered within 10 s, whoever is away. A pod that must be in the mesh, or of which nobody knows, is refused with
/// "try again later" while it cannot be enrolled: kubelets do that. Everybody else starts.
pub async fn answer(call: &Call, membership: &impl Membership) -> Result<String, Error> {
    let agent = Agent::at(&call.config.agent);
    match call.command {
        Command::Version => Ok(versions(call)),
        Command::Add => match timeout(WHOLE, add(call, &agent, membership)).await {
            Ok(done) => done,
            Err(_) => Err(waits(call.pod.as_ref(), "nobody has answered in time")),
        },
        Command::Check => check(call, &agent).await,
        Command::Del => {
            let sandboxes = Sandboxes { sandboxes: vec![call.sandbox.clone()] };
            // The namespace goes, and the agent sees that, too.
            let _ = timeout(SHORT, agent.detach(&sandboxes)).await;
            Ok(String::new())
        }
        Command::Gc => {
            if let Some(sandboxes) = call.config.valid() {
                let _ = timeout(SHORT, agent.keep(&Sandboxes { sandboxes })).await;
            }
            Ok(String::new())
        }
        // Without an agent, too: a node that could start nothing could not start the agent either.
        Command::Status => Ok(String::new()),
    }
}

async fn add(call: &Call, agent: &Agent, membership: &impl Membership) -> Result<String, Error> {
    let result = call.config.previous()?.to_owned();
    let Some(pod) = &call.pod else { return Ok(result) };
    let never_waits = call.config.never_wait.iter().any(|namespace| **namespace == *pod.name.namespace);
    let patience = if never_waits { SHORT } else { AGENT };
    let why = match timeout(patience, agent.attach(&attachment(call, pod)?)).await {
        Ok(Ok(Attached::Enrolled | Attached::NotEnrolled)) => return Ok(result),
        Ok(Ok(Attached::Unknown)) => "the agent of this node has not heard of it yet".to_owned(),
        Ok(Err(unheard)) => unheard.to_string(),
        Err(_) => format!("the agent of this node has not answered for {} s", patience.as_secs()),
    };
    if never_waits {
        return Ok(result);
    }
    match is_member(pod, membership).await {
        Ok(false) => Ok(result),
        Ok(true) => Err(waits(Some(pod), &why)),
        Err(unknown) => {
            Err(waits(Some(pod), &format!("{why}, and whether it is in the mesh is not known: {unknown}")))
        }
    }
}

async fn check(call: &Call, agent: &Agent) -> Result<String, Error> {
    call.config.previous()?;
    let Some(pod) = &call.pod else { return Ok(String::new()) };
    match timeout(AGENT, agent.attached(&attachment(call, pod)?)).await {
        // The kernel goes on without an agent; there is nothing to be said against the pod.
        Err(_) | Ok(Ok(_) | Err(Unheard::Away { .. })) => Ok(String::new()),
        Ok(Err(unheard)) => {
            let message = format!("pod {} is not protected as it should be", pod.name);
            Err(Error::new(Code::NotEnrolled, message, unheard.to_string()))
        }
    }
}

fn attachment(call: &Call, pod: &Pod) -> Result<Attachment, Error> {
    let netns = call.netns.clone().unwrap_or_default();
    let found = fs::metadata(&netns).map_err(|error| {
        let message = format!("there is no network namespace at {}", netns.display());
        Error::new(Code::Io, message, error.to_string())
    })?;
    Ok(Attachment {
        namespace: pod.name.namespace.to_string(),
        pod: pod.name.name.to_string(),
        uid: pod.uid.clone(),
        sandbox: call.sandbox.clone(),
        inode: found.ino(),
        netns: without_links(&netns),
        runtime: parent_id(),
        ips: call.config.addresses(&call.interface)?,
    })
}

/// What the kubelet makes an event of.
fn waits(pod: Option<&Pod>, why: &str) -> Error {
    let name = pod.map(|pod| pod.name.to_string()).unwrap_or_default();
    let message = format!("pod {name} waits for the mesh: it must not start outside of it");
    let details = format!(
        "{why}. It is tried again; see: kubectl -n weft-system get pods -o wide. Where weft was removed and is still on this \
         node: weft-cni cleanup, in the folder of the runtime's plugins"
    );
    Error::new(Code::TryAgainLater, message, details)
}

fn versions(call: &Call) -> String {
    let version = call.config.cni_version.as_deref().filter(|version| VERSIONS.contains(version));
    json!({"cniVersion": version.unwrap_or(crate::call::NEWEST), "supportedVersions": VERSIONS}).to_string()
}

/// How long the agent may take to have a pod in the kernel.
const AGENT: Duration = Duration::from_secs(6);
/// The same, where nobody has to wait.
const SHORT: Duration = Duration::from_secs(1);
/// The bound of an ADD, whatever else holds it up.
const WHOLE: Duration = Duration::from_millis(9500);

#[cfg(test)]
mod tests;
