//! The task that keeps the kernel at the last Snapshot, and the handle by which others ask about it.

use std::{
    collections::HashSet,
    net::IpAddr,
    os::fd::BorrowedFd,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use arc_swap::ArcSwap;
use aya::maps::{MapData, RingBuf};
use nix::time::{ClockId, clock_gettime};
use tokio::sync::watch;
use weft_model::{ObjectName, Snapshot};
use weft_runtime::{Stop, Tasks};
use weft_telemetry::{
    api::{BpfTable, ConnectionView, Failure, Status, Table},
    flows::FlowLog,
    live::Live,
    metrics::Metrics,
};

use crate::{
    flows::{self, Names, Tracker},
    host, kernel_log,
    proxy::{LocalPod, ProxyMaps},
    report,
    settings::Settings,
    state::{Error, State},
};

/// The data path of one agent. Clones share it.
#[derive(Clone)]
pub struct Enforcer {
    shared: Arc<Shared>,
}

struct Shared {
    settings: Settings,
    state: Mutex<State>,
    report: Mutex<Report>,
    progress: watch::Sender<Progress>,
    names: Arc<ArcSwap<Names>>,
    log: Arc<FlowLog>,
    metrics: Arc<Metrics>,
    tracker: Arc<Tracker>,
    /// What the node's proxies carry.
    live: Live,
    pods: watch::Sender<Option<Arc<[LocalPod]>>>,
}

/// What is known without asking the kernel.
#[derive(Default)]
struct Report {
    /// The last version that is in the kernel.
    applied: u64,
    /// The last one that the proxy knows, too.
    enforced: u64,
    failure: Option<Failure>,
    status: Status,
}

/// How far things are, for those who wait.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Progress {
    applied: u64,
    enforced: u64,
}

