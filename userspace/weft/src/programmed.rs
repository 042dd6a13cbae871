//! Tells the controllers which generations of objects are in force on this node.

use std::{
    collections::{BTreeMap, VecDeque},
    convert::Infallible,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use futures_util::future::join_all;
use http::Method;
use tokio::{
    sync::watch,
    time::{MissedTickBehavior, interval},
};
use weft_datapath::Enforcer;
use weft_identity::controller::Controllers;
use weft_model::{Generations, PROGRAMMED, ReportAnswer, Snapshot, Told};
use weft_runtime::{Backoff, Stop};

/// Tells each controller whenever something has changed, and once a minute, until `stop`. One that does not answer is told
/// later: no other one waits for it, and nothing else does.
pub(crate) async fn tell(
    controllers: Controllers,
    enforcer: Enforcer,
    snapshots: watch::Receiver<Arc<Snapshot>>,
    stop: Stop,
) -> Result<(), Infallible> {
    let mut look = interval(LOOK);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut in_force, mut each) = (InForce::default(), BTreeMap::<SocketAddr, Controller>::new());
    loop {
        tokio::select! {
            _ = look.tick() => {}
            () = stop.cancelled() => return Ok(()),
        }
        let (version, failure) = enforcer.in_force();
        in_force.look(&snapshots.borrow(), version);
        let Some(generations) = in_force.generations.clone() else { continue };
        let addresses = controllers.addresses();
        each.retain(|address, _| addresses.contains(address));
        for &address in &*addresses {
            each.entry(address).or_default();
        }
        let failure = failure.map(|failure| failure.message);
        let telling = each.iter_mut().map(|(address, controller)| {
            controller.tell(&controllers, *address, &generations, failure.as_deref())
        });
        join_all(telling).await;
    }
}

/// One of them, and what it knows.
struct Controller {
    told: Told,
    backoff: Backoff,
    /// It has not answered: not again before.
    then: Option<Instant>,
}

impl Default for Controller {
    fn default() -> Self {
        Self { told: Told::default(), backoff: Backoff::new(SHORTEST, LONGEST), then: None }
    }
}

impl Controller {
    async fn tell(
        &mut self,
        controllers: &Controllers,
        address: SocketAddr,
        generations: &Arc<Generations>,
        failure: Option<&str>,
    ) {
        if self.then.is_some_and(|then| Instant::now() < then) {
            return;
        }
        self.then = None;
        match self.tried(controllers, address, generations, failure).await {
            Ok(()) => self.backoff.reset(),
            Err(error) => {
                tracing::debug!(controller = %address, error, "what is in force is not told; it is tried again");
                self.then = Some(Instant::now() + self.backoff.step());
            }
        }
    }

    async fn tried(
        &mut self,
        controllers: &Controllers,
        address: SocketAddr,
        generations: &Arc<Generations>,
        failure: Option<&str>,
    ) -> Result<(), String> {
        // It may have to be told the whole; it is not asked for that twice.
        for _ in 0..2 {
            let Some(report) = self.told.due(generations, failure, Instant::now()) else { return Ok(()) };
            let body = serde_json::to_vec(&report).map_err(|error| error.to_string())?;
            let answer = controllers.ask_at(address, Method::POST, PROGRAMMED, body.into()).await;
            let answer = answer.map_err(|error| error.to_string())?;
            let answer: ReportAnswer = serde_json::from_slice(&answer).map_err(|error| error.to_string())?;
            self.told.answered(report, generations, answer, Instant::now());
        }
        Ok(())
    }
}

/// What is in force, found out by the versions of snapshots.
#[derive(Debug, Default)]
struct InForce {
    generations: Option<Arc<Generations>>,
    /// Versions that are not in force yet.
    coming: VecDeque<(u64, Arc<Generations>)>,
}

impl InForce {
    /// The newest snapshot is this one, and the version `enforced` is in force.
    fn look(&mut self, newest: &Snapshot, enforced: u64) {
        let last = self.coming.back().map(|(_, generations)| generations).or(self.generations.as_ref());
        if newest.version > 0 && last != Some(&newest.generations) {
            self.coming.push_back((newest.version, Arc::clone(&newest.generations)));
        }
        while let Some((_, generations)) = self.coming.pop_front_if(|(version, _)| *version <= enforced) {
            self.generations = Some(generations);
        }
    }
}

/// What changes within this is one report.
const LOOK: Duration = Duration::from_secs(1);
/// Waits between tries that fail.
const SHORTEST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(30);

#[cfg(test)]
mod tests {
    use super::*;

    fn snapshot(version: u64, generation: i64) -> Snapshot {
        let generations = Arc::new(Generations::from([("TrafficPolicy shop/a".into(), generation)]));
        Snapshot { version, generations, ..Snapshot::default() }
    }

    #[test]
    fn what_is_in_force_is_what_was_in_a_version_that_is_enforced() {
        let mut in_force = InForce::default();
        let mut at = |snapshot: &Snapshot, enforced| {
            in_force.look(snapshot, enforced);
            in_force.generations.as_ref().map(|generations| generations["TrafficPolicy shop/a"])
        };
        assert_eq!(at(&Snapshot::default(), 0), None, "nothing is");
        assert_eq!(at(&snapshot(1, 1), 0), None);
        assert_eq!(at(&snapshot(1, 1), 1), Some(1));
        assert_eq!(at(&snapshot(5, 2), 4), Some(1), "endpoints come and go meanwhile");
        assert_eq!(at(&snapshot(9, 2), 6), Some(2));
        assert_eq!(at(&snapshot(12, 4), 10), Some(2));
        assert_eq!(at(&snapshot(13, 5), 12), Some(4));
        assert_eq!(at(&snapshot(13, 5), 13), Some(5));
    }
}
