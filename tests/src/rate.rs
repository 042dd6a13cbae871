//! Rates that a test is to be under: what it promises holds at such a pace, not only once.

use std::collections::VecDeque;
use std::thread;
use std::time::{Duration, Instant};

use crate::slowness;

/// Waits until what `count` says has grown at `rate` a second, for a second at a stretch. Panics when it has not done so
/// for as long as a busy machine may need, and says how fast it was at best.
///
/// An emulated machine is ten times slower, and so is what it is asked for.
#[track_caller]
pub fn at_a_rate(what: &str, rate: f64, mut count: impl FnMut() -> f64) -> f64 {
    let rate = rate / f64::from(slowness());
    let (began, mut best) = (Instant::now(), 0.0_f64);
    let mut seen = VecDeque::from([(began, count())]);
    while best < rate {
        assert!(began.elapsed() < PATIENCE, "{what}: {best:.0} a second at best, {rate:.0} are wanted");
        thread::sleep(LOOK);
        let now = (Instant::now(), count());
        seen.push_back(now);
        // The latest that is a second ago.
        while seen.get(1).is_some_and(|(at, _)| now.0 - *at >= STRETCH) {
            seen.pop_front();
        }
        let (at, before) = seen[0];
        let time = now.0 - at;
        if time >= STRETCH {
            best = best.max((now.1 - before) / time.as_secs_f64());
        }
    }
    best
}

const STRETCH: Duration = Duration::from_secs(1);
const LOOK: Duration = Duration::from_millis(50);
const PATIENCE: Duration = Duration::from_mins(3);
