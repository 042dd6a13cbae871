//! Tells the other nodes which pods of this one have joined: by a word on each pod.

use std::{collections::BTreeMap, convert::Infallible, sync::Arc, time::Duration};

use futures_util::{StreamExt as _, stream};
use tokio::{
    sync::watch,
    time::{Instant, sleep, sleep_until, timeout},
};
use weft_datapath::Enforcer;
use weft_kubernetes::{AskError, Cluster, Connection};
use weft_model::ObjectName;
use weft_runtime::{Backoff, Stop, Tasks};

use super::{Stage, stage::Local};

/// Says it, and takes it back.
pub(crate) struct Word {
    cluster: Cluster,
    /// The namespace of the mesh itself.
    system: Arc<str>,
    stage: Stage,
    local: watch::Receiver<Local>,
    enforcer: Enforcer,
    /// Nothing is said any more.
    ended: watch::Sender<bool>,
}

/// What is to be said of a pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Say {
    Joined,
    Out,
}

impl Word {
    /// Says it from now on, where this agent `tells` at all, by what the API server of `connection` lets it write.
    pub(crate) async fn start(
        tells: bool,
        connection: &Connection,
        system: &str,
        stage: &Stage,
        enforcer: &Enforcer,
        tasks: &Tasks,
    ) -> Result<Option<Arc<Self>>, weft_kubernetes::Error> {
        if !tells {
            return Ok(None);
        }
        let cluster = Cluster::connect(connection).await?;
        let word = Arc::new(Self {
            cluster,
            system: system.into(),
            stage: stage.clone(),
            local: stage.local(),
            enforcer: enforcer.clone(),
            ended: watch::Sender::new(false),
        });
        tasks.spawn("joined pods", Arc::clone(&word).follow(tasks.stop_signal()));
        Ok(Some(word))
    }

    /// Takes all back: from now on nobody is to send mutual TLS to pods of this node. What cannot be said in time is not; the
    /// rights to may have gone with the installation, and then its word counts for nothing.
    pub(crate) async fn take_back(word: Option<Arc<Self>>) {
        let Some(word) = word else { return };
        word.ended.send_replace(true);
        let all = word.local.borrow().told.clone();
        let said =
            timeout(LAST, word.say_all(all.into_iter().map(|pod| (pod, Say::Out)).collect(), "")).await;
        match said {
            Ok(failed) if failed.is_empty() => {}
            Ok(failed) => tracing::info!(
                pods = failed.len(),
                "other nodes hear only by their labels that pods have left"
            ),
            Err(_) => tracing::info!("other nodes hear only by their labels that pods have left"),
        }
    }

    async fn follow(self: Arc<Self>, stop: Stop) -> Result<(), Infallible> {
        let (mut local, mut ended) = (self.local.clone(), self.ended.subscribe());
        let mut backoff = Backoff::new(FIRST_WAIT, LONGEST_WAIT);
        let Some(word) = self.word(&stop).await else { return Ok(()) };
        // What was said, until the object shows it; and when it may be said again.
        let mut said = BTreeMap::<ObjectName, (Say, Instant)>::new();
        loop {
            let now = Instant::now();
            let wanted = wanted(&local.borrow_and_update());
            said.retain(|pod, (say, until)| wanted.get(pod) == Some(say) && *until > now);
            let mut new: Vec<_> = wanted.into_iter().filter(|(pod, _)| !said.contains_key(pod)).collect();
            if new.iter().any(|(_, say)| *say == Say::Joined) {
                // Whoever is told sends mutual TLS at once, and the app hears it where the kernel does not take it yet.
                tokio::select! {
                    () = self.enforcer.until_enforced(self.stage.latest()) => {}
                    () = stop.cancelled() => return Ok(()),
                }
                let still = self::wanted(&local.borrow());
                new.retain(|(pod, say)| still.get(pod) == Some(say));
            }
            let mut failed = Vec::new();
            if !new.is_empty() && !*ended.borrow_and_update() {
                failed = self.say_all(new.clone(), &word).await;
                if failed.is_empty() {
                    backoff.reset();
                }
            }
            let wait = if failed.is_empty() { AGAIN } else { backoff.step() };
            said.extend(new.into_iter().map(|(pod, say)| {
                let until = match say {
                    _ if failed.contains(&pod) => wait,
                    Say::Joined => AGAIN,
                    Say::Out => NEVER,
                };
                (pod, (say, Instant::now() + until))
            }));
            let due = said.values().map(|(_, until)| *until).min();
            tokio::select! {
                changed = local.changed() => if changed.is_err() { return Ok(()) },
                () = sleep_until(due.unwrap_or(now)), if due.is_some() => {}
                changed = ended.changed() => if changed.is_err() { return Ok(()) },
                () = stop.cancelled() => return Ok(()),
            }
        }
    }

    /// The word of this installation, once the API server has told it.
    async fn word(&self, stop: &Stop) -> Option<String> {
        let mut backoff = Backoff::new(FIRST_WAIT, LONGEST_WAIT);
        loop {
            match self.cluster.installation(&self.system).await {
                Ok(word) => return Some(word),
                Err(error) => {
                    tracing::warn!(%error, "nobody can be told which pods of this node have joined the mesh");
                    tokio::select! {
                        () = sleep(backoff.step()) => {}
                        () = stop.cancelled() => return None,
                    }
                }
            }
        }
    }

    /// Of whom it could not be said.
    async fn say_all(&self, all: Vec<(ObjectName, Say)>, word: &str) -> Vec<ObjectName> {
        let one = |(pod, say): (ObjectName, Say)| async move {
            let word = (say == Say::Joined).then_some(word);
            let said: Result<(), AskError> = self.cluster.say_joined(&pod, word).await;
            said.err().map(|error| (pod, error))
        };
        let failed: Vec<_> = stream::iter(all)
            .map(one)
            .buffer_unordered(AT_ONCE)
            .filter_map(std::future::ready)
            .collect()
            .await;
        if let Some((pod, error)) = failed.first() {
            tracing::warn!(
                %pod, failed = failed.len(), %error,
                "other nodes are not told which pods have joined the mesh, or have left it"
            );
        }
        failed.into_iter().map(|(pod, _)| pod).collect()
    }
}

fn wanted(local: &Local) -> BTreeMap<ObjectName, Say> {
    let joined = local.untold.keys().map(|pod| (pod.clone(), Say::Joined));
    joined.chain(local.out.iter().map(|pod| (pod.clone(), Say::Out))).collect()
}

/// Questions at a time.
const AT_ONCE: usize = 8;
/// How long it may take to take all back: within the half of `--withdraw-over` in which whoever is told finds the node open.
const LAST: Duration = Duration::from_secs(4);
/// Until what was said is said again, where the object does not show it: somebody has taken it away.
const AGAIN: Duration = Duration::from_secs(30);
/// What was taken away is not there again.
const NEVER: Duration = Duration::from_hours(24);
const FIRST_WAIT: Duration = Duration::from_millis(500);
const LONGEST_WAIT: Duration = Duration::from_secs(30);
