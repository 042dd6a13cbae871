//! A controller from its start to its end.

use std::{convert::Infallible, net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use tokio::{net::TcpListener, sync::watch};
use weft_kubernetes::{Cluster, ClusterSource, Connection, Options, Source as _};
use weft_model::Progress;
use weft_runtime::{Shutdown, Tasks};

use crate::{Error, health, metrics::Metrics, status};

/// What a controller is told.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The cluster whose mesh it is for.
    pub connection: Connection,
    /// The namespace that the mesh itself lives in.
    pub namespace: Arc<str>,
    /// Where agents ask.
    pub listen: SocketAddr,
    /// Where /metrics, /healthz and /readyz are served.
    pub metrics: SocketAddr,
    /// Its version, for metrics.
    pub version: &'static str,
}

/// Runs until a signal asks it to end, or a part of it fails.
pub async fn run(settings: Settings, mut shutdown: Shutdown) -> Result<(), Error> {
    let health = listen(settings.metrics, "metrics", "--metrics").await?;
    let cluster = Cluster::connect(&settings.connection).await?;
    // No pod is its own: of a node without a name there are none, and no control groups to look for them in.
    let options = Options { node: "".into(), last_good: None, mutual_tls: false };
    let (mut source, _snapshots) = ClusterSource::open(&settings.connection, PathBuf::new(), options).await?;
    let (source_health, metrics) = (source.health(), Arc::new(Metrics::new(settings.version)));

    let tasks = Tasks::new();
    let stop = tasks.stop_signal();
    let nodes = watch::Sender::<Arc<Progress>>::default();
    status::start(&cluster, &settings.namespace, &mut source, nodes.subscribe(), &tasks);
    let stopped = stop.clone().cancelled_owned();
    tasks.spawn("source", async {
        Box::new(source).run(Box::pin(stopped)).await;
        Ok::<_, Infallible>(())
    });
    tasks.spawn("health", health::serve(health, metrics, source_health, stop));
    tracing::info!(server = cluster.server(), namespace = %settings.namespace, "controller started");

    let failed = tokio::select! {
        signal = shutdown.asked() => {
            tracing::info!(signal, "controller ends; nodes go on with what they have");
            None
        }
        failed = tasks.failed() => Some(failed),
    };
    tasks.drain(DRAIN).await;
    failed.map_or(Ok(()), |failed| Err(failed.into()))
}

async fn listen(
    address: SocketAddr,
    purpose: &'static str,
    flag: &'static str,
) -> Result<TcpListener, Error> {
    let listener = TcpListener::bind(address).await;
    listener.map_err(|source| Error::Listen { address, purpose, flag, source })
}

/// How long tasks may take to end.
const DRAIN: Duration = Duration::from_secs(5);
