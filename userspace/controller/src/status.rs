//! What is said of objects in their status, by the replica that leads.

use std::{
    convert::Infallible,
    fs,
    hash::{BuildHasher as _, Hasher as _, RandomState},
    sync::Arc,
    time::Duration,
};

use tokio::{
    sync::{oneshot, watch},
    time::interval,
};
use weft_kubernetes::{Cluster, ClusterSource, Election, Health, Leadership, StatusWriter};
use weft_model::Progress;
use weft_runtime::{Stop, Tasks};

use crate::metrics::Metrics;

/// Judges what `source` reads, and writes it down whenever this replica leads.
pub(crate) fn start(
    cluster: &Cluster,
    namespace: &str,
    source: &mut ClusterSource,
    progress: watch::Receiver<Arc<Progress>>,
    metrics: Arc<Metrics>,
    tasks: &Tasks,
) {
    let replica = replica();
    let election = Election::new(cluster, namespace, LEASE, Arc::clone(&replica));
    let counted =
        count(election.leadership(), progress.clone(), source.health(), metrics, tasks.stop_signal());
    tasks.spawn("leadership metrics", counted);
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
}

async fn count(
    leadership: watch::Receiver<Leadership>,
    progress: watch::Receiver<Arc<Progress>>,
    health: watch::Receiver<Arc<Health>>,
    metrics: Arc<Metrics>,
    stop: Stop,
) -> Result<(), Infallible> {
    let mut look = interval(LOOK);
    loop {
        tokio::select! {
            _ = look.tick() => {
                metrics.stands(leadership.borrow().holds(), &progress.borrow());
                metrics.does_not_read(health.borrow().refused.keys().copied());
            }
            () = stop.cancelled() => return Ok(()),
        }
    }
}

/// A name that no other replica has, nor this one after its end: in a pod it begins with the pod's.
fn replica() -> Arc<str> {
    let host = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    format!("{}_{:016x}", host.trim(), RandomState::new().build_hasher().finish()).into()
}

/// Whoever holds this Lease leads.
const LEASE: &str = "weft-controller";
/// How often metrics are brought up to date.
const LOOK: Duration = Duration::from_secs(1);
