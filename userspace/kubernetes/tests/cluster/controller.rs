//! What a controller has of its source, its Lease and its writer.

use std::{collections::BTreeSet, path::PathBuf, sync::Arc};

use tokio::{
    sync::{oneshot, watch},
    task::JoinHandle,
    time::timeout,
};
use weft_kubernetes::{
    Cluster, ClusterSource, Connection, Election, Leadership, Options, Source as _, StatusWriter,
};
use weft_model::{Generations, Progress};

use super::api_server::{ApiServer, PATIENCE};

/// One replica.
pub(crate) struct Controller {
    pub(crate) progress: watch::Sender<Arc<Progress>>,
    pub(crate) leadership: watch::Receiver<Leadership>,
    stop: Vec<oneshot::Sender<()>>,
    tasks: Vec<JoinHandle<()>>,
}

impl Controller {
    pub(crate) async fn start(server: &ApiServer, replica: &str) -> Self {
        Self::of(server, "admin", replica).await
    }

    /// As this user.
    pub(crate) async fn of(server: &ApiServer, user: &str, replica: &str) -> Self {
        let connection = Connection::Kubeconfig(server.kubeconfig(user));
        let cluster = Cluster::connect(&connection).await.unwrap();
        let options = Options::of("");
        let (mut source, _snapshots) =
            ClusterSource::open(&connection, PathBuf::new(), options).await.unwrap();
        let (progress, far) = watch::channel(Arc::default());
        let election = Election::new(&cluster, "weft-system", "weft-controller", replica.into());
        let leadership = election.leadership();
        let writer = StatusWriter::new(&cluster, source.judge(), far, election.leadership(), replica.into());
        let ends = || {
            let (stop, stopped) = oneshot::channel();
            let stopped = Box::pin(async {
                let _ = stopped.await;
            });
            (stop, stopped)
        };
        let ((stop_source, a), (stop_writer, b), (stop_election, c)) = (ends(), ends(), ends());
        #[expect(clippy::disallowed_methods, reason = "the test owns these tasks and joins them")]
        let tasks = vec![
            tokio::spawn(async { Box::new(source).run(a).await }),
            tokio::spawn(writer.run(b)),
            tokio::spawn(election.run(c)),
        ];
        Self { progress, leadership, stop: vec![stop_source, stop_writer, stop_election], tasks }
    }

    pub(crate) fn leads(&self) -> bool {
        self.leadership.borrow().holds()
    }

    /// All of these nodes run an agent, and those of `has` have these generations.
    pub(crate) fn nodes(&self, all: &[&str], has: &[&str], generations: &[(&str, i64)]) {
        let set =
            |names: &[&str]| -> BTreeSet<Arc<str>> { names.iter().map(|name| (*name).into()).collect() };
        let generations: Generations = generations.iter().map(|(name, at)| ((*name).into(), *at)).collect();
        self.progress.send_replace(Arc::new(Progress {
            desired: set(all),
            ready: set(has),
            in_force: vec![(Arc::new(generations), set(has))],
            ..Progress::default()
        }));
    }

    /// Ends it as SIGKILL does.
    pub(crate) fn kill(self) {
        for task in &self.tasks {
            task.abort();
        }
    }

    /// Ends it as SIGTERM does: the Lease last.
    pub(crate) async fn stop(self) {
        for (stop, task) in self.stop.into_iter().zip(self.tasks) {
            // Without a source a writer ends by itself.
            let _ = stop.send(());
            timeout(PATIENCE, task).await.unwrap().unwrap();
        }
    }
}
