//! What the last minute was like, by Service and route: for `weft stat` and `weft top`.
//!
//! A slot holds two seconds; the oldest makes room. Bounded: what comes when [`KEYS`] are taken is counted in one key
//! without names.

mod latency;

use hashbrown::HashMap;
use std::{
    collections::VecDeque,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

pub use latency::Latency;
use weft_model::{ObjectName, RouteName};

use crate::{api::TrafficView, records::Alike};

/// A sliding window over the requests of this node.
#[derive(Debug)]
pub struct Window {
    began: Instant,
    keys: Mutex<HashMap<Key, Slots>>,
    most: usize,
}

/// Whose requests are counted together.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
struct Key {
    service: Option<ObjectName>,
    route: Option<RouteName>,
}

/// The slots of the last minute that have requests, the oldest first.
#[derive(Debug, Default)]
struct Slots(VecDeque<Slot>);

#[derive(Debug)]
struct Slot {
    /// Its place since the window began.
    number: u64,
    requests: u64,
    successes: u64,
    latency: Latency,
}

impl Default for Window {
    fn default() -> Self {
        Self::with_most(KEYS)
    }
}

impl Window {
    /// The longest time that is looked back.
    pub const LONGEST: Duration = Duration::from_mins(1);

    fn with_most(most: usize) -> Self {
        Self { began: Instant::now(), keys: Mutex::default(), most }
    }

    /// Requests ended.
    pub fn count(&self, alike: &Alike, now: Instant) {
        let like = alike.like();
        let key = Key {
            service: like.service.as_ref().map(|service| service.0.clone()),
            route: like.rule.as_ref().map(|rule| rule.0.clone()),
        };
        let number = self.slot(now);
        let mut keys = self.keys.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(slots) = keys.get_mut(&key) {
            return slots.count(number, alike);
        }
        if keys.len() >= self.most {
            keys.retain(|_, slots| slots.are_of_the_last_minute(number));
        }
        let key = if keys.len() < self.most { key } else { Key::default() };
        keys.entry(key).or_default().count(number, alike);
    }

    /// The requests of the last `span`, which is at most [`Window::LONGEST`], the busiest first.
    pub fn last(&self, span: Duration, now: Instant) -> Vec<TrafficView> {
        let span = span.clamp(SLOT, Self::LONGEST);
        let current = self.slot(now);
        let slots = (span.as_secs() / SLOT.as_secs()).max(1);
        let oldest = (current + 1).saturating_sub(slots);
        // The current slot has begun only, and so, at first, has the window.
        let begin = self.began + SLOT * u32::try_from(oldest).unwrap_or(u32::MAX);
        let covered = now.duration_since(begin).max(Duration::from_millis(1));
        let keys = self.keys.lock().unwrap_or_else(PoisonError::into_inner);
        let views = keys.iter().map(|(key, slots)| slots.view(key, oldest, covered));
        let mut views: Vec<_> = views.filter(|view| view.requests > 0).collect();
        views.sort_by(|a, b| b.requests.cmp(&a.requests).then_with(|| a.name().cmp(&b.name())));
        views
    }

    fn slot(&self, now: Instant) -> u64 {
        now.duration_since(self.began).as_secs() / SLOT.as_secs()
    }
}

impl Slots {
    fn count(&mut self, number: u64, alike: &Alike) {
        if self.0.back().is_none_or(|slot| slot.number < number) {
            while self.0.front().is_some_and(|slot| slot.number + SLOTS <= number) {
                self.0.pop_front();
            }
            self.0.push_back(Slot { number, requests: 0, successes: 0, latency: Latency::default() });
        }
        let slot = self.0.back_mut().expect("one was added if there was none");
        let count = alike.count() as u64;
        slot.requests += count;
        slot.successes += if alike.like().succeeded() { count } else { 0 };
        alike.each().for_each(|own| slot.latency.add(own.lasted));
    }

    fn are_of_the_last_minute(&self, number: u64) -> bool {
        self.0.back().is_some_and(|slot| slot.number + SLOTS > number)
    }

    fn view(&self, key: &Key, oldest: u64, covered: Duration) -> TrafficView {
        let (mut requests, mut successes, mut latency) = (0, 0, Latency::default());
        for slot in self.0.iter().filter(|slot| slot.number >= oldest) {
            requests += slot.requests;
            successes += slot.successes;
            latency.merge(&slot.latency);
        }
        TrafficView {
            namespace: key.service.as_ref().map(|service| service.namespace.to_string()),
            service: key.service.as_ref().map(|service| service.name.to_string()),
            route: key.route.as_ref().map(ToString::to_string),
            requests,
            successes,
            seconds: covered.as_secs_f64(),
            latency,
        }
    }
}

/// The time of a slot.
const SLOT: Duration = Duration::from_secs(2);

/// Slots of the longest window.
const SLOTS: u64 = Window::LONGEST.as_secs() / SLOT.as_secs();

/// Services with their routes that are told apart; with 30 slots of less than 1 KiB each.
pub const KEYS: usize = 256;

#[cfg(test)]
mod tests;
