//! When a series ends: some time after its workload.

use std::{
    collections::HashSet,
    time::{Duration, Instant},
};

use weft_model::Snapshot;

/// The workloads that there are.
pub(super) struct Live<'a>(HashSet<(&'a str, &'a str)>);

/// Since when the workload of a series has been gone.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Gone(Option<Instant>);

impl<'a> Live<'a> {
    pub(super) fn of(snapshot: &'a Snapshot) -> Self {
        Self(snapshot.workloads.values().map(|w| (&*w.name.namespace, &*w.owner)).collect())
    }

    pub(super) fn has(&self, namespace: &str, workload: &str) -> bool {
        self.0.contains(&(namespace, workload))
    }
}

impl Gone {
    /// Whether a series is still to be shown: its workload lives, or has been gone for less than [`GRACE`].
    pub(super) fn keep(&mut self, lives: bool, now: Instant) -> bool {
        if lives {
            self.0 = None;
            return true;
        }
        now.duration_since(*self.0.get_or_insert(now)) < GRACE
    }
}

/// How long the series of a workload that is gone can still be scraped: long enough for the last values.
pub(super) const GRACE: Duration = Duration::from_mins(5);