impl Enforcer {
    /// Loads the programs and adopts what an earlier agent left; attaches nothing yet. `live` is what the node's proxies
    /// tell of the connections that they carry.
    pub fn open(settings: Settings, live: Live) -> Result<Self, Error> {
        let state = State::open(&settings)?;
        let metrics = Arc::new(Metrics::new(&settings.version));
        let shared = Shared {
            state: Mutex::new(state),
            report: Mutex::default(),
            progress: watch::Sender::default(),
            names: Arc::default(),
            log: Arc::default(),
            metrics,
            tracker: Arc::default(),
            live,
            pods: watch::Sender::default(),
            settings,
        };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// Starts following `snapshots`. Enforcement stays in the kernel when the tasks end.
    ///
    /// `known` is the version that the node's proxy knows: connections of a Service that is new to it stay in the
    /// kernel until then. What it knew before is not taken away from it.
    pub fn start(
        &self,
        tasks: &Tasks,
        snapshots: watch::Receiver<Arc<Snapshot>>,
        known: watch::Receiver<u64>,
    ) {
        if let Some(ring) = self.state().maps.events.take() {
            tasks.spawn("flow events", self.clone().read_events(ring, tasks.stop_signal()));
        }
        kernel_log::start(&mut self.state().loaded.ebpf, tasks);
        tasks.spawn("enforcer", self.clone().follow(snapshots, known, tasks.stop_signal()));
    }

    /// How the data path is doing; `snapshot` is the configuration read last. May block.
    pub fn status(&self, snapshot: &Snapshot) -> Status {
        let report = self.report();
        let mut status = report.status.clone();
        status.snapshot_version = snapshot.version;
        status.enforced_version = report.enforced;
        status.failure.clone_from(&report.failure);
        status.problems.splice(0..0, snapshot.problems.iter().cloned());
        drop(report);
        status.counters = report::counters(&self.state());
        status
    }

    /// The version that the kernel enforces and the proxy knows, or why there is none.
    pub fn enforced(&self) -> Result<u64, Failure> {
        let report = self.report();
        match (&report.failure, report.enforced) {
            (Some(failure), _) => Err(failure.clone()),
            (None, 0) => Err(Failure::new("nothing is enforced yet", "the agent has just started")),
            (None, version) => Ok(version),
        }
    }

    /// Waits until a Snapshot that is no older than `version` is in the kernel: for ever, where the kernel has no room for any.
    pub async fn until_applied(&self, version: u64) {
        self.until(|progress| progress.applied >= version).await;
    }

    /// As [`Enforcer::until_applied`], until the node's proxy knows it, too.
    pub async fn until_enforced(&self, version: u64) {
        self.until(|progress| progress.enforced >= version).await;
    }

    /// Whether the pod is protected in the network namespace with this inode.
    pub fn protects(&self, pod: &ObjectName, inode: u64) -> bool {
        let pods = self.shared.pods.borrow();
        let is_it = |held: &LocalPod| held.name == *pod && held.netns.id().inode() == inode;
        pods.as_deref().is_some_and(|pods| pods.iter().any(is_it))
    }

    /// Whose connections are probes from now on: those of this cgroup. Blocks.
    pub fn probes_are(&self, cgroup: &Path) -> Result<(), Error> {
        let id = host::cgroup_id(cgroup)
            .map_err(|source| Error::ProbeCgroup { path: cgroup.to_owned(), source })?;
        self.state().probes_are(id)
    }

    /// The version that the kernel enforces and the proxy knows, 0 before there is one; and why that is not the newest, where it
    /// was tried.
    pub fn in_force(&self) -> (u64, Option<Failure>) {
        let report = self.report();
        (report.enforced, report.failure.clone())
    }

    /// The live connections of this node's pods. Blocks.
    pub fn connections(&self) -> Result<Vec<ConnectionView>, Failure> {
        let lister = report::Lister::new(&self.state())?;
        report::connections(&lister, &self.shared.names.load(), &self.shared.live)
    }

    /// What the kernel holds. Blocks.
    pub fn bpf(&self, table: BpfTable) -> Table {
        report::table(&self.state(), &self.shared.names.load(), table)
    }

    /// The last flows.
    pub fn flows(&self) -> &FlowLog {
        &self.shared.log
    }

    /// The metrics.
    pub fn metrics(&self) -> &Metrics {
        &self.shared.metrics
    }

    /// Of an agent that has just begun: the addresses of pods that are spoken to by mutual TLS, as an earlier agent has left it
    /// in the kernel; `None` where that one had rows of another layout, which nobody reads.
    pub fn sealed(&self) -> Option<HashSet<IpAddr>> {
        let state = self.state();
        state.loaded.retired.is_empty().then(|| state.pods.sealed())
    }

    /// The enrolled pods of this node whose namespaces are held, whenever they change; `None` until a Snapshot
    /// is enforced, which is no reason to take the pods of an earlier agent for gone.
    pub fn pods(&self) -> watch::Receiver<Option<Arc<[LocalPod]>>> {
        self.shared.pods.subscribe()
    }

    /// Where the connections of the pod with this network namespace come to the node's proxy: the port of its
    /// outbound listener. `None` takes that back. Blocks.
    pub fn listen(&self, netns_cookie: u64, port: Option<u16>) -> Result<(), Error> {
        let mut state = self.state();
        state.listen(netns_cookie, port.unwrap_or(0))?;
        // With the first pod that comes to the proxy, acceleration was tried.
        report::refresh(&state, &mut self.report().status);
        Ok(())
    }

    /// Where connections that others make to the pod with this network namespace come to the node's proxy: its
    /// inbound listener, and the port of that. `None` takes that back. Blocks.
    pub fn take_in(&self, netns_cookie: u64, listener: Option<(u16, BorrowedFd<'_>)>) -> Result<(), Error> {
        self.state().take_in(netns_cookie, listener)
    }

    /// By which cgroup the node's proxy is known: its own connections are not sent to it. Blocks.
    pub fn proxy_is(&self, cgroup: &Path) -> Result<(), Error> {
        let id = host::cgroup_id(cgroup)
            .map_err(|source| Error::ProxyCgroup { path: cgroup.to_owned(), source })?;
        self.state().proxy_is(id)
    }

    /// The cgroup that the programs are attached to: the proxy's is to be below it.
    pub fn cgroup(&self) -> PathBuf {
        self.state().cgroup.clone()
    }

    /// The maps that the node's proxy works with.
    pub fn proxy_maps(&self) -> std::io::Result<ProxyMaps> {
        self.state().maps.for_proxy()
    }

    /// The proxy's maps of layouts that are older than this agent's, as long as a proxy may need what is in them.
    pub fn older_maps(&self) -> watch::Receiver<Arc<[Arc<ProxyMaps>]>> {
        self.state().succession.older()
    }

    /// Whether an earlier agent's programs, on maps of another layout, go on until the proxy knows what it has to for those
    /// of this one.
    pub fn follows_another_layout(&self) -> bool {
        self.state().follows_another_layout()
    }

    /// How long ago a proxy said last that it is there; `None` where none has.
    pub fn lease_age(&self) -> Option<Duration> {
        let renewed = self.state().maps.lease_renewed_ns();
        let now = clock_gettime(ClockId::CLOCK_MONOTONIC).map(Duration::from).unwrap_or_default();
        (renewed > 0).then(|| now.saturating_sub(Duration::from_nanos(renewed)))
    }

    async fn read_events(self, ring: RingBuf<MapData>, stop: Stop) -> Result<(), std::convert::Infallible> {
        let Shared { names, log, metrics, tracker, .. } = &*self.shared;
        flows::read(ring, Arc::clone(names), Arc::clone(log), Arc::clone(metrics), Arc::clone(tracker), stop)
            .await
    }

    async fn follow(
        self,
        mut snapshots: watch::Receiver<Arc<Snapshot>>,
        mut known: watch::Receiver<u64>,
        stop: Stop,
    ) -> Result<(), std::convert::Infallible> {
        let mut look = tokio::time::interval(LOOK);
        let (mut foreign, mut counted) = (tokio::time::interval(FOREIGN), tokio::time::interval(COUNT));
        for timer in [&mut look, &mut foreign, &mut counted] {
            timer.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        }
        self.apply(&snapshots.borrow_and_update().clone(), *known.borrow_and_update());
        loop {
            tokio::select! {
                changed = snapshots.changed() => match changed {
                    Ok(()) => self.apply(&snapshots.borrow_and_update().clone(), *known.borrow_and_update()),
                    Err(_) => return Ok(()),
                },
                Ok(()) = known.changed() => self.learnt(&snapshots.borrow().clone(), *known.borrow_and_update()),
                _ = look.tick() => self.look(&snapshots.borrow().clone(), *known.borrow()),
                _ = foreign.tick() => self.look_for_foreigners(&snapshots.borrow().clone(), *known.borrow()),
                _ = counted.tick() => self.count(),
                () = stop.cancelled() => return Ok(()),
            }
        }
    }

    /// The proxy knows more: what waited for that may go there.
    fn learnt(&self, snapshot: &Arc<Snapshot>, known: u64) {
        let state = self.state();
        let (prepared, waits) = (state.follows_another_layout(), state.services.wait_for_proxy());
        drop(state);
        let mut report = self.report();
        if known < snapshot.version || (report.applied != snapshot.version && !prepared) {
            return;
        }
        if waits || prepared {
            drop(report);
            self.apply(snapshot, known);
        } else {
            report.enforced = report.applied;
            self.tell(&report);
        }
    }

    fn apply(&self, snapshot: &Arc<Snapshot>, known: u64) {
        // The source's first Snapshot has a version; before it there is nothing to enforce.
        if snapshot.version == 0 {
            return;
        }
        tokio::task::block_in_place(|| {
            let began = Instant::now();
            let mut state = self.state();
            if known < snapshot.version && state.follows_another_layout() {
                let pods = state.prepare(snapshot);
                drop(state);
                return self.wait_for_proxy(pods);
            }
            let outcome = state.apply(snapshot, known >= snapshot.version);
            self.rename(&state, snapshot);
            let status = report::status(&state, &self.shared.settings, snapshot);
            let unprotected = report::unprotected(&state);
            let pods = state.local_pods();
            drop(state);
            self.lend(pods);
            let mut report = self.report();
            report.status = status;
            match outcome {
                Ok(()) => {
                    self.shared.metrics.agent.applied(began.elapsed());
                    report.applied = snapshot.version;
                    if known >= snapshot.version {
                        report.enforced = snapshot.version;
                    }
                    report.failure = unprotected;
                    self.tell(&report);
                    tracing::debug!(version = snapshot.version, took = ?began.elapsed(), "enforced");
                }
                Err(error) => {
                    tracing::error!(version = snapshot.version, %error, "not enforced; what was enforced before stays");
                    report.failure = Some(Failure::new(error.to_string(), ""));
                }
            }
        });
    }

    /// Has the proxy be ready for these pods, while programs of an older layout go on.
    fn wait_for_proxy(&self, pods: Vec<LocalPod>) {
        self.lend(Some(pods));
        let why =
            "programs of an earlier layout of maps go on until the node's proxy has the maps of this one";
        self.report().failure = Some(Failure::new(why, ""));
    }

    fn lend(&self, pods: Option<Vec<LocalPod>>) {
        self.shared.pods.send_if_modified(|known| {
            let other = known.as_deref() != pods.as_deref();
            if other {
                *known = pods.map(Into::into);
            }
            other
        });
    }

    fn tell(&self, report: &Report) {
        let Report { applied, enforced, .. } = *report;
        self.shared.progress.send_replace(Progress { applied, enforced });
    }

    async fn until(&self, holds: impl Fn(&Progress) -> bool) {
        let mut progress = self.shared.progress.subscribe();
        // The sender is in `self`.
        let _ = progress.wait_for(|progress| holds(progress)).await;
    }

    /// Every few hundred milliseconds: namespaces that came or went, rows that are due to go, whether the kernel can
    /// accelerate.
    fn look(&self, snapshot: &Arc<Snapshot>, known: u64) {
        let (moved, room) = tokio::task::block_in_place(|| {
            let mut state = self.state();
            let removed = state.upkeep().unwrap_or_else(|error| {
                tracing::error!(%error, "rows that were replaced could not be removed");
                false
            });
            (state.namespaces_moved() || state.trial_has_ended(), removed)
        });
        // What did not fit beside rows that were about to go may fit now.
        if moved || (room && self.report().failure.is_some()) {
            self.apply(snapshot, known);
        }
    }

    /// Every few seconds: foreign programs that came or went, and what they kept from us.
    fn look_for_foreigners(&self, snapshot: &Arc<Snapshot>, known: u64) {
        let refused = tokio::task::block_in_place(|| {
            let mut state = self.state();
            let refused = state.attach_again().unwrap_or_else(|error| {
                tracing::error!(%error, "programs could not be attached");
                false
            });
            if let Err(error) = state.look_for_foreigners() {
                tracing::error!(%error, "the backstop could not be attached");
            }
            report::refresh(&state, &mut self.report().status);
            refused
        });
        // A failure may have been the kernel's moment of want.
        if refused || self.report().failure.is_some() {
            self.apply(snapshot, known);
        }
    }

    fn count(&self) {
        tokio::task::block_in_place(|| {
            let lister = report::Lister::new(&self.state());
            match lister {
                Ok(lister) => {
                    let Shared { names, live, tracker, metrics, .. } = &*self.shared;
                    report::progress(&lister, &names.load(), live, tracker, metrics);
                }
                Err(error) => tracing::warn!(%error, "bytes of live connections are not counted"),
            }
        });
    }

    fn rename(&self, state: &State, snapshot: &Snapshot) {
        let services = state.services.owners().map(|(id, name)| (id, name.clone())).collect();
        let before = self.shared.names.load();
        let same = before.same_pods(snapshot).then_some(&**before);
        self.shared.names.store(Arc::new(Names::new(snapshot, services, state.policies.rules(), same)));
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // A panic inside an update leaves rows that the next update compares with and completes.
        self.shared.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn report(&self) -> MutexGuard<'_, Report> {
        self.shared.report.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// contract: a namespace is let go of within a second.
const LOOK: Duration = Duration::from_millis(200);
const FOREIGN: Duration = Duration::from_secs(5);
const COUNT: Duration = Duration::from_secs(5);
