//! What every source of snapshots does, whether it reads a directory or an API server.

use std::{path::PathBuf, sync::Arc};

use futures_util::future::BoxFuture;
use tokio::sync::{mpsc, oneshot, watch as latest};
use weft_model::{JwksHeld, Snapshot};

use crate::Announcer;

/// Publishes a snapshot for every change of the objects it reads.
///
/// Broken objects are no error: they are in [`Snapshot::problems`], and their last good versions stay in force.
pub trait Source: Send {
    /// A handle that has everything read again on demand, once this runs.
    fn refresh_handle(&self) -> Refresh;

    /// A handle by which the container runtime's plugin tells of pods' networks, once this runs. `None` of a source whose objects
    /// say that by themselves.
    fn announcer(&self) -> Option<Announcer> {
        None
    }

    /// From now on the snapshots have these keys of providers, too: whoever fetches them learns from the snapshots which.
    fn follow_jwks(&mut self, jwks: latest::Receiver<Arc<JwksHeld>>);

    /// Publishes until `shutdown`.
    fn run(self: Box<Self>, shutdown: BoxFuture<'static, ()>) -> BoxFuture<'static, ()>;
}

/// How a source reads its objects.
#[derive(Clone, Debug)]
pub struct Options {
    /// The node of this agent.
    pub node: Arc<str>,
    /// Where the last good version of every file is kept for the next agent; `None` keeps it in memory
    /// alone.
    pub last_good: Option<PathBuf>,
    /// Whether the node's workloads have certificates.
    pub mutual_tls: bool,
    /// The namespace of the mesh itself, where its agents tell of each pod that it has joined: until then it does
    /// ([`weft_model::Passage::Joins`]). The word of agents of an earlier installation, in a namespace that was deleted since,
    /// counts for nothing. `None` where nobody tells: each pod that is enrolled has joined.
    pub system: Option<Arc<str>>,
    /// The trust domain that the mesh was installed for: a `MeshConfig` that names another one changes nothing, and is told so.
    /// `None` where `MeshConfig` is what says it.
    pub trust_domain: Option<Arc<str>>,
}

impl Options {
    /// For the agent of `node`, or for nobody's: nothing is kept for the next one, no workload has certificates, each pod that
    /// is enrolled has joined.
    pub fn of(node: impl Into<Arc<str>>) -> Self {
        Self { node: node.into(), last_good: None, mutual_tls: false, system: None, trust_domain: None }
    }
}

/// Asks a running [`Source`] to look again.
#[derive(Clone, Debug)]
pub struct Refresh {
    requests: mpsc::Sender<Asked>,
    latest: latest::Receiver<Arc<Snapshot>>,
}

/// Who waits for the version that holds everything there is now.
pub(crate) type Asked = oneshot::Sender<u64>;

impl Refresh {
    /// The handle, and what a source hears by it.
    pub(crate) fn channel(latest: &latest::Receiver<Arc<Snapshot>>) -> (Self, mpsc::Receiver<Asked>) {
        let (requests, asked) = mpsc::channel(16);
        (Self { requests, latest: latest.clone() }, asked)
    }

    /// Reads everything now. The snapshot of the version returned holds all that was there when this was called (of an
    /// API server: all that it had told by then), and has been published.
    pub async fn refresh(&self) -> u64 {
        let (sender, answer) = oneshot::channel();
        let version = match self.requests.send(sender).await {
            Ok(()) => answer.await.ok(),
            Err(_) => None,
        };
        // A source that has ended publishes nothing newer than its last.
        version.unwrap_or_else(|| self.latest.borrow().version)
    }
}

/// Publishes `snapshot`, unless it is the one that is out.
pub(crate) fn publish(to: &latest::Sender<Arc<Snapshot>>, snapshot: Arc<Snapshot>) {
    to.send_if_modified(|latest| {
        let changed = !Arc::ptr_eq(latest, &snapshot);
        *latest = snapshot;
        changed
    });
}

/// Work that blocks; `None` when the runtime is shutting down.
pub(crate) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => Some(done),
        Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
        Err(_) => None,
    }
}
