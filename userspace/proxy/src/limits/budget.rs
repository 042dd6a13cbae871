//! The retry budget of one backend (GEP-3388), all workers together.
//!
//! A retry is allowed while retries are below the percentage of the requests of the last interval, or below
//! the least rate, whichever allows more: a backend with few requests may still retry some. Retries are not
//! requests, so they do not earn further retries.

use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use weft_model::RetryBudget;

use crate::clock::{Moment, nanos};

/// See above. Another setting is another budget.
#[derive(Debug)]
pub struct Budget {
    settings: RetryBudget,
    requests: Window,
    retries: Window,
    recent_retries: Window,
    /// Held while a retry is allowed, so that no two take the last one.
    deciding: Mutex<()>,
}

impl Budget {
    /// Nothing was asked yet.
    pub fn new(settings: RetryBudget) -> Self {
        Self {
            settings,
            requests: Window::new(settings.interval),
            retries: Window::new(settings.interval),
            recent_retries: Window::new(settings.min_interval),
            deciding: Mutex::new(()),
        }
    }

    /// What it was made from.
    pub fn settings(&self) -> &RetryBudget {
        &self.settings
    }

    /// A request begins: its first try.
    pub fn request(&self, now: Moment) {
        self.requests.add(now);
    }

    /// Takes a retry from the budget, if it has one.
    #[must_use = "a retry that is not allowed must not be made"]
    pub fn retry(&self, now: Moment) -> bool {
        let _alone = self.deciding.lock().unwrap_or_else(PoisonError::into_inner);
        let earned = self.requests.sum(now) * u64::from(self.settings.percent) / 100;
        let allowed = self.retries.sum(now) < earned
            || self.recent_retries.sum(now) < u64::from(self.settings.min_retries);
        if allowed {
            self.retries.add(now);
            self.recent_retries.add(now);
        }
        allowed
    }
}

/// How often something happened within a time. It slides by a tenth of that: what is summed are the last nine
/// tenths and what there is of the current one.
#[derive(Debug)]
struct Window {
    tenth: u64,
    /// Which tenth it is in the upper half, how often in the lower, so that one swap changes both.
    buckets: [AtomicU64; BUCKETS],
}

impl Window {
    fn new(time: Duration) -> Self {
        let tenth = (nanos(time) / BUCKETS as u64).max(1);
        Self { tenth, buckets: Default::default() }
    }

    fn add(&self, now: Moment) {
        let tick = self.tick(now);
        let bucket = &self.buckets[tick as usize % BUCKETS];
        let more = |word: u64| {
            let same = word >> 32 == u64::from(tick);
            let count = if same { (word & COUNT).saturating_add(1).min(COUNT) } else { 1 };
            Some(u64::from(tick) << 32 | count)
        };
        bucket.fetch_update(Relaxed, Relaxed, more).expect("the closure never refuses");
    }

    fn sum(&self, now: Moment) -> u64 {
        let tick = self.tick(now);
        let counts = self.buckets.iter().map(|bucket| {
            let word = bucket.load(Relaxed);
            let then = u32::try_from(word >> 32).expect("32 bits are left");
            if u64::from(tick.wrapping_sub(then)) < BUCKETS as u64 { word & COUNT } else { 0 }
        });
        counts.sum()
    }

    /// Wraps: with tenths of a millisecond, every five days.
    fn tick(&self, now: Moment) -> u32 {
        u32::try_from((now.nanos() / self.tenth) & COUNT).expect("masked")
    }
}

const BUCKETS: usize = 10;
const COUNT: u64 = u32::MAX as u64;

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(n: u64) -> Moment {
        Moment::START.after(Duration::from_millis(n))
    }

    fn settings(percent: u8, min_retries: u32) -> RetryBudget {
        RetryBudget { percent, min_retries, ..RetryBudget::default() }
    }

    fn granted(budget: &Budget, now: Moment) -> usize {
        std::iter::repeat_with(|| budget.retry(now)).take_while(|allowed| *allowed).count()
    }

    #[test]
    fn retries_are_a_share_of_the_requests_of_the_interval() {
        for (percent, requests, expected) in [(20, 100, 20), (20, 4, 0), (20, 5, 1), (0, 100, 0), (100, 7, 7)]
        {
            let budget = Budget::new(settings(percent, 0));
            (0..requests).for_each(|_| budget.request(ms(1)));
            assert_eq!(granted(&budget, ms(2)), expected, "{percent} % of {requests}");
            assert!(!budget.retry(ms(9_000)), "they are all within the interval");
        }
    }

    #[test]
    fn what_is_older_than_the_interval_does_not_count() {
        let budget = Budget::new(settings(20, 0));
        (0..100).for_each(|_| budget.request(ms(500)));
        assert_eq!(granted(&budget, ms(600)), 20);
        (0..50).for_each(|_| budget.request(ms(9_500)));
        assert_eq!(granted(&budget, ms(9_900)), 10, "150 requests, 20 retries so far");
        assert_eq!(granted(&budget, ms(10_000)), 0, "50 requests, 10 retries");
        assert_eq!(granted(&budget, ms(30_000)), 0);
    }

    #[test]
    fn the_least_rate_is_allowed_without_any_request() {
        let budget = Budget::new(settings(20, 10));
        assert_eq!(granted(&budget, ms(0)), 10);
        assert_eq!(granted(&budget, ms(899)), 0);
        assert_eq!(granted(&budget, ms(1_000)), 10);
        assert_eq!(granted(&budget, ms(1_000_000)), 10);
    }

    #[test]
    fn the_larger_of_share_and_rate_counts_not_their_sum() {
        let budget = Budget::new(settings(20, 10));
        (0..100).for_each(|_| budget.request(ms(1)));
        assert_eq!(granted(&budget, ms(2)), 20);
    }

    #[test]
    fn a_clock_that_wraps_forgets_nothing_and_finds_nothing_old() {
        let budget = Budget::new(RetryBudget { interval: Duration::from_millis(1), ..settings(100, 0) });
        let wrap = Moment::from_nanos(100_000 << 32);
        let before = Moment::from_nanos(wrap.nanos() - 150_000);
        budget.request(before);
        assert_eq!(granted(&budget, wrap), 1);
        assert_eq!(granted(&Budget::new(settings(100, 0)), Moment::START), 0);
    }

    #[test]
    fn threads_take_no_more_than_the_budget_has() {
        let budget = Budget::new(settings(20, 0));
        let taken: usize = std::thread::scope(|scope| {
            let ask = || {
                (0..10_000).for_each(|_| budget.request(ms(1)));
                (0..10_000).filter(|_| budget.retry(ms(1))).count()
            };
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(ask)).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).sum()
        });
        assert_eq!((taken, budget.requests.sum(ms(1))), (8_000, 40_000));
    }
}
