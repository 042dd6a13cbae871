//! Which statuses are due, and when: what was written, what was refused, what comes next. Asks nobody anything.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
    time::Duration,
};

use serde_json::Value;
use tokio::time::Instant;
use weft_model::Progress;

use crate::{
    object::Key,
    status::{Judged, Judgement, wanted::wanted},
};

/// A status as it is stored, and the version of its object.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Stored {
    pub(super) status: Value,
    pub(super) resource_version: String,
}

/// What there is to write.
#[derive(Debug, Default)]
pub(super) struct Desk {
    /// By when it is due, then by whoever came first.
    due: BTreeSet<(Instant, u64, Key)>,
    queued: HashMap<Key, (Instant, u64)>,
    came: u64,
    last: HashMap<Key, Last>,
    looked_at: HashMap<Key, (Arc<Judged>, Arc<Progress>)>,
}

/// What became of an object's status when it was written last.
#[derive(Debug)]
struct Last {
    uid: String,
    /// The version that the watch had told of by then.
    over: String,
    /// What was to be said, without times.
    asked: Value,
    /// What was stored then.
    stored: Stored,
    refused: bool,
    /// Not again before.
    then: Instant,
}

impl Desk {
    /// Nothing is known any more.
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    /// Queues whatever differs from what is stored.
    pub(super) fn look(&mut self, judgement: &Judgement, progress: &Arc<Progress>) {
        self.last.retain(|key, _| judgement.of.contains_key(key));
        self.looked_at.retain(|key, _| judgement.of.contains_key(key));
        for (key, judged) in &judgement.of {
            let same = |(known, then): &(Arc<Judged>, Arc<Progress>)| {
                Arc::ptr_eq(known, judged) && Arc::ptr_eq(then, progress)
            };
            if self.looked_at.get(key).is_some_and(same) {
                continue;
            }
            self.looked_at.insert(key.clone(), (Arc::clone(judged), Arc::clone(progress)));
            let stored = self.stored(key, judged);
            let wanted = wanted(key, judged, &stored.status, progress, TIMELESS);
            if wanted.is_some_and(|status| !self.is_settled(key, judged, &stored, &status)) {
                self.again(key, Instant::now());
            }
        }
    }

    /// The status of the object as it is now, as far as is known.
    pub(super) fn stored(&self, key: &Key, judged: &Judged) -> Stored {
        let revision = &judged.revision;
        let last = self
            .last
            .get(key)
            .filter(|last| last.uid == revision.uid && last.over == revision.resource_version);
        last.map_or_else(
            || Stored {
                status: revision.status.clone(),
                resource_version: revision.resource_version.clone(),
            },
            |last| last.stored.clone(),
        )
    }

    /// Whether the API server was told that already, and keeps what it keeps of it.
    pub(super) fn is_settled(&self, key: &Key, judged: &Judged, stored: &Stored, status: &Value) -> bool {
        self.last.get(key).is_some_and(|last| {
            last.uid == judged.revision.uid
                && timeless(&last.stored.status) == timeless(&stored.status)
                && last.asked == timeless(status)
                && (!last.refused || Instant::now() < last.then)
        })
    }

    /// When the next is due.
    pub(super) fn next(&self) -> Option<Instant> {
        self.due.first().map(|(then, ..)| *then)
    }

    /// The next that is due by `now`.
    pub(super) fn take(&mut self, now: Instant) -> Option<Key> {
        if self.next()? > now {
            return None;
        }
        let (_, _, key) = self.due.pop_first()?;
        self.queued.remove(&key);
        Some(key)
    }

    /// The object's status is due at `then`, or later where it was written just now.
    pub(super) fn again(&mut self, key: &Key, then: Instant) {
        if self.queued.contains_key(key) {
            return;
        }
        let then = self.last.get(key).map_or(then, |last| last.then.max(then));
        self.came += 1;
        self.queued.insert(key.clone(), (then, self.came));
        self.due.insert((then, self.came, key.clone()));
    }

    /// The API server was told `status`, and has `stored` now.
    pub(super) fn written(&mut self, key: &Key, judged: &Judged, status: &Value, stored: Stored) {
        if timeless(status) != timeless(&stored.status) {
            tracing::warn!(
                object = %key,
                "the API server keeps less of a status than it is told: its CRD is of an older release, apply that of this one"
            );
        }
        self.note(key, judged, status, (stored, false));
    }

    /// It has refused `status`, and so has what it had; it is tried again later. Whether that is news.
    pub(super) fn refused(&mut self, key: &Key, judged: &Judged, status: &Value, stored: Stored) -> bool {
        let known = self.last.get(key).is_some_and(|last| last.refused && last.asked == timeless(status));
        self.note(key, judged, status, (stored, true));
        self.again(key, Instant::now());
        !known
    }

    fn note(&mut self, key: &Key, judged: &Judged, status: &Value, (stored, refused): (Stored, bool)) {
        let revision = &judged.revision;
        let last = Last {
            uid: revision.uid.clone(),
            over: revision.resource_version.clone(),
            asked: timeless(status),
            stored,
            refused,
            then: Instant::now() + if refused { REFUSED } else { PACE },
        };
        self.last.insert(key.clone(), last);
    }
}

/// A status without the times in it.
fn timeless(status: &Value) -> Value {
    match status {
        Value::Object(fields) => {
            let kept = fields.iter().filter(|(name, _)| *name != "lastTransitionTime");
            kept.map(|(name, value)| (name.clone(), timeless(value))).collect()
        }
        Value::Array(items) => items.iter().map(timeless).collect(),
        other => other.clone(),
    }
}

/// Stands for a time that nobody will see.
const TIMELESS: &str = "";
/// How often one object is written at the most: nodes finish one after the other.
const PACE: Duration = Duration::from_secs(1);
/// How long a status that is refused is let be.
const REFUSED: Duration = Duration::from_mins(1);

#[cfg(test)]
mod tests;
