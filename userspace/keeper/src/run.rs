//! The keeper's task: after each event, what there is becomes what should be.

mod events;
mod processes;

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, watch};
use weft_runtime::{Backoff, Stop, Tasks};
use weft_telemetry::api::{Failure, Time};
use weft_transport::handover::{Hello, generation};
use weft_transport::seqpacket::{self, Connection, Listener};

use crate::counting::Counting;
use crate::event::Event;
use crate::generations::{Generation, Generations};
use crate::keeper::Shared;
use crate::living::living;
use crate::log::Log;
use crate::pods::Pods;
use crate::process::Process;
use crate::strangers::Strangers;
use crate::tellers::Tellers;
use crate::transparent::Namespaces;
use crate::upgrade::{Request, Upgrade};
use crate::wishes::{Older, Snapshot, Wishes};
use crate::{Configuration, Identities, Inputs, LocalPod, Maps, Records, session};

/// Everything that the keeper knows.
pub(crate) struct Run {
    pub(crate) shared: Arc<Shared>,
    tasks: Tasks,
    hello: Hello,
    log: Log,
    // What should be.
    wanted: watch::Receiver<Option<Arc<[LocalPod]>>>,
    configuration: watch::Receiver<Option<Configuration>>,
    pub(crate) identities: watch::Receiver<Option<Identities>>,
    maps: Arc<Maps>,
    older: watch::Receiver<Arc<[Maps]>>,
    older_maps: Older,
    records: Arc<dyn Records>,
    counting: Counting,
    pub(crate) snapshot: Option<Snapshot>,
    last_good: Option<Snapshot>,
    // What there is.
    pub(crate) pods: Pods,
    pub(crate) generations: Generations,
    pub(crate) strangers: Strangers,
    tellers: Tellers,
    processes: BTreeMap<u32, Process>,
    last_session: u64,
    // What is under way.
    events: mpsc::Sender<Event>,
    happened: Option<mpsc::Receiver<Event>>,
    upgrade: Option<Upgrade>,
    backoff: Backoff,
    /// Whether a proxy of another build was looked for and replaced.
    replaced: bool,
    /// Not before this moment is the next proxy started.
    next_start: Option<Instant>,
    // What was.
    pub(crate) restarts: u64,
    pub(crate) failure: Option<Failure>,
    pub(crate) without_since: Option<Time>,
}

impl Run {
    pub(crate) fn new(shared: Arc<Shared>, tasks: Tasks, inputs: Inputs) -> Self {
        let Inputs { pods: wanted, configuration, identities, maps, mut older, ports, records } = inputs;
        let older_maps = Older { revision: 1, maps: Arc::clone(&older.borrow_and_update()) };
        let (events, happened) = mpsc::channel(MOST_EVENTS);
        Self {
            hello: Hello::of_this_process(generation(), shared.settings.build.clone()),
            log: Log::of(&shared.settings.run_dir),
            pods: Pods::new(
                ports,
                shared.settings.inbound,
                Namespaces::of(&shared.settings.run_dir),
                shared.settings.drain,
            ),
            maps: Arc::new(maps),
            older,
            older_maps,
            counting: Counting::start(Arc::clone(&records)),
            records,
            shared,
            tasks,
            wanted,
            configuration,
            identities,
            snapshot: None,
            last_good: None,
            generations: Generations::default(),
            strangers: Strangers::default(),
            tellers: Tellers::default(),
            processes: BTreeMap::new(),
            last_session: 0,
            events,
            happened: Some(happened),
            upgrade: None,
            backoff: Backoff::new(FIRST_WAIT, LONGEST_WAIT),
            replaced: false,
            next_start: None,
            restarts: 0,
            failure: None,
            without_since: None,
        }
    }

    /// Until the agent ends. What runs goes on.
    pub(crate) async fn follow(
        mut self,
        listener: Listener,
        mut requests: mpsc::Receiver<Request>,
        stop: Stop,
    ) -> Result<(), Infallible> {
        let mut happened = self.happened.take().expect("it is taken here only");
        self.read_configuration();
        loop {
            let pause = tokio::task::block_in_place(|| self.settle(Instant::now()));
            tokio::select! {
                Some(event) = happened.recv() => self.handle(event),
                connection = listener.accept() => self.greet(connection),
                Ok(()) = self.wanted.changed() => {}
                Ok(()) = self.configuration.changed() => self.read_configuration(),
                Ok(()) = self.identities.changed() => {}
                Ok(()) = self.older.changed() => self.read_older_maps(),
                Some(request) = requests.recv() => self.begin_upgrade(request),
                () = tokio::time::sleep(pause) => {}
                () = stop.cancelled() => return Ok(()),
            }
        }
    }

