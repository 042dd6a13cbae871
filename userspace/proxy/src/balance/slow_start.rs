//! Slow start, by Envoy's formula with aggression 1.0 and a least weight of 10 %:
//! `weight = max(0.1, max(age, 1 s) / window)`.

use std::time::Duration;

use crate::clock::Moment;

/// Slow start of one set of endpoints.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SlowStart {
    window: Duration,
    /// From then on every endpoint has its full weight.
    over: Moment,
    /// When the oldest joined; `None` is long ago.
    oldest: Option<Moment>,
}

impl SlowStart {
    /// `None` where there is nothing to slow down. `joined` says when each endpoint did; `None` is long ago.
    pub(crate) fn of(
        window: Option<Duration>,
        joined: impl Iterator<Item = Option<Moment>> + Clone,
    ) -> Option<Self> {
        let window = window.filter(|window| !window.is_zero())?;
        let youngest = joined.clone().max()??;
        Some(Self { window, over: youngest.after(window), oldest: joined.min()? })
    }

    /// Whether any endpoint is still held back.
    pub(crate) fn lasts(&self, now: Moment) -> bool {
        now < self.over
    }

    /// The weight of an endpoint as a share of the oldest one's: endpoints that are all new share alike.
    pub(crate) fn weight(&self, joined: Option<Moment>, now: Moment) -> f64 {
        weight(joined, self.window, now) / weight(self.oldest, self.window, now)
    }
}

fn weight(joined: Option<Moment>, window: Duration, now: Moment) -> f64 {
    let Some(joined) = joined else { return 1.0 };
    let age = now.since(joined).max(Duration::from_secs(1));
    age.div_duration_f64(window).clamp(LEAST, 1.0)
}

const LEAST: f64 = 0.1;

#[cfg(test)]
mod tests {
    use super::*;

    const fn s(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    fn at(n: u64) -> Moment {
        Moment::START.after(s(n))
    }

    #[test]
    fn a_new_endpoints_weight_grows_with_its_age() {
        let slow = SlowStart::of(Some(s(60)), [None, Some(at(100))].into_iter()).unwrap();
        for (now, expected) in [(100, 0.1), (101, 0.1), (106, 0.1), (130, 0.5), (154, 0.9), (160, 1.0)] {
            let weight = slow.weight(Some(at(100)), at(now));
            assert!((weight - expected).abs() < 1e-9, "{weight} after {now} s, not {expected}");
            assert!((slow.weight(None, at(now)) - 1.0).abs() < 1e-9);
        }
        assert!(slow.lasts(at(159)) && !slow.lasts(at(160)));
    }

    #[test]
    fn a_window_shorter_than_ten_seconds_begins_with_what_one_second_is_worth() {
        let slow = SlowStart::of(Some(s(4)), [None, Some(at(0))].into_iter()).unwrap();
        assert!((slow.weight(Some(at(0)), at(0)) - 0.25).abs() < 1e-9);
    }

    #[test]
    fn endpoints_that_are_all_new_share_alike() {
        let slow = SlowStart::of(Some(s(60)), [Some(at(0)), Some(at(6))].into_iter()).unwrap();
        assert!((slow.weight(Some(at(0)), at(7)) - 1.0).abs() < 1e-9);
        assert!(slow.weight(Some(at(6)), at(12)) < 0.51);
    }

    #[test]
    fn without_a_window_or_a_new_endpoint_there_is_none() {
        assert!(SlowStart::of(None, [Some(at(1))].into_iter()).is_none());
        assert!(SlowStart::of(Some(Duration::ZERO), [Some(at(1))].into_iter()).is_none());
        assert!(SlowStart::of(Some(s(60)), [None, None].into_iter()).is_none());
        assert!(SlowStart::of(Some(s(60)), std::iter::empty()).is_none());
    }
}
