//! The state behind [`KeySets`](super::KeySets): which keys there are, and which are due.

use std::{collections::BTreeMap, sync::Arc, time::SystemTime};

use futures_util::{FutureExt as _, StreamExt as _, future::BoxFuture, stream::FuturesUnordered};
use tokio::time::{Instant, sleep_until};
use weft_model::{Jwks, JwksHeld};
use weft_runtime::Backoff;

use super::{
    AT_ONCE, JwksPlace, JwksWanted, KeySetStatus, MOST_PLACES, Pace,
    error::FetchError,
    fetch::Fetch,
    memory::{Kept, Memory},
};
use crate::Failure;

pub(super) struct Keeper {
    fetch: Fetch,
    memory: Memory,
    pace: Pace,
    entries: BTreeMap<Arc<str>, Entry>,
    under_way: FuturesUnordered<BoxFuture<'static, Done>>,
}

/// The keys of one place.
struct Entry {
    place: JwksPlace,
    good: Option<Kept>,
    due: Instant,
    backoff: Backoff,
    is_under_way: bool,
    failure: Option<Failure>,
}

struct Done {
    location: Arc<str>,
    place: JwksPlace,
    keys: Result<Arc<Jwks>, FetchError>,
}

impl Keeper {
    pub(super) fn new(fetch: Fetch, memory: Memory, pace: Pace) -> Self {
        Self { fetch, memory, pace, entries: BTreeMap::new(), under_way: FuturesUnordered::new() }
    }

    /// Takes over what is wanted from now on.
    pub(super) fn take(&mut self, wanted: JwksWanted) {
        self.entries.retain(|location, _| wanted.contains_key(location));
        for (location, place) in wanted {
            let pace = self.pace;
            let backoff = Backoff::new(pace.first_retry, pace.last_retry);
            let has_room = self.entries.len() < MOST_PLACES;
            let good = self.memory.kept(&location);
            let entry =
                self.entries.entry(location).or_insert_with(|| Entry::new(place.clone(), good, backoff));
            if !has_room && entry.good.is_none() {
                entry.failed(&FetchError::TooMany, pace);
            }
            if entry.place != place {
                entry.place = place;
                // Whoever could not be asked may be there now.
                if entry.good.is_none() || entry.failure.is_some() {
                    entry.due = Instant::now();
                }
            }
        }
    }

    /// Asks where keys are due, within bounds.
    pub(super) fn begin_what_is_due(&mut self) {
        let (now, free) = (Instant::now(), AT_ONCE.saturating_sub(self.under_way.len()));
        let entries = self.entries.iter_mut().take(MOST_PLACES);
        for (location, entry) in
            entries.filter(|(_, entry)| !entry.is_under_way && entry.due <= now).take(free)
        {
            entry.is_under_way = true;
            let (fetch, location, place) = (self.fetch.clone(), Arc::clone(location), entry.place.clone());
            let asked = async move {
                let keys = fetch.keys(place.clone()).await;
                Done { location, place, keys }
            };
            self.under_way.push(asked.boxed());
        }
    }

    /// Waits until something is fetched or due.
    pub(super) async fn work(&mut self) {
        let is_full = self.under_way.len() >= AT_ONCE;
        let idle = self.entries.values().take(MOST_PLACES).filter(|entry| !entry.is_under_way && !is_full);
        let wake_at = idle.map(|entry| entry.due).min();
        let wake = async {
            match wake_at {
                Some(at) => sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            Some(done) = self.under_way.next() => self.done(done),
            () = wake => {}
        }
    }

    /// The last good keys.
    pub(super) fn held(&self) -> JwksHeld {
        let good = |(location, entry): (&Arc<str>, &Entry)| {
            Some((Arc::clone(location), Arc::clone(&entry.good.as_ref()?.jwks)))
        };
        self.entries.iter().filter_map(good).collect()
    }

    pub(super) fn status(&self) -> Arc<[KeySetStatus]> {
        let one = |(location, entry): (&Arc<str>, &Entry)| KeySetStatus {
            location: Arc::clone(location),
            keys: entry.good.as_ref().map_or(0, |good| good.jwks.keys.len()),
            fetched: entry.good.as_ref().map(|good| good.fetched),
            failure: entry.failure.clone(),
        };
        self.entries.iter().map(one).collect()
    }

    /// Keeps what is good for the next agent. `changed` is whether the keys did; their age alone is kept only with them.
    pub(super) async fn remember(&mut self, changed: bool) {
        if changed {
            let good = self.entries.iter();
            let good = good.filter_map(|(location, entry)| Some((Arc::clone(location), entry.good.clone()?)));
            self.memory.keep(good.collect()).await;
        }
    }

    fn done(&mut self, done: Done) {
        let Done { location, place, keys } = done;
        // A place that nobody wants any more.
        let Some(entry) = self.entries.get_mut(&location) else { return };
        entry.is_under_way = false;
        match keys {
            Ok(jwks) => {
                if entry.failure.take().is_some() {
                    tracing::info!(%location, keys = jwks.keys.len(), "keys of a provider are to be had again");
                }
                entry.took(jwks, self.pace);
            }
            Err(error) => {
                if entry.failure.is_none() {
                    let age = entry.good.as_ref().and_then(|good| good.fetched.elapsed().ok());
                    tracing::warn!(%location, %error, ?age, "keys of a provider cannot be fetched; the last good ones serve on");
                }
                entry.failed(&error, self.pace);
                if entry.place != place {
                    entry.due = Instant::now();
                }
            }
        }
    }
}

impl Entry {
    fn new(place: JwksPlace, good: Option<Kept>, backoff: Backoff) -> Self {
        Self { place, good, due: Instant::now(), backoff, is_under_way: false, failure: None }
    }

    fn took(&mut self, jwks: Arc<Jwks>, pace: Pace) {
        self.good = Some(Kept { jwks, fetched: SystemTime::now() });
        self.backoff.reset();
        self.due = Instant::now() + pace.refresh.mul_f64(0.9 + 0.2 * weft_runtime::fraction());
    }

    fn failed(&mut self, error: &FetchError, pace: Pace) {
        self.failure = Some(Failure::again(self.failure.take(), error.to_string(), SystemTime::now()));
        self.due = Instant::now() + self.backoff.step().min(pace.last_retry);
    }
}
