//! The node's proxy and the agent: from the data path and the Snapshot to the keeper; back its ports, and what the
//! proxy tells of requests.

pub(crate) mod gone;

use std::{collections::BTreeSet, convert::Infallible, os::fd::BorrowedFd, sync::Arc, time::Duration};

use anyhow::Result;
use tokio::{
    sync::watch,
    time::{Instant, sleep_until},
};
use weft_datapath::{Enforcer, ProxyMaps};
use weft_keeper::{Configuration, Identities, Inputs, Keeper, LocalPod, Maps, Ports, Records, Settings};
use weft_model::{ObjectName, Snapshot};
use weft_runtime::{Stop, Tasks};
use weft_telemetry::{
    api::{GenerationState, ProxyStatus},
    observer::Observer,
    records::RecordBatch,
};

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
        inbound: true,
        drain: args.proxy_drain,
        build: env!("CARGO_PKG_VERSION").to_owned(),
    })?;
    enforcer.proxy_is(keeper.cgroup())?;
    Ok(Some(keeper))
}

/// Gives the keeper what it follows. Returns the version of the Snapshots that the proxy knows, which is none for
/// longer than [`PATIENCE`]: then there is no proxy to wait for.
///
/// `taken_in` is told of the pods, by the cookies of their namespaces, of which the kernel knows where connections to them
/// come to the proxy.
pub(crate) fn start(
    keeper: &Keeper,
    enforcer: &Enforcer,
    snapshots: watch::Receiver<Arc<Snapshot>>,
    identities: watch::Receiver<Option<Identities>>,
    observer: Arc<Observer>,
    taken_in: watch::Sender<BTreeSet<u64>>,
    tasks: &Tasks,
) -> Result<watch::Receiver<u64>> {
    let lent = enforcer.proxy_maps()?;
    let maps = Maps { origins: lent.origins, lease: lent.lease };
    let mut held_older = enforcer.older_maps();
    let (lent_older, older) = watch::channel(lent_maps(&held_older.borrow_and_update())?);
    tasks.spawn("older maps", follow_older(held_older, lent_older, tasks.stop_signal()));
    let (wanted, pods) = watch::channel(None);
    let (configured, configuration) = watch::channel(None);
    let ports = Arc::new(Rows { enforcer: enforcer.clone(), taken_in });
    let records = Arc::new(Counts { enforcer: enforcer.clone(), snapshots: snapshots.clone(), observer });
    tasks.spawn("proxy pods", follow_pods(enforcer.pods(), wanted, tasks.stop_signal()));
    let part = Part::new(keeper.adopts());
    let (settled, known) = watch::channel(0);
    let patience = if enforcer.follows_another_layout() { PATIENCE_OF_LAYOUT } else { PATIENCE };
    let configure =
        Configure { configured, part, decides_by: keeper.decides_by(), settled, owed: None, patience };
    tasks.spawn("proxy configuration", configure.follow(snapshots, tasks.stop_signal()));
    keeper.start(tasks, Inputs { pods, configuration, identities, maps, older, ports, records });
    Ok(known)
}

/// How the proxy is: what the keeper knows, the kernel, and the metrics.
pub(crate) fn status(keeper: &Keeper, enforcer: &Enforcer) -> ProxyStatus {
    let lease_age_ms = enforcer.lease_age().map(|age| u64::try_from(age.as_millis()).unwrap_or(u64::MAX));
    let records_lost = enforcer.metrics().proxy.records_lost();
    ProxyStatus { lease_age_ms, records_lost, ..keeper.status() }
}

/// How many identities the proxy in force has valid certificates of, where it says.
pub(crate) fn certificates(keeper: &Keeper) -> Option<u64> {
    let in_force = keeper.status().generations.into_iter().rfind(|one| one.state == GenerationState::Active);
    in_force?.certificates
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
    let weft_datapath::LocalPod { name, netns_cookie: cookie, path, netns, ips: addresses, service_account } =
        pod.clone();
    LocalPod { name, cookie, addresses, service_account, path, netns }
}

async fn follow_older(
    mut held: watch::Receiver<Arc<[Arc<ProxyMaps>]>>,
    lent: watch::Sender<Arc<[Maps]>>,
    stop: Stop,
) -> Result<(), std::io::Error> {
    loop {
        tokio::select! {
            changed = held.changed() => if changed.is_err() { return Ok(()) },
            () = stop.cancelled() => return Ok(()),
        }
        lent.send_replace(lent_maps(&held.borrow_and_update())?);
    }
}

fn lent_maps(held: &[Arc<ProxyMaps>]) -> std::io::Result<Arc<[Maps]>> {
    let lend = |maps: &Arc<ProxyMaps>| {
        Ok(Maps { origins: maps.origins.try_clone()?, lease: maps.lease.try_clone()? })
    };
    held.iter().map(lend).collect()
}

/// Tells the keeper what the proxy is to know, and the data path what it knows.
struct Configure {
    configured: watch::Sender<Option<Configuration>>,
    part: Part,
    decides_by: watch::Receiver<Option<u64>>,
    settled: watch::Sender<u64>,
    owed: Option<Owed>,
    /// How long it is waited for.
    patience: Duration,
}

/// What the proxy was told and has not taken yet.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Owed {
    /// The first version of it, since when it is waited for, and the last.
    first: u64,
    since: Instant,
    last: u64,
}

