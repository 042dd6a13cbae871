//! Waiting for a condition, instead of for a time.

use std::thread;
use std::time::{Duration, Instant};

/// Waits until `condition` holds, and says how long that took. Panics after `deadline`.
#[track_caller]
pub fn eventually(deadline: Duration, mut condition: impl FnMut() -> bool) -> Duration {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < deadline, "the condition does not hold after {deadline:?}");
        thread::sleep(POLL);
    }
    start.elapsed()
}

/// Waits until `condition` holds, where nobody promises a time: as long as a busy machine may need.
#[track_caller]
pub fn soon(condition: impl FnMut() -> bool) -> Duration {
    eventually(PATIENCE, condition)
}

/// Checks again and again that `condition` holds. Panics at once when it does not.
#[track_caller]
pub fn throughout(time: Duration, mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while start.elapsed() < time {
        assert!(condition(), "the condition does not hold any more after {:?}", start.elapsed());
        thread::sleep(POLL);
    }
}

/// The longest that anything which works takes on two cores that five others use.
const PATIENCE: Duration = Duration::from_mins(1);
const POLL: Duration = Duration::from_millis(5);
