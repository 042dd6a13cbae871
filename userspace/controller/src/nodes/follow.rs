//! Reports as they come, and the progress that follows from them.

use std::{
    collections::BTreeSet,
    convert::Infallible,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use tokio::{
    sync::{Notify, watch},
    time::{MissedTickBehavior, interval, sleep},
};
use weft_model::{Progress, Report, ReportAnswer, Snapshot};
use weft_runtime::Stop;

use super::Nodes;

/// Where agents' reports come together. Clones share it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Reports {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    nodes: Mutex<Nodes>,
    came: Notify,
    progress: watch::Sender<Arc<Progress>>,
}

impl Default for Shared {
    /// Nobody has been looked for yet.
    fn default() -> Self {
        let nodes = Nodes::default();
        let progress = Arc::new(nodes.progress(Instant::now()));
        Self { nodes: Mutex::new(nodes), came: Notify::default(), progress: watch::Sender::new(progress) }
    }
}

impl Reports {
    /// Takes over what the agent of `node` reports.
    pub(crate) fn take(&self, node: &Arc<str>, report: Report) -> ReportAnswer {
        let answer = self.nodes().take(node, report, Instant::now());
        self.shared.came.notify_one();
        answer
    }

    /// How far nodes are, from now on.
    pub(crate) fn progress(&self) -> watch::Receiver<Arc<Progress>> {
        self.shared.progress.subscribe()
    }

    /// Keeps the progress up to date, by the agents' pods in `namespace`, until `stop`.
    pub(crate) async fn follow(
        self,
        mut snapshots: watch::Receiver<Arc<Snapshot>>,
        namespace: Arc<str>,
        stop: Stop,
    ) -> Result<(), Infallible> {
        let mut look = interval(LOOK);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                // Nodes finish one after the other: what comes within a moment is one change.
                () = self.shared.came.notified() => sleep(MOMENT).await,
                Ok(()) = snapshots.changed() => {}
                _ = look.tick() => {}
                () = stop.cancelled() => return Ok(()),
            }
            let snapshot = Arc::clone(&snapshots.borrow_and_update());
            self.look(&snapshot, &namespace);
        }
    }

    fn look(&self, snapshot: &Snapshot, namespace: &str) {
        let now = Instant::now();
        let mut nodes = self.nodes();
        nodes.own(&snapshot.generations);
        nodes.expect(&with_agents(snapshot, namespace), now);
        let progress = nodes.progress(now);
        drop(nodes);
        self.shared.progress.send_if_modified(|known| {
            let other = **known != progress;
            if other {
                *known = Arc::new(progress);
            }
            other
        });
    }

    fn nodes(&self) -> MutexGuard<'_, Nodes> {
        self.shared.nodes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The nodes that have an agent's pod.
fn with_agents(snapshot: &Snapshot, namespace: &str) -> BTreeSet<Arc<str>> {
    let pods = snapshot.workloads.values().filter(|pod| *pod.name.namespace == *namespace);
    let is = |labels: &std::collections::BTreeMap<String, String>, (key, value): (&str, &str)| {
        labels.get(key).is_some_and(|known| known == value)
    };
    let agents = pods.filter(|pod| AGENT.into_iter().all(|label| is(&pod.labels, label)));
    agents.filter_map(|pod| pod.node.clone()).collect()
}

/// The labels of agents' pods, as `weft install` has them.
const AGENT: [(&str, &str); 2] =
    [("app.kubernetes.io/name", "weft"), ("app.kubernetes.io/component", "agent")];
/// What comes within this is one change.
const MOMENT: Duration = Duration::from_millis(200);
/// How often it is looked who has fallen silent.
const LOOK: Duration = Duration::from_secs(10);
