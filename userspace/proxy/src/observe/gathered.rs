//! Requests that wait to be told, each beside those that it is like.

use std::{
    collections::VecDeque,
    sync::{Mutex, MutexGuard, PoisonError},
};

use weft_telemetry::records::{Alike, RequestRecord};

/// Requests of one batch, at most [`MOST`].
#[derive(Debug, Default)]
pub(crate) struct Gathered {
    kinds: Vec<Alike>,
    requests: usize,
}

/// Those of one worker, in batches. Its own thread adds to them, and whoever tells them takes one batch now and then: neither
/// waits for the other longer than that takes.
#[derive(Debug, Default)]
pub(super) struct Waiting(Mutex<Batches>);

#[derive(Debug, Default)]
struct Batches {
    all: VecDeque<Gathered>,
    requests: usize,
}

/// What became of a request.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Put {
    /// It is the only one that waits.
    First,
    Behind,
    /// There was no room.
    Dropped,
}

impl Gathered {
    /// Adds a request. Only the last few kinds are looked through: a kind may be there twice.
    pub(crate) fn add(&mut self, record: &RequestRecord) {
        self.requests += 1;
        let mut last = self.kinds.iter_mut().rev().take(KINDS);
        if !last.any(|kind| kind.takes(record)) {
            self.kinds.push(Alike::of(record));
        }
    }

    /// Adds others, of which some may be kinds that are here.
    pub(super) fn join(&mut self, others: Self) {
        self.requests += others.requests;
        self.kinds.extend(others.kinds);
    }

    pub(crate) fn requests(&self) -> usize {
        self.requests
    }

    pub(crate) fn into_kinds(self) -> Vec<Alike> {
        self.kinds
    }

    /// Lets go of those that ended before this time, in microseconds since 1970. How many they were.
    pub(crate) fn forget_before(&mut self, oldest: u64) -> usize {
        // Each kind's first is its oldest, but for the moment between an end and its being put here.
        if self.kinds.iter().all(|kind| kind.like().ended >= oldest) {
            return 0;
        }
        let mut kept = Self::default();
        let all = self.kinds.iter().flat_map(Alike::records);
        all.filter(|record| record.ended >= oldest).for_each(|record| kept.add(&record));
        let forgotten = self.requests - kept.requests;
        *self = kept;
        forgotten
    }
}

impl Waiting {
    /// Adds a request, unless `most` wait.
    pub(super) fn put(&self, record: &RequestRecord, most: usize) -> Put {
        let mut batches = self.batches();
        if batches.requests >= most {
            return Put::Dropped;
        }
        batches.requests += 1;
        match batches.all.back_mut() {
            Some(last) if last.requests < MOST => last.add(record),
            _ => {
                let mut next = Gathered::default();
                next.add(record);
                batches.all.push_back(next);
            }
        }
        if batches.requests == 1 { Put::First } else { Put::Behind }
    }

    /// How many requests the batch has that has waited longest.
    pub(super) fn oldest(&self) -> usize {
        self.batches().all.front().map_or(0, Gathered::requests)
    }

    /// The batch that has waited longest.
    pub(super) fn take(&self) -> Option<Gathered> {
        let mut batches = self.batches();
        let batch = batches.all.pop_front()?;
        batches.requests -= batch.requests;
        Some(batch)
    }

    fn batches(&self) -> MutexGuard<'_, Batches> {
        // Whoever panicked left batches that are still batches.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Requests of one batch: with the longest texts, 512 connections and 4096 pods it is well below what the agent takes at once.
pub(crate) const MOST: usize = 512;
/// Kinds of requests that are looked through: a comparison that fails costs a few nanoseconds.
const KINDS: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tell::tests::request;

    #[test]
    fn requests_wait_in_batches_and_what_finds_no_room_is_dropped() {
        let waiting = Waiting::default();
        assert_eq!(waiting.put(&request(), MOST + 2), Put::First);
        for _ in 0..=MOST {
            assert_eq!(waiting.put(&request(), MOST + 2), Put::Behind);
        }
        assert_eq!(waiting.put(&request(), MOST + 2), Put::Dropped);
        let [first, second] = [waiting.take(), waiting.take()].map(|batch| batch.unwrap().requests());
        assert_eq!((first, second, waiting.take().is_none()), (MOST, 2, true));
        assert_eq!(waiting.put(&request(), MOST + 2), Put::First);
    }

    #[test]
    fn requests_of_two_kinds_in_turn_are_two_kinds() {
        let mut gathered = Gathered::default();
        let other = RequestRecord { status: 404, ..request() };
        for _ in 0..10 {
            gathered.add(&request());
            gathered.add(&other);
        }
        assert_eq!(gathered.into_kinds().iter().map(Alike::count).collect::<Vec<_>>(), [10, 10]);
    }

    #[test]
    fn those_that_are_too_old_are_forgotten_and_counted() {
        let at = |ended| RequestRecord { ended, ..request() };
        let mut gathered = Gathered::default();
        for ended in [5, 9, 10, 11] {
            gathered.add(&at(ended));
        }
        assert_eq!((gathered.forget_before(5), gathered.requests()), (0, 4));
        assert_eq!((gathered.forget_before(10), gathered.requests()), (2, 2));
        let kept: Vec<_> =
            gathered.into_kinds().iter().flat_map(Alike::records).map(|record| record.ended).collect();
        assert_eq!(kept, [10, 11]);
    }
}
