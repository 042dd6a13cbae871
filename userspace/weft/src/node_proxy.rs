//! The node's proxy and the agent: from the data path and the Snapshot to the keeper; back its ports, and what the
//! proxy tells of requests.

use std::{convert::Infallible, sync::Arc};

use anyhow::Result;
use tokio::sync::watch;
use weft_datapath::Enforcer;
use weft_keeper::{Configuration, Inputs, Keeper, LocalPod, Maps, Ports, Records, Settings};
use weft_model::Snapshot;
use weft_runtime::{Stop, Tasks};
use weft_telemetry::{api::ProxyStatus, observer::Observer, records::RecordBatch};

use crate::settings::AgentArgs;

/// The keeper, unless the agent is to run without a proxy: then one that an earlier agent has left finishes.
pub(crate) fn open(args: &AgentArgs, enforcer: &Enforcer) -> Result<Option<Keeper>> {
    if !args.has_proxy() {
        weft_keeper::dismiss(&args.run_dir)?;
        return Ok(None);
    }
    let keeper = Keeper::open(Settings {
        run_dir: args.run_dir.clone(),
        cgroup: enforcer.cgroup(),
        program: args.proxy_program()?,
        build: env!("CARGO_PKG_VERSION").to_owned(),
    })?;
    enforcer.proxy_is(keeper.cgroup())?;
    Ok(Some(keeper))
}

/// Gives the keeper what it follows.
pub(crate) fn start(
    keeper: &Keeper,
    enforcer: &Enforcer,
    snapshots: watch::Receiver<Arc<Snapshot>>,
    observer: Arc<Observer>,
    tasks: &Tasks,
) -> Result<()> {
    let lent = enforcer.proxy_maps()?;
    let maps = Maps { origins: lent.origins, lease: lent.lease };
    let (wanted, pods) = watch::channel(None);
    let (configured, configuration) = watch::channel(None);
    let ports = Arc::new(Rows(enforcer.clone()));
    let records = Arc::new(Counts { enforcer: enforcer.clone(), snapshots: snapshots.clone(), observer });
    tasks.spawn("proxy pods", follow_pods(enforcer.pods(), wanted, tasks.stop_signal()));
    let part = Part { needed: keeper.adopts(), last: None };
    tasks.spawn("proxy configuration", configure(snapshots, configured, part, tasks.stop_signal()));
    keeper.start(tasks, Inputs { pods, configuration, maps, ports, records });
    Ok(())
}

/// How the proxy is: what the keeper knows, the kernel, and the metrics.
pub(crate) fn status(keeper: &Keeper, enforcer: &Enforcer) -> ProxyStatus {
    let lease_age_ms = enforcer.lease_age().map(|age| u64::try_from(age.as_millis()).unwrap_or(u64::MAX));
    let records_lost = enforcer.metrics().proxy.records_lost();
    ProxyStatus { lease_age_ms, records_lost, ..keeper.status() }
}

type Held = Option<Arc<[weft_datapath::LocalPod]>>;
type Lent = Option<Arc<[LocalPod]>>;

async fn follow_pods(
    mut held: watch::Receiver<Held>,
    wanted: watch::Sender<Lent>,
    stop: Stop,
) -> Result<(), Infallible> {
    loop {
        wanted.send_replace(held.borrow_and_update().as_deref().map(|pods| pods.iter().map(lent).collect()));
        tokio::select! {
            changed = held.changed() => if changed.is_err() { return Ok(()) },
            () = stop.cancelled() => return Ok(()),
        }
    }
}

fn lent(pod: &weft_datapath::LocalPod) -> LocalPod {
    let weft_datapath::LocalPod { name, netns_cookie: cookie, netns, ips: addresses } = pod.clone();
    LocalPod { name, cookie, addresses, netns }
}

async fn configure(
    mut snapshots: watch::Receiver<Arc<Snapshot>>,
    configured: watch::Sender<Option<Configuration>>,
    mut part: Part,
    stop: Stop,
) -> Result<(), serde_json::Error> {
    loop {
        let snapshot = Arc::clone(&snapshots.borrow_and_update());
        if let Some(configuration) = tokio::task::block_in_place(|| part.of(&snapshot))? {
            configured.send_replace(Some(configuration));
        }
        tokio::select! {
            changed = snapshots.changed() => if changed.is_err() { return Ok(()) },
            () = stop.cancelled() => return Ok(()),
        }
    }
}

/// What of the Snapshots the proxy has to know.
struct Part {
    /// Whether there is a proxy, or has to be.
    needed: bool,
    /// What it was given last, without its version.
    last: Option<Snapshot>,
}

impl Part {
    /// The part of `snapshot` that the proxy works with, if that is news. Nothing, until a Service needs it.
    fn of(&mut self, snapshot: &Snapshot) -> Result<Option<Configuration>, serde_json::Error> {
        self.needed |= routes(snapshot);
        // The source's first Snapshot has a version; before it nothing is known.
        if !self.needed || snapshot.version == 0 {
            return Ok(None);
        }
        let (version, part) = (snapshot.version, Snapshot { version: 0, ..snapshot.for_proxy() });
        if self.last.as_ref() == Some(&part) {
            return Ok(None);
        }
        let bytes = serde_json::to_vec(&Snapshot { version, ..part.clone() })?.into();
        self.last = Some(part);
        Ok(Some(Configuration { version, bytes }))
    }
}

fn routes(snapshot: &Snapshot) -> bool {
    snapshot.services.values().any(|service| service.ports.iter().any(|port| port.routing.is_some()))
}

/// The rows in which the connect hook reads pods' ports.
struct Rows(Enforcer);

impl Ports for Rows {
    fn outbound(&self, cookie: u64, port: Option<u16>) {
        if let Err(error) = self.0.listen(cookie, port) {
            tracing::error!(cookie, ?port, %error, "the kernel does not know where a pod's proxy listens");
        }
    }
}

/// Flows, metrics, access logs and rates of what the proxy tells.
struct Counts {
    enforcer: Enforcer,
    snapshots: watch::Receiver<Arc<Snapshot>>,
    observer: Arc<Observer>,
}

impl Records for Counts {
    fn take(&self, batch: RecordBatch) {
        let snapshot = Arc::clone(&self.snapshots.borrow());
        self.observer.take(&batch, &snapshot, self.enforcer.flows(), self.enforcer.metrics());
    }

    fn ended(&self, generation: u64) {
        self.observer.ended(generation, self.enforcer.metrics());
    }
}

#[cfg(test)]
mod tests;
