//! A controller from its start to its end.

use std::{
    convert::Infallible,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use tokio::net::TcpListener;
use weft_identity::{
    Clock,
    controller::{self, Serving},
};
use weft_kubernetes::{Cluster, ClusterSource, Connection, Options, Source as _};
use weft_runtime::{Shutdown, Tasks};

use crate::{
    Error,
    agents::Agents,
    authority::Authority,
    health,
    metrics::Metrics,
    nodes::Reports,
    server::{self, Asked},
    status,
};

/// What a controller is told.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The cluster whose mesh it is for.
    pub connection: Connection,
    /// The namespace that the mesh itself lives in.
    pub namespace: Arc<str>,
    /// The trust domain that the mesh was installed for; `None` where its MeshConfig says it.
    pub trust_domain: Option<Arc<str>>,
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
    let agents = listen(settings.listen, "agents", "--listen").await?;
    let tasks = Tasks::new();
    start(&settings, health, agents, &tasks).await?;

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

/// Starts everything that a controller does.
async fn start(
    settings: &Settings,
    health: TcpListener,
    listener: TcpListener,
    tasks: &Tasks,
) -> Result<(), Error> {
    let cluster = Cluster::connect(&settings.connection).await?;
    // No pod is its own: of a node without a name there are none, and no control groups to look for them in.
    let options = Options { trust_domain: settings.trust_domain.clone(), ..Options::of("") };
    let (mut source, snapshots) = ClusterSource::open(&settings.connection, PathBuf::new(), options).await?;
    let (namespace, clock) = (Arc::clone(&settings.namespace), Clock::system());
    let (metrics, serving) = (Arc::new(Metrics::new(settings.version)), Serving::new());
    let stop = tasks.stop_signal();

    let ready =
        health::Asked { metrics: Arc::clone(&metrics), source: source.health(), serving: serving.clone() };
    tasks.spawn("health", health::serve(health, ready, stop.clone()));
    // Certificates need no more than who is in the mesh; a rule of RBAC that lacks is no reason to issue none.
    source.do_without();
    let reports = Reports::default();
    status::start(&cluster, &namespace, &mut source, reports.progress(), Arc::clone(&metrics), tasks);
    tasks.spawn("progress", reports.clone().follow(snapshots.clone(), Arc::clone(&namespace), stop.clone()));
    let stopped = stop.clone().cancelled_owned();
    tasks.spawn("source", async {
        Box::new(source).run(Box::pin(stopped)).await;
        Ok::<_, Infallible>(())
    });
    let authority = Authority::new(cluster.clone(), Arc::clone(&namespace), snapshots.clone(), clock.clone());
    let host = controller::host(&namespace);
    let kept = authority.clone().keep(host, serving.clone(), Arc::clone(&metrics), stop.clone());
    tasks.spawn("authority", kept);
    let agents = Agents::new(cluster.clone(), Arc::clone(&namespace), Arc::clone(&metrics));
    let router = server::router(Asked { agents, authority, reports, snapshots, metrics, clock });
    tasks.spawn("agents", server::serve(listener, serving, router, tasks.clone(), stop));
    tracing::info!(server = cluster.server(), %namespace, listen = %settings.listen, "controller started");
    Ok(())
}

async fn listen(
    address: SocketAddr,
    purpose: &'static str,
    flag: &'static str,
) -> Result<TcpListener, Error> {
    let mut listener = TcpListener::bind(address).await;
    // All addresses of both families were meant; a kernel may have but the one.
    if listener.is_err() && address.ip() == Ipv6Addr::UNSPECIFIED {
        listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, address.port())).await;
    }
    listener.map_err(|source| Error::Listen { address, purpose, flag, source })
}

/// How long tasks may take to end.
const DRAIN: Duration = Duration::from_secs(5);
