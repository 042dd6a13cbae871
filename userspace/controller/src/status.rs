//! What is said of objects in their status, by the replica that leads.

use std::{
    convert::Infallible,
    fs,
    hash::{BuildHasher as _, Hasher as _, RandomState},
    sync::Arc,
};

use tokio::sync::{oneshot, watch};
use weft_kubernetes::{Cluster, ClusterSource, Election, Leadership, StatusWriter};
use weft_model::Progress;
use weft_runtime::Tasks;

/// Judges what `source` reads, and writes it down whenever this replica leads. Whether it does is returned.
pub(crate) fn start(
    cluster: &Cluster,
    namespace: &str,
    source: &mut ClusterSource,
    progress: watch::Receiver<Arc<Progress>>,
    tasks: &Tasks,
) -> watch::Receiver<Leadership> {
    let replica = replica();
    let election = Election::new(cluster, namespace, LEASE, Arc::clone(&replica));
    let leadership = election.leadership();
    let writer = StatusWriter::new(cluster, source.judge(), progress, election.leadership(), replica);
    let stopped = tasks.stop_signal().cancelled_owned();
    let (writing, written) = oneshot::channel::<Infallible>();
    tasks.spawn("statuses", async {
        writer.run(Box::pin(stopped)).await;
        drop(writing);
        Ok::<_, Infallible>(())
    });
    // The Lease is let go of when nothing is written under it any more.
    tasks.spawn("leadership", async {
        let ended = async {
            let _ = written.await;
        };
        election.run(Box::pin(ended)).await;
        Ok::<_, Infallible>(())
    });
    leadership
}

/// A name that no other replica has, nor this one after its end: in a pod it begins with the pod's.
fn replica() -> Arc<str> {
    let host = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    format!("{}_{:016x}", host.trim(), RandomState::new().build_hasher().finish()).into()
}

/// Whoever holds this Lease leads.
const LEASE: &str = "weft-controller";
