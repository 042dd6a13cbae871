//! The task that has passages in force, and the handle by which others take part.

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    convert::Infallible,
    net::IpAddr,
    sync::Arc,
    time::Duration,
};

use tokio::{
    sync::watch,
    time::{Instant, sleep_until},
};
use weft_model::{ObjectName, Passage, Snapshot};
use weft_runtime::{Stop, Tasks};
use weft_telemetry::api::Degradation;

use super::{Here, Way, Ways, effect::Effect};

/// What stands between the source and those who follow it. Clones share it.
#[derive(Clone)]
pub(crate) struct Stage {
    here: Arc<watch::Sender<Here>>,
    reached: watch::Receiver<Reached>,
    local: watch::Receiver<Local>,
}

/// Which of its own versions holds all of a version of the source.
#[derive(Clone, Copy, Debug, Default)]
struct Reached {
    source: u64,
    given: u64,
}

/// How far pods of this node are.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Local {
    /// Those that join, and since when.
    pub(super) joins: BTreeMap<ObjectName, Instant>,
    /// Those that have joined, and nobody has been told, since when.
    pub(super) untold: BTreeMap<ObjectName, Instant>,
    /// Those that have joined, and everybody is told.
    pub(super) told: BTreeSet<ObjectName>,
    /// Those that are out of it, and it may be that nobody has been told.
    pub(super) out: BTreeSet<ObjectName>,
}

/// A pod that the runtime is starting, for as long as this is held.
pub(crate) struct Starting {
    here: Arc<watch::Sender<Here>>,
    pod: ObjectName,
}

impl Stage {
    /// Hands `snapshots` on with passages in force. With those of `left` an earlier agent has spoken by mutual TLS; `None` for
    /// with everybody.
    pub(crate) fn follow(
        snapshots: watch::Receiver<Arc<Snapshot>>,
        left: Option<HashSet<IpAddr>>,
        tasks: &Tasks,
    ) -> (Self, watch::Receiver<Arc<Snapshot>>) {
        let (give, given) = watch::channel(Arc::default());
        let (tell, local) = watch::channel(Local::default());
        let (reach, reached) = watch::channel(Reached::default());
        let (here, heard) = watch::channel(Here::default());
        let mut running = Running {
            snapshots,
            heard,
            give,
            tell,
            reach,
            ways: Ways::new(left),
            effect: None,
            ahead: 0,
            last: Instant::now(),
        };
        // What was kept is in force from the start.
        running.settle();
        tasks.spawn("passages", running.follow(tasks.stop_signal()));
        (Self { here: Arc::new(here), reached, local }, given)
    }

    /// `pod` is started by the runtime: it has never spoken in clear, and shall not.
    pub(crate) fn starts(&self, pod: ObjectName) -> Starting {
        self.here.send_modify(|here| here.fresh.extend([pod.clone()]));
        Starting { here: Arc::clone(&self.here), pod }
    }

    /// These pods of this node can prove who they are.
    pub(super) fn can_be_shown(&self, pods: BTreeSet<ObjectName>) {
        self.here.send_if_modified(|here| {
            let other = here.shown != pods;
            here.shown = pods;
            other
        });
    }

    /// The version that followers get of the source's `version`, once they do.
    pub(crate) async fn given(&self, version: u64) -> u64 {
        let mut reached = self.reached.clone();
        // A task that has ended gives nothing newer.
        match reached.wait_for(|reached| reached.source >= version).await {
            Ok(reached) => reached.given,
            Err(_) => version,
        }
    }

    /// The version that followers were given last: what has been said of pods of this node before holds in it.
    pub(super) fn latest(&self) -> u64 {
        self.reached.borrow().given
    }

    /// Waits until everybody is told that the pod of this node has joined.
    pub(crate) async fn until_told(&self, pod: &ObjectName) {
        let mut local = self.local.clone();
        // Nobody is told after the end.
        let _ = local.wait_for(|local| local.told.contains(pod)).await;
    }

    /// Waits until the pod of this node can prove who it is.
    pub(crate) async fn until_shown(&self, pod: &ObjectName) {
        let mut here = self.here.subscribe();
        // The sender is in `self`.
        let _ = here.wait_for(|here| here.shown.contains(pod)).await;
    }

    /// How far pods of this node are.
    pub(super) fn local(&self) -> watch::Receiver<Local> {
        self.local.clone()
    }

    /// The pods that are not where they should be, for status.
    pub(crate) fn degradations(&self) -> Vec<Degradation> {
        self.local.borrow().degradations(Instant::now())
    }
}