impl Owed {
    /// With one more, however often one comes: who takes none of them is not waited for the longer.
    fn and(before: Option<Self>, last: u64, now: Instant) -> Self {
        before.map_or(Self { first: last, since: now, last }, |before| Self { last, ..before })
    }

    /// What of it is left of a proxy that has come to this version.
    fn after(self, taken: Option<u64>, now: Instant) -> Option<Self> {
        match taken {
            Some(taken) if taken >= self.last => None,
            Some(taken) if taken >= self.first => Some(Self { first: taken + 1, since: now, ..self }),
            _ => Some(self),
        }
    }
}

impl Configure {
    async fn follow(
        mut self,
        mut snapshots: watch::Receiver<Arc<Snapshot>>,
        stop: Stop,
    ) -> Result<(), serde_json::Error> {
        loop {
            let snapshot = Arc::clone(&snapshots.borrow_and_update());
            if let Some(configuration) = tokio::task::block_in_place(|| self.part.of(&snapshot))? {
                self.owed = Some(Owed::and(self.owed, configuration.version, Instant::now()));
                self.configured.send_replace(Some(configuration));
            }
            while self.owes() {
                let until = self.owed.map_or_else(Instant::now, |owed| owed.since + self.patience);
                tokio::select! {
                    Ok(()) = self.decides_by.changed() => {}
                    () = sleep_until(until) => {}
                    Ok(()) = snapshots.changed() => break,
                    () = stop.cancelled() => return Ok(()),
                }
            }
            if self.owed.is_none() {
                self.settled.send_replace(snapshot.version);
                self.patience = PATIENCE;
                tokio::select! {
                    changed = snapshots.changed() => if changed.is_err() { return Ok(()) },
                    () = stop.cancelled() => return Ok(()),
                }
            }
        }
    }

    /// Whether the proxy has not taken yet what it was told, and may still be waited for.
    fn owes(&mut self) -> bool {
        let decides_by = *self.decides_by.borrow_and_update();
        self.owed = self.owed.and_then(|owed| owed.after(decides_by, Instant::now()));
        if let Some(Owed { first, since, .. }) = self.owed
            && since.elapsed() >= self.patience
        {
            tracing::warn!(
                version = first,
                "no proxy has taken the configuration; its Services are left to it all the same"
            );
            self.owed = None;
        }
        self.owed.is_some()
    }
}

/// How long the kernel path serves a Service that is to be the proxy's: as long as a proxy may be away before it
/// counts as gone (contract: its lease).
const PATIENCE: Duration = Duration::from_secs(5);
/// How long an earlier agent's programs, on maps of another layout, go on for a proxy that has yet to get those of this one: as
/// long as it takes to start another proxy, where the one that there is cannot hold both.
const PATIENCE_OF_LAYOUT: Duration = Duration::from_secs(20);

/// What of the Snapshots the proxy has to know.
struct Part {
    /// Whether there is a proxy, or has to be.
    needed: bool,
    /// What it was given last, without its version.
    last: Option<Snapshot>,
    /// The Services that it serves or has served, and those that routes have led to: a request that took a route when it
    /// went away is still to find its endpoints.
    once: BTreeSet<ObjectName>,
}

impl Part {
    fn new(needed: bool) -> Self {
        Self { needed, last: None, once: BTreeSet::new() }
    }

    /// The part of `snapshot` that the proxy works with, if that is news. Nothing, until a Service, mutual TLS or a policy
    /// needs it.
    fn of(&mut self, snapshot: &Snapshot) -> Result<Option<Configuration>, serde_json::Error> {
        self.once.retain(|name| snapshot.services.contains_key(name));
        self.once.extend(snapshot.routed().chain(snapshot.backends()).cloned());
        self.needed |= !self.once.is_empty() || snapshot.mtls.on || snapshot.reads_requests();
        // The source's first Snapshot has a version; before it nothing is known.
        if !self.needed || snapshot.version == 0 {
            return Ok(None);
        }
        let (version, part) = (snapshot.version, Snapshot { version: 0, ..snapshot.for_proxy(&self.once) });
        if self.last.as_ref() == Some(&part) {
            return Ok(None);
        }
        let bytes = serde_json::to_vec(&Snapshot { version, ..part.clone() })?.into();
        self.last = Some(part);
        Ok(Some(Configuration { version, bytes }))
    }
}

/// The rows in which the connect hook reads pods' ports.
struct Rows {
    enforcer: Enforcer,
    taken_in: watch::Sender<BTreeSet<u64>>,
}

impl Ports for Rows {
    fn outbound(&self, cookie: u64, port: Option<u16>) {
        if let Err(error) = self.enforcer.listen(cookie, port) {
            tracing::error!(cookie, ?port, %error, "the kernel does not know where a pod's proxy listens");
        }
    }

    fn inbound(&self, cookie: u64, listener: Option<(u16, BorrowedFd<'_>)>) {
        let is_there = listener.is_some();
        match self.enforcer.take_in(cookie, listener) {
            Ok(()) => self.taken_in.send_modify(|known| {
                known.remove(&cookie);
                known.extend(is_there.then_some(cookie));
            }),
            Err(error) => tracing::error!(
                cookie, %error, "the kernel does not know where connections to a pod come to the proxy"
            ),
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
