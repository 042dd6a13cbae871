//! Writes statuses, one after the other, while this replica leads.
//!
//! What differs from what is stored is due. A status that is written comes back by the watch; until then what the API
//! server has answered counts, so that nothing is written twice. A server whose definition is older keeps less than it is
//! told: that is said once, and not tried again before there is something else to say.

mod desk;
mod remote;

use std::{collections::VecDeque, sync::Arc, time::Duration};

use futures_util::future::BoxFuture;
use tokio::{
    sync::watch as latest,
    time::{Instant, sleep_until},
};
use weft_model::Progress;
use weft_runtime::Backoff;

use self::{
    desk::Desk,
    remote::{Answer, Remote},
};
use super::{Judged, Judgement, bucket::Bucket, event::Event, wanted::wanted};
use crate::{Cluster, Leadership, object::Key};

/// Whoever writes what is to be said of objects into their statuses.
pub struct StatusWriter {
    remote: Remote,
    judgement: latest::Receiver<Arc<Judgement>>,
    progress: latest::Receiver<Arc<Progress>>,
    leadership: latest::Receiver<Leadership>,
    /// The name of this replica, for Events.
    replica: Arc<str>,
    bucket: Bucket,
    desk: Desk,
    events: VecDeque<Event>,
    /// The API server does not answer: until when nothing is asked of it.
    pause: Option<Instant>,
    backoff: Backoff,
}

impl StatusWriter {
    /// Writes nothing yet.
    pub fn new(
        cluster: &Cluster,
        judgement: latest::Receiver<Arc<Judgement>>,
        progress: latest::Receiver<Arc<Progress>>,
        leadership: latest::Receiver<Leadership>,
        replica: Arc<str>,
    ) -> Self {
        Self {
            remote: Remote::new(cluster.client()),
            judgement,
            progress,
            leadership,
            replica,
            // No more than ten in any second.
            bucket: Bucket::new(INTERVAL, 1, Instant::now()),
            desk: Desk::default(),
            events: VecDeque::new(),
            pause: None,
            backoff: Backoff::new(Duration::from_millis(800), Duration::from_secs(30)),
        }
    }

    /// Writes until `shutdown`, or until nobody judges any more.
    pub async fn run(mut self, mut shutdown: BoxFuture<'static, ()>) {
        loop {
            self.look();
            let next = self.next();
            let changed = tokio::select! {
                () = &mut shutdown => return,
                changed = self.judgement.changed() => changed,
                changed = self.progress.changed() => changed,
                changed = self.leadership.changed() => changed,
                () = sleep_until(next.unwrap_or_else(Instant::now)), if next.is_some() => {
                    // A write that has begun is brought to its end: it takes seconds at the most.
                    self.work().await;
                    continue;
                }
            };
            if changed.is_err() {
                return;
            }
        }
    }

    /// Finds out what is due by what is known now.
    fn look(&mut self) {
        let judgement = Arc::clone(&self.judgement.borrow_and_update());
        let progress = Arc::clone(&self.progress.borrow_and_update());
        let leads = self.leadership.borrow_and_update().holds();
        if !leads {
            // Whoever leads next looks at everything anew.
            self.desk.clear();
            self.events.clear();
            return;
        }
        self.desk.look(&judgement, &progress);
    }

    /// When there is something to do.
    fn next(&self) -> Option<Instant> {
        let due = if self.events.is_empty() { self.desk.next()? } else { Instant::now() };
        Some(self.pause.map_or(due, |pause| pause.max(due)))
    }

    async fn work(&mut self) {
        self.pause = None;
        if let Some(event) = self.events.pop_front() {
            if !self.may_write().await {
                return;
            }
            let told = self.remote.tell(&event).await;
            if let Err(error) = told {
                tracing::warn!(object = %event.about, %error, "an Event is lost");
            }
            return;
        }
        let Some(key) = self.desk.take(Instant::now()) else { return };
        let Some(judged) = self.judgement.borrow().of.get(&key).cloned() else { return };
        self.write(&key, &judged).await;
    }

    async fn write(&mut self, key: &Key, judged: &Judged) {
        let mut stored = self.desk.stored(key, judged);
        for _ in 0..TRIES {
            let progress = Arc::clone(&self.progress.borrow());
            let Some(status) = wanted(key, judged, &stored.status, &progress, &now()) else { return };
            if self.desk.is_settled(key, judged, &stored, &status) || !self.may_write().await {
                return;
            }
            match self.remote.replace(key, judged, &stored, &status).await {
                Answer::Stored(answer) => {
                    self.backoff.reset();
                    let events = Event::of(key, judged, (&stored.status, &status), &self.replica);
                    self.events.extend(events);
                    self.desk.written(key, judged, &status, answer);
                    return;
                }
                Answer::Conflict => match self.remote.fetch(key, judged).await {
                    Answer::Stored(newer) => stored = newer,
                    // It has gone or changed, of which the watch will tell.
                    Answer::Gone | Answer::Conflict => return,
                    Answer::Refused(error) => return self.refused(key, judged, (&stored, status), &error),
                    Answer::Away(error) => return self.away(key, &error),
                },
                Answer::Gone => return,
                Answer::Refused(error) => return self.refused(key, judged, (&stored, status), &error),
                Answer::Away(error) => return self.away(key, &error),
            }
        }
        self.desk.again(key, Instant::now() + SOON);
    }

    fn refused(
        &mut self,
        key: &Key,
        judged: &Judged,
        (stored, status): (&desk::Stored, serde_json::Value),
        error: &str,
    ) {
        if self.desk.refused(key, judged, &status, stored.clone()) {
            tracing::warn!(
                object = %key, error,
                "a status is refused; is the CRD of this release installed, and may the controller write statuses?"
            );
            self.events.extend(Event::of(key, judged, (&stored.status, &status), &self.replica));
        }
    }

    fn away(&mut self, key: &Key, error: &str) {
        let wait = self.backoff.step();
        tracing::warn!(object = %key, error, ?wait, "a status could not be written; it is tried again");
        self.pause = Some(Instant::now() + wait);
        self.desk.again(key, Instant::now() + wait);
    }

    /// Waits for its turn; whether this replica leads then.
    async fn may_write(&mut self) -> bool {
        while let Err(then) = self.bucket.take(Instant::now()) {
            sleep_until(then).await;
        }
        let leads = self.leadership.borrow().holds();
        if !leads {
            // What was due stays so: everything is looked at anew.
            self.desk.clear();
        }
        leads
    }
}

impl std::fmt::Debug for StatusWriter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StatusWriter").field("replica", &self.replica).finish_non_exhaustive()
    }
}

/// As conditions have it: to the second.
fn now() -> String {
    jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

const INTERVAL: Duration = Duration::from_millis(100);
/// How often a status is tried that others write at the same time.
const TRIES: usize = 3;
const SOON: Duration = Duration::from_secs(1);