impl Drop for Starting {
    fn drop(&mut self) {
        self.here.send_modify(|here| here.fresh.retain(|pod| *pod != self.pod));
    }
}

struct Running {
    snapshots: watch::Receiver<Arc<Snapshot>>,
    heard: watch::Receiver<Here>,
    give: watch::Sender<Arc<Snapshot>>,
    tell: watch::Sender<Local>,
    reach: watch::Sender<Reached>,
    ways: Ways,
    effect: Option<Effect>,
    /// How many more versions there were than the source has.
    ahead: u64,
    last: Instant,
}

impl Running {
    async fn follow(mut self, stop: Stop) -> Result<(), Infallible> {
        loop {
            let due = self.ways.due();
            tokio::select! {
                changed = self.snapshots.changed() => if changed.is_err() { return Ok(()) },
                // The handle may be gone: nobody takes part then.
                Ok(()) = self.heard.changed() => {}
                () = sleep_until(due.unwrap_or(self.last)), if due.is_some() => {}
                () = stop.cancelled() => return Ok(()),
            }
            tokio::task::block_in_place(|| self.settle());
        }
    }

    fn settle(&mut self) {
        let snapshot = Arc::clone(&self.snapshots.borrow_and_update());
        let here = self.heard.borrow_and_update().clone();
        self.last = Instant::now();
        let passing = self.ways.follow(&snapshot, &here, self.last);
        let is_same = match &self.effect {
            Some(effect) => effect.is_of(&snapshot, &passing),
            None => passing.is_empty(),
        };
        let news = self.reach.borrow().source != snapshot.version;
        if !is_same {
            self.effect = (!passing.is_empty()).then(|| Effect::of(&snapshot, passing));
            self.ahead += u64::from(!news && snapshot.version > 0);
        }
        if !is_same || news {
            let version = if snapshot.version > 0 { snapshot.version + self.ahead } else { 0 };
            let given = match &self.effect {
                None if version == snapshot.version => Arc::clone(&snapshot),
                None => Arc::new(Snapshot { version, ..(*snapshot).clone() }),
                Some(effect) => Arc::new(Snapshot { version, ..effect.on(&snapshot) }),
            };
            self.give.send_replace(given);
            self.reach.send_replace(Reached { source: snapshot.version, given: version });
        }
        let local = Local::of(&self.ways, &snapshot, &self.tell.borrow(), self.last);
        self.tell.send_if_modified(|told| {
            let other = *told != local;
            *told = local;
            other
        });
    }
}

impl Local {
    pub(super) fn of(ways: &Ways, snapshot: &Snapshot, before: &Self, now: Instant) -> Self {
        let mut local = Self::default();
        for (name, member) in &ways.members {
            let Some(pod) = snapshot.workloads.get(name).filter(|pod| pod.local) else { continue };
            match member.way {
                Way::Joins { since } => drop(local.joins.insert(name.clone(), since)),
                Way::Joined if pod.passage == Passage::Done => drop(local.told.insert(name.clone())),
                Way::Joined => {
                    let since = before.untold.get(name).copied().unwrap_or(now);
                    local.untold.insert(name.clone(), since);
                }
                Way::Out => drop(local.out.insert(name.clone())),
                Way::Leaves { .. } => {}
            }
        }
        local
    }

    pub(super) fn degradations(&self, now: Instant) -> Vec<Degradation> {
        let without = late(
            &self.joins,
            now,
            "no certificate of theirs is shown by the node's proxy yet, so that they speak in clear",
            "see: weft get certificates; weft status, of the proxy",
        );
        let untold = late(
            &self.untold,
            now,
            "their objects do not say that they have joined, so that pods of other nodes speak with them in clear",
            "let agents patch pods/status, as `weft install` of this version does; the agent's log has the API server's words",
        );
        without.into_iter().chain(untold).collect()
    }
}

fn late(
    pods: &BTreeMap<ObjectName, Instant>,
    now: Instant,
    reason: &str,
    remedy: &str,
) -> Option<Degradation> {
    let late: Vec<_> = pods.iter().filter(|(_, since)| now - **since > LATE).map(|(pod, _)| pod).collect();
    let first = late.first()?;
    let others = if late.len() > 1 { format!(" and {} more", late.len() - 1) } else { String::new() };
    let feature = format!("mutual TLS of {first}{others}");
    Some(Degradation { feature, reason: reason.to_owned(), remedy: remedy.to_owned() })
}

/// A certificate takes a moment, and so does the API server.
const LATE: Duration = Duration::from_secs(10);