    /// Makes what there is what it should be. The time after which it is worth looking again without an event.
    fn settle(&mut self, now: Instant) -> Duration {
        self.look_at_processes(now);
        self.judge();
        let waits = self.strangers.may_come(now);
        let served = self.lend(!waits && self.may_make_listeners());
        self.wish();
        let ready = !waits && self.strangers.all_incompatible().is_empty();
        if ready && self.needs_another(now) {
            self.start();
        }
        self.replace_left();
        self.log.bound();
        self.publish();
        self.finish_upgrade();
        let moves = self.strangers.any() || self.tellers.any_leaves() || self.is_anything_due();
        let look = match (moves, served) {
            (true, _) => SOON,
            (false, _) if self.pods.any_withdrawn() => NAMESPACES,
            (false, false) => AGAIN,
            (false, true) => LATER,
        };
        let start = self.next_start.map_or(look, |at| at.saturating_duration_since(now));
        start.clamp(Duration::from_millis(1), look)
    }

    /// Who lives, and whether those that were started are in time.
    fn look_at_processes(&mut self, now: Instant) {
        let met = self.generations.by_age().into_iter().map(|generation| generation.hello.pid);
        let starting = self.processes.values().filter(|process| !process.met).map(|process| process.pid);
        let known: BTreeSet<i32> = met.chain(starting).filter_map(|pid| i32::try_from(pid).ok()).collect();
        let living = living(&self.shared.settings.run_dir, &self.shared.group, &known);
        for generation in self.tellers.gone(&living) {
            self.records.ended(generation);
        }
        if let Some((pid, generation)) = self.strangers.look(&living, &known, now) {
            self.died(pid, generation);
        }
        self.look_at_the_time(now);
    }

    /// Listeners that an earlier agent has made are its proxies'; others would take connections from them.
    fn may_make_listeners(&self) -> bool {
        let served = self.configuration.borrow().is_some() || self.generations.len() > 0;
        served && (self.strangers.all_incompatible().is_empty() || self.upgrade.is_some())
    }

    /// Whether all pods are as they should be.
    fn lend(&mut self, may_make: bool) -> bool {
        let Some(wanted) = self.wanted.borrow_and_update().clone() else { return true };
        self.pods.follow(&wanted, may_make)
    }

    /// Tells each session what its proxy should have; nothing, until it is known which pods there are.
    fn wish(&self) {
        if self.wanted.borrow().is_none() {
            return;
        }
        self.generations.wish(|generation: &Generation| Wishes {
            maps: Arc::clone(&self.maps),
            older: self.older_maps.clone(),
            identities: self.identities.borrow().clone(),
            snapshot: self.snapshot.clone(),
            last_good: self.last_good.clone(),
            pods: Arc::clone(self.pods.lent()),
            serves: !generation.retired,
            // One that says so itself was told by whom it knew before.
            drain: (generation.retired && !generation.hello.draining).then_some(self.shared.settings.drain),
        });
    }

    fn needs_another(&mut self, now: Instant) -> bool {
        let needed = self.snapshot.is_some() && self.wanted.borrow().is_some();
        let silent = |pid| self.generations.of(pid).is_some_and(|generation| generation.progress.silent);
        let started = self.processes.values().any(|process| !process.retired && !silent(process.pid));
        let there = self.generations.serve() || started;
        let due = self.next_start.is_none_or(|at| now >= at);
        needed && !there && due
    }

    fn is_anything_due(&self) -> bool {
        self.upgrade.is_some() || self.processes.values().any(|process| !process.met)
    }

    fn greet(&mut self, connection: Result<Connection, seqpacket::Error>) {
        let connection = match connection {
            Ok(connection) if self.generations.len() < MOST_SESSIONS => connection,
            // It tries again.
            Ok(_) => return tracing::warn!("more proxies connect than there can be; one is turned away"),
            Err(error) => return tracing::warn!(%error, "a proxy could not connect"),
        };
        self.last_session += 1;
        let (number, hello, events) = (self.last_session, self.hello.clone(), self.events.clone());
        let (counting, stop) = (self.counting.clone(), self.tasks.stop_signal());
        let session = session::run(number, connection, hello, events, counting, stop);
        self.tasks.spawn("proxy session", session);
    }
}

/// How long a proxy that was sent SIGTERM may finish what it carries, and by default one that was replaced.
pub const DRAIN: Duration = Duration::from_mins(5);
/// Proxies that may be connected at once.
const MOST_SESSIONS: usize = 16;
/// Events that may wait to be handled; whoever has one more waits.
const MOST_EVENTS: usize = 64;
/// Between two looks while something is under way.
const SOON: Duration = Duration::from_millis(100);
/// Between two tries to make a listener.
const AGAIN: Duration = Duration::from_secs(1);
/// Between two looks whether the namespace of a pod that has left the mesh is still there: it shall go within a second.
const NAMESPACES: Duration = Duration::from_millis(500);
/// Between two looks while nothing is.
const LATER: Duration = Duration::from_secs(30);
/// Before a proxy that ended is replaced: well within its lease of 5 s.
const FIRST_WAIT: Duration = Duration::from_millis(100);
const LONGEST_WAIT: Duration = Duration::from_secs(15);
