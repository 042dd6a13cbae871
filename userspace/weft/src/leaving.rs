//! How a node leaves the mesh while its pods go on speaking with those of others, which may leave a moment earlier or later.
//!
//! ```text
//! first   policies, tokens and Strict go    what comes in clear, or as nobody, is let in
//!         the others hear of it             and send in clear, each from when it hears
//! then    what goes out goes in clear       mutual TLS still comes in, from nodes that are not so far
//! last    all is withdrawn
//! ```
//!
//! So nodes that begin within one step's time of each other refuse nothing of each other's.

use std::{collections::BTreeMap, convert::Infallible, sync::Arc, time::Duration};

use tokio::{
    sync::watch,
    time::{Instant, sleep, sleep_until, timeout_at},
};
use weft_model::{Mtls, MtlsMode, Passage, PodMtls, Snapshot};
use weft_runtime::{Stop, Tasks};

/// What stands between the source and those who follow it.
pub(crate) struct Leaving {
    step: watch::Sender<Step>,
    given: watch::Receiver<Arc<Snapshot>>,
}

/// How far a node has left.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Step {
    /// It has not begun to.
    #[default]
    Stays,
    /// Whoever comes is let in.
    Open,
    /// And whoever goes out does so in clear.
    Clear,
}

impl Leaving {
    /// Hands `snapshots` on, until the node leaves. The receiver is for everybody else.
    pub(crate) fn follow(
        snapshots: watch::Receiver<Arc<Snapshot>>,
        tasks: &Tasks,
    ) -> (Self, watch::Receiver<Arc<Snapshot>>) {
        let (give, given) = watch::channel(Arc::clone(&snapshots.borrow()));
        let (step, steps) = watch::channel(Step::default());
        tasks.spawn("snapshots", hand_on(snapshots, steps, give, tasks.stop_signal()));
        (Self { step, given: given.clone() }, given)
    }

    /// Takes both steps within `time`. What of it is not needed takes no time. `tell` lets the others know, who send in clear
    /// from then on: that must find nobody here who refuses it, so the first step is `in_force` before.
    pub(crate) async fn leave(
        mut self,
        time: Duration,
        in_force: impl AsyncFnOnce(u64),
        tell: impl Future<Output = ()>,
    ) {
        let snapshot = Arc::clone(&self.given.borrow());
        if !snapshot.mtls.on && snapshot.policies.is_empty() && snapshot.jwt.is_empty() {
            return tell.await;
        }
        let half = Instant::now() + time / 2;
        self.step.send_replace(Step::Open);
        // Late is late: the others leave by the same clock.
        let _ = timeout_at(half, async {
            if let Ok(open) =
                self.given.wait_for(|given| given.version > snapshot.version).await.map(|given| given.version)
            {
                in_force(open).await;
            }
            tell.await;
        })
        .await;
        sleep_until(half).await;
        self.step.send_replace(Step::Clear);
        sleep(time / 2).await;
    }
}

async fn hand_on(
    mut snapshots: watch::Receiver<Arc<Snapshot>>,
    mut steps: watch::Receiver<Step>,
    give: watch::Sender<Arc<Snapshot>>,
    ends: Stop,
) -> Result<(), Infallible> {
    loop {
        tokio::select! {
            changed = snapshots.changed() => if changed.is_err() { return Ok(()) },
            changed = steps.changed() => if changed.is_err() { return Ok(()) },
            () = ends.cancelled() => return Ok(()),
        }
        let (snapshot, step) = (Arc::clone(&snapshots.borrow_and_update()), *steps.borrow_and_update());
        let before = give.borrow().version;
        give.send_replace(match step {
            Step::Stays => snapshot,
            // As new as what was given last, and newer than anything that the source can name.
            step => {
                Arc::new(Snapshot { version: before.max(snapshot.version) + 1, ..without(&snapshot, step) })
            }
        });
    }
}

