//! What the node's container runtime tells of pods' networks, before any process is in them.

use std::{collections::HashSet, net::IpAddr, path::PathBuf, sync::Arc};

use tokio::sync::{mpsc, oneshot};
use weft_model::ObjectName;

/// The network that a runtime has made for a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Announced {
    /// The pod's UID, as its kubelet knows it.
    pub uid: Arc<str>,
    /// The runtime's id of the sandbox: a pod whose sandbox is made again has another one.
    pub sandbox: Arc<str>,
    /// Where its network namespace is, as this process sees it.
    pub netns: PathBuf,
    /// Its addresses.
    pub ips: Vec<IpAddr>,
}

/// A pod that was announced, once its object is there, too.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Known {
    /// Its name.
    pub pod: ObjectName,
    /// Whether it is in the mesh.
    pub enrolled: bool,
    /// The version of a snapshot that has it in the namespace that was announced, and that has been published.
    pub version: u64,
}

/// Tells a running source what the runtime does.
#[derive(Clone, Debug)]
pub struct Announcer {
    calls: mpsc::Sender<Call>,
}

/// What a source hears by that.
#[derive(Debug)]
pub(crate) enum Call {
    /// There is a new network.
    Add(Announced, oneshot::Sender<Known>),
    /// This sandbox goes.
    Remove(Arc<str>),
    /// There are no sandboxes but these.
    Keep(HashSet<Arc<str>>),
}

impl Announcer {
    pub(crate) fn channel() -> (Self, mpsc::Receiver<Call>) {
        let (calls, called) = mpsc::channel(64);
        (Self { calls }, called)
    }

    /// From now on the pod is where the runtime says. Waits until a snapshot says so, too: for ever, where the pod is never
    /// heard of. `None` when the source has ended.
    pub async fn announce(&self, network: Announced) -> Option<Known> {
        let (sender, known) = oneshot::channel();
        self.calls.send(Call::Add(network, sender)).await.ok()?;
        known.await.ok()
    }

    /// The sandbox goes. Of a source that has ended nobody needs to know.
    pub async fn withdraw(&self, sandbox: Arc<str>) {
        let _ = self.calls.send(Call::Remove(sandbox)).await;
    }

    /// All sandboxes but these are gone.
    pub async fn keep(&self, sandboxes: HashSet<Arc<str>>) {
        let _ = self.calls.send(Call::Keep(sandboxes)).await;
    }
}
