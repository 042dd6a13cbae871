//! What an agent has of its source.

use std::{path::Path, sync::Arc};

use tempfile::TempDir;
use tokio::{
    sync::{oneshot, watch},
    task::JoinHandle,
    time::timeout,
};
use weft_kubernetes::{Announcer, ClusterSource, Connection, Health, Options, Source as _};
use weft_model::Snapshot;

use super::api_server::{ApiServer, PATIENCE};

/// A source on node `n1`.
pub(crate) struct Agent {
    pub(crate) snapshots: watch::Receiver<Arc<Snapshot>>,
    pub(crate) health: watch::Receiver<Arc<Health>>,
    pub(crate) announcer: Announcer,
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

/// What outlives agents.
pub(crate) struct Disk(pub(crate) TempDir);

impl Disk {
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }
}

impl Agent {
    pub(crate) async fn start(server: &ApiServer, disk: &Disk) -> Self {
        Self::with(server, "admin", Path::new("/sys/fs/cgroup/weft-no-such-node"), disk).await
    }

    /// As this user, with pods below these control groups.
    pub(crate) async fn with(server: &ApiServer, user: &str, groups: &Path, disk: &Disk) -> Self {
        let connection = Connection::Kubeconfig(server.kubeconfig(user));
        let options = Options {
            node: "n1".into(),
            last_good: Some(disk.0.path().to_owned()),
            mutual_tls: false,
            system: None,
            trust_domain: None,
        };
        let (source, snapshots) = ClusterSource::open(&connection, groups.to_owned(), options).await.unwrap();
        let (health, announcer) = (source.health(), source.announcer().unwrap());
        let (stop, stopped) = oneshot::channel();
        let ends = async {
            let _ = stopped.await;
        };
        #[expect(clippy::disallowed_methods, reason = "the test owns this task and joins it")]
        let task = tokio::spawn(Box::new(source).run(Box::pin(ends)));
        Self { snapshots, health, announcer, stop, task }
    }

    pub(crate) fn snapshot(&self) -> Arc<Snapshot> {
        Arc::clone(&self.snapshots.borrow())
    }

    /// The next snapshot for which `holds`.
    pub(crate) async fn until(&mut self, what: &str, holds: impl Fn(&Snapshot) -> bool) -> Arc<Snapshot> {
        let found = timeout(PATIENCE, self.snapshots.wait_for(|snapshot| holds(snapshot))).await;
        let found = found.map(|found| Arc::clone(&found.unwrap()));
        found.unwrap_or_else(|_| {
            panic!("never seen: {what}; {:?} {:#?}", self.health.borrow(), self.snapshot())
        })
    }

    /// The next snapshot that has all that there is.
    pub(crate) async fn synced(&mut self) -> Arc<Snapshot> {
        self.healthy("all is listed", |health| health.synced).await;
        self.until("a snapshot", |snapshot| snapshot.version > 0).await
    }

    /// How the source is, once that `holds`.
    pub(crate) async fn healthy(&mut self, what: &str, holds: impl Fn(&Health) -> bool) -> Arc<Health> {
        let found = timeout(PATIENCE, self.health.wait_for(|health| holds(health))).await;
        let found = found.map(|found| Arc::clone(&found.unwrap()));
        found.unwrap_or_else(|_| panic!("never seen: {what}; {:?}", self.health.borrow()))
    }

    /// Ends it as SIGTERM does: what it has is kept.
    pub(crate) async fn stop(self) {
        self.stop.send(()).unwrap();
        self.task.await.unwrap();
    }
}
