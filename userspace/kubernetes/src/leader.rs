//! Which of several replicas leads: whoever holds a Lease, as client-go's leader election has it.
//!
//! A Lease is held for 15 s from when it was renewed last, by the clock of whoever looks at it: clocks are never
//! compared. Its holder renews it every 2 s, and takes itself for the leader only for 10 s after a renewal that succeeded;
//! so between its last act and the first of the next leader there is time for what it has under way. Every change names
//! the version that it is based on, so of two that want it at once one gets it.

mod candidate;

use std::{fmt, sync::Arc, time::Duration};

use futures_util::future::BoxFuture;
use k8s_openapi::api::coordination::v1::Lease;
use kube::{Api, api::PostParams};
use tokio::{
    sync::watch as latest,
    time::{Instant, sleep_until, timeout},
};

use self::candidate::{Candidate, Step};
use crate::Cluster;

/// Whether this replica leads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Leadership {
    until: Option<Instant>,
}

/// One replica that would lead.
pub struct Election {
    leases: Api<Lease>,
    candidate: Candidate,
    told: latest::Sender<Leadership>,
}

impl Leadership {
    /// Whether this replica leads at this moment. What it does for it has to be done within 4 s.
    pub fn holds(&self) -> bool {
        self.until.is_some_and(|until| Instant::now() < until)
    }
}

impl Election {
    /// Asks for nothing yet. `replica` is a name that no other one has.
    pub fn new(cluster: &Cluster, namespace: &str, lease: &'static str, replica: Arc<str>) -> Self {
        Self {
            leases: Api::namespaced(cluster.client(), namespace),
            candidate: Candidate::new(namespace, lease, replica),
            told: latest::channel(Leadership::default()).0,
        }
    }

    /// Whether this replica leads, from now on.
    pub fn leadership(&self) -> latest::Receiver<Leadership> {
        self.told.subscribe()
    }

    /// Leads whenever it can, until `shutdown`; then lets go of the Lease, for another one to lead at once.
    pub async fn run(mut self, mut shutdown: BoxFuture<'static, ()>) {
        loop {
            let next = tokio::select! {
                () = &mut shutdown => break,
                next = self.turn() => next,
            };
            tokio::select! {
                () = &mut shutdown => break,
                () = sleep_until(next) => {}
            }
        }
        self.let_go().await;
    }

    /// Looks at the Lease, and takes or renews it where that can be; when to look again.
    async fn turn(&mut self) -> Instant {
        let began = Instant::now();
        if let Err(error) = self.tried(began).await {
            tracing::warn!(lease = self.candidate.lease(), %error, "whether this replica leads cannot be found out");
        }
        self.tell();
        // Not later than when another's may have run out.
        let next = began + RETRY;
        self.candidate.runs_out().filter(|then| *then > Instant::now()).map_or(next, |then| then.min(next))
    }

    async fn tried(&mut self, began: Instant) -> Result<(), String> {
        let name = self.candidate.lease();
        let known = in_time(self.leases.get_opt(name)).await?;
        match self.candidate.step(known.as_ref(), began) {
            Step::Wait => Ok(()),
            Step::Create(lease) => {
                let made = in_time(self.leases.create(&PostParams::default(), &lease)).await?;
                self.candidate.holds(&made, began);
                Ok(())
            }
            Step::Replace(lease) => {
                let made = in_time(self.leases.replace(name, &PostParams::default(), &lease)).await?;
                self.candidate.holds(&made, began);
                Ok(())
            }
        }
    }

    fn tell(&self) {
        let leadership = Leadership { until: self.candidate.sure_until() };
        self.told.send_if_modified(|told| {
            if told.holds() != leadership.holds() {
                tracing::info!(lease = self.candidate.lease(), leads = leadership.holds(), "leadership");
            }
            let other = *told != leadership;
            *told = leadership;
            other
        });
    }

    async fn let_go(&mut self) {
        // First nobody acts on it any more.
        self.told.send_replace(Leadership::default());
        if let Err(error) = self.released().await {
            tracing::warn!(lease = self.candidate.lease(), %error, "the Lease is not let go of; it runs out by itself");
        }
    }
}

impl Election {
    /// Asks first: the last renewal may have gone through without anybody having waited for the answer.
    async fn released(&mut self) -> Result<(), String> {
        let name = self.candidate.lease();
        let known = in_time(self.leases.get_opt(name)).await?;
        if let Some(lease) = known.and_then(|lease| self.candidate.released(lease)) {
            in_time(self.leases.replace(name, &PostParams::default(), &lease)).await?;
        }
        Ok(())
    }
}

impl fmt::Debug for Election {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Election").field("candidate", &self.candidate).finish_non_exhaustive()
    }
}

async fn in_time<T>(answer: impl Future<Output = Result<T, kube::Error>>) -> Result<T, String> {
    let late = |_| format!("the API server has not answered for {} s", ANSWER.as_secs());
    timeout(ANSWER, answer).await.map_err(late)?.map_err(|error| error.to_string())
}

/// How long a Lease is held; how long its holder is sure of that; how often it is renewed or looked at.
const DURATION: Duration = Duration::from_secs(15);
const SURE: Duration = Duration::from_secs(10);
const RETRY: Duration = Duration::from_secs(2);
/// How long an answer may take.
const ANSWER: Duration = Duration::from_secs(3);
