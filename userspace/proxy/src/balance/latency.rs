//! Peak EWMA of an endpoint's latency, as Finagle and Linkerd mean it.
//!
//! A slower answer counts in full at once, a faster one bit by bit, and without answers the estimate
//! decays towards zero, so that a slow endpoint is tried again. What has not answered yet is tried with one
//! request at a time, as in Finagle (Linkerd takes it for one that needs 30 ms). A failure counts as a slow
//! answer, or an endpoint that fails fast would draw everything to itself (Linkerd has that as an option).

use std::{
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};

use crate::clock::Moment;

/// The estimate: microseconds as an `f32` in the upper half, when it was made in ticks in the lower half,
/// so that one compare-and-swap changes both. [`UNKNOWN`] where there is none.
#[derive(Debug)]
pub(crate) struct Latency(AtomicU64);

impl Default for Latency {
    fn default() -> Self {
        Self(AtomicU64::new(UNKNOWN))
    }
}

impl Latency {
    /// An answer took `time`.
    ///
    /// Answers within one tick after the last that counted do not count, unless they are slower.
    pub(crate) fn observe(&self, time: Duration, now: Moment) {
        let (time, now) = (micros(time), tick(now));
        let update = |word| {
            let (estimate, at) = unpacked(word);
            if word == UNKNOWN || time > estimate {
                return Some(packed(time, now));
            }
            let kept = kept(at, now);
            (kept < 1.0).then(|| packed(estimate * kept + time * (1.0 - kept), now))
        };
        // Not changed is an answer too: see above.
        let _ = self.0.fetch_update(Relaxed, Relaxed, update);
    }

    /// A request failed after `time`.
    pub(crate) fn fail(&self, time: Duration, now: Moment) {
        self.observe(time.max(FAILURE), now);
    }

    /// What one more request costs beside `active` others.
    pub(crate) fn cost(&self, active: u32, now: Moment) -> f64 {
        let word = self.0.load(Relaxed);
        if word == UNKNOWN {
            return if active == 0 { 0.0 } else { UNTRIED + f64::from(active) };
        }
        let (estimate, at) = unpacked(word);
        f64::from(estimate * kept(at, tick(now))) * (f64::from(active) + 1.0)
    }
}

/// What is left of an estimate after the time from `at` to `now`.
fn kept(at: u32, now: u32) -> f32 {
    // Workers read the clock one after the other: a moment that is a little earlier is no time at all.
    let ticks = now.wrapping_sub(at).cast_signed().max(0);
    #[expect(clippy::cast_precision_loss, reason = "24 bits of 2^31 ticks are exact enough")]
    let ticks = ticks as f32;
    (-ticks / DECAY_TICKS).exp()
}

/// 2^16 ns, 66 µs: 32 bits of them are 78 hours, of which the later half counts as the past. An estimate
/// that is older may be taken for a young one, until the next answer.
fn tick(at: Moment) -> u32 {
    u32::try_from((at.nanos() / TICK_NS) & u64::from(u32::MAX)).expect("masked")
}

fn micros(time: Duration) -> f32 {
    time.as_secs_f32() * 1e6
}

fn packed(estimate: f32, at: u32) -> u64 {
    u64::from(estimate.to_bits()) << 32 | u64::from(at)
}

fn unpacked(word: u64) -> (f32, u32) {
    let half = |bits: u64| u32::try_from(bits & u64::from(u32::MAX)).expect("masked");
    (f32::from_bits(half(word >> 32)), half(word))
}

/// A failure is no faster than this.
const FAILURE: Duration = Duration::from_secs(1);
/// More than any estimate: 31 years in microseconds.
const UNTRIED: f64 = 1e15;
/// No estimate is below zero.
const UNKNOWN: u64 = (-1.0_f32).to_bits() as u64 * (1 << 32);
const TICK_NS: u64 = 65_536;
/// Ten seconds: after them 37 % of an estimate is left.
const DECAY_TICKS: f32 = 10e9 / 65_536.0;

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(n: u64) -> Duration {
        Duration::from_millis(n)
    }

    /// Whether one request alone costs about so many microseconds.
    fn near(latency: &Latency, now: Moment, expected: f64) -> bool {
        (latency.cost(0, now) - expected).abs() < expected * 0.01 + 1.0
    }

    #[test]
    fn a_slower_answer_counts_in_full_and_a_faster_one_bit_by_bit() {
        let start = Moment::START.after(ms(500));
        let latency = Latency::default();
        latency.observe(ms(30), start);
        assert!(near(&latency, start, 30_000.0), "the first");
        latency.observe(ms(80), start);
        assert!(near(&latency, start, 80_000.0), "the peak");
        let later = start.after(ms(1000));
        latency.observe(ms(10), later);
        let kept = (-0.1_f64).exp();
        assert!(near(&latency, later, 80_000.0 * kept + 10_000.0 * (1.0 - kept)));
    }

    #[test]
    fn requests_under_way_multiply_the_cost() {
        let latency = Latency::default();
        latency.observe(ms(10), Moment::START);
        let costs = [0, 1, 4].map(|active| latency.cost(active, Moment::START));
        assert!((costs[1] - 2.0 * costs[0]).abs() < 1.0 && (costs[2] - 5.0 * costs[0]).abs() < 1.0);
    }

    #[test]
    fn what_has_not_answered_yet_is_tried_with_one_request_at_a_time() {
        let (new, slow) = (Latency::default(), Latency::default());
        slow.observe(Duration::from_hours(1), Moment::START);
        assert!(new.cost(0, Moment::START) < slow.cost(0, Moment::START));
        assert!(new.cost(1, Moment::START) > slow.cost(1000, Moment::START));
        new.observe(Duration::ZERO, Moment::START);
        assert!(new.cost(1, Moment::START) < 1.0, "it has answered");
    }

    #[test]
    fn a_fast_failure_is_a_slow_answer() {
        let latency = Latency::default();
        latency.fail(ms(1), Moment::START);
        assert!(near(&latency, Moment::START, 1e6), "what was not known is known now");
        latency.fail(ms(3000), Moment::START);
        assert!(near(&latency, Moment::START, 3e6));
    }

    #[test]
    fn without_answers_the_estimate_decays() {
        let latency = Latency::default();
        latency.observe(ms(100), Moment::START);
        assert!(near(&latency, Moment::START.after(Duration::from_secs(10)), 36_788.0));
        assert!(near(&latency, Moment::START.after(Duration::from_mins(5)), 0.0));
    }

    #[test]
    fn a_moment_that_another_worker_has_passed_is_no_time_at_all() {
        let latency = Latency::default();
        let (earlier, now) = (Moment::START.after(ms(1000)), Moment::START.after(ms(2000)));
        latency.observe(ms(100), now);
        assert!(near(&latency, earlier, 100_000.0));
        latency.observe(ms(1), earlier);
        assert!(near(&latency, now, 100_000.0));
    }

    #[test]
    fn the_clock_may_wrap() {
        let before = Moment::from_nanos((1 << 48) - 1);
        let latency = Latency::default();
        latency.observe(ms(100), before);
        assert!(near(&latency, before.after(Duration::from_secs(10)), 36_788.0));
    }
}