/// `snapshot` as far as it is in force in a step.
fn without(snapshot: &Snapshot, step: Step) -> Snapshot {
    let (policies, jwt) = Default::default();
    let mtls = if snapshot.mtls.on {
        // Who does not understand mutual TLS yet is still sent none.
        let others = snapshot.workloads.values().filter(|pod| !pod.local);
        let others = others.filter(|pod| step == Step::Clear || pod.passage != Passage::Done);
        let clear = Arc::new(PodMtls { mode: MtlsMode::Disabled, ports: BTreeMap::new() });
        let pods = others.map(|pod| (pod.name.clone(), Arc::clone(&clear))).collect();
        Arc::new(Mtls { on: true, mesh: MtlsMode::Permissive, pods })
    } else {
        Arc::clone(&snapshot.mtls)
    };
    Snapshot { policies, jwt, mtls, ..snapshot.clone() }
}

#[cfg(test)]
mod tests {
    use weft_model::{ObjectName, ServiceAccount, Workload};

    use super::*;

    fn workload(name: &str, local: bool) -> (ObjectName, Arc<Workload>) {
        let name = ObjectName::new("shop", name);
        let service_account = ServiceAccount { namespace: "shop".into(), name: "default".into() };
        let workload = Workload {
            name: name.clone(),
            service_account,
            ips: Vec::new(),
            node: None,
            local,
            labels: Arc::default(),
            enrolled: true,
            netns: None,
            ports: Vec::new(),
            owner: "it".into(),
            ready: true,
            passage: Passage::Done,
            terminating: false,
            created: 0,
        };
        (name, Arc::new(workload))
    }

    fn snapshot() -> Snapshot {
        let strict = Arc::new(PodMtls { mode: MtlsMode::Strict, ports: BTreeMap::new() });
        let pods = [(ObjectName::new("shop", "here"), strict)].into();
        Snapshot {
            version: 7,
            workloads: Arc::new([workload("here", true), workload("there", false)].into()),
            mtls: Arc::new(Mtls { on: true, mesh: MtlsMode::Strict, pods }),
            ..Snapshot::default()
        }
    }

    #[test]
    fn first_anybody_is_let_in_and_then_what_goes_out_is_clear_while_tls_may_still_come() {
        let (snapshot, [here, there]) =
            (snapshot(), ["here", "there"].map(|name| ObjectName::new("shop", name)));
        let modes = |step| {
            let mtls = without(&snapshot, step).mtls;
            [&here, &there].map(|pod| mtls.mode(pod, 80))
        };
        assert_eq!(modes(Step::Open), [MtlsMode::Permissive, MtlsMode::Permissive]);
        assert_eq!(modes(Step::Clear), [MtlsMode::Permissive, MtlsMode::Disabled]);
    }

    #[tokio::test(start_paused = true)]
    async fn every_step_is_a_newer_snapshot_and_the_source_is_heard_until_the_first() {
        let (tasks, (source, snapshots)) = (Tasks::new(), watch::channel(Arc::new(snapshot())));
        let (leaving, mut given) = Leaving::follow(snapshots, &tasks);
        source.send_replace(Arc::new(Snapshot { version: 8, ..snapshot() }));
        given.changed().await.unwrap();
        let first = Arc::clone(&given.borrow_and_update());
        assert_eq!((first.version, first.mtls.mesh), (8, MtlsMode::Strict));
        tasks.spawn("leaving", async {
            leaving.leave(Duration::from_secs(10), async |_| {}, async {}).await;
            Ok::<_, Infallible>(())
        });
        for version in [9, 10] {
            given.changed().await.unwrap();
            let now = given.borrow_and_update();
            assert_eq!((now.version, now.mtls.mesh), (version, MtlsMode::Permissive));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn others_hear_once_whatever_they_send_is_let_in_and_never_later_than_half_of_the_time() {
        for takes in [Duration::from_millis(300), Duration::from_hours(1)] {
            let (tasks, (_source, snapshots)) = (Tasks::new(), watch::channel(Arc::new(snapshot())));
            let (leaving, given) = Leaving::follow(snapshots, &tasks);
            let (began, (said, heard)) = (Instant::now(), watch::channel(None));
            let in_force = async |version| {
                assert_eq!((version, given.borrow().mtls.mesh), (8, MtlsMode::Permissive));
                sleep(takes).await;
            };
            let tell = async { said.send_modify(|said| *said = Some(began.elapsed())) };
            leaving.leave(Duration::from_secs(10), in_force, tell).await;
            assert_eq!(*heard.borrow(), (takes < Duration::from_secs(5)).then_some(takes));
            assert_eq!(began.elapsed(), Duration::from_secs(10));
        }
    }
}
