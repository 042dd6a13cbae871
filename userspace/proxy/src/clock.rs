//! The proxy's own clock. A [`Moment`] is a number, so that workers can share it in an atomic.
//!
//! Decisions take the moment as an argument and never ask for it: a test says what time it is.

use std::time::{Duration, Instant};

/// A moment of one process, in nanoseconds since its [`Clock`] started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment(u64);

/// Tells the time.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    started: Instant,
}

impl Clock {
    /// Starts at [`Moment::START`].
    pub fn start() -> Self {
        Self { started: Instant::now() }
    }

    /// Now.
    pub fn now(&self) -> Moment {
        Moment::START.after(self.started.elapsed())
    }
}

impl Moment {
    /// When the clock started.
    pub const START: Self = Self(0);

    /// `time` after this.
    pub fn after(self, time: Duration) -> Self {
        Self(self.0.saturating_add(nanos(time)))
    }

    /// How long ago `earlier` was; zero where it is not over yet.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }

    /// For an atomic.
    pub const fn nanos(self) -> u64 {
        self.0
    }

    /// From an atomic.
    pub const fn from_nanos(nanos: u64) -> Self {
        Self(nanos)
    }
}

/// A time in nanoseconds; more than 584 years are 584 years.
pub(crate) fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_never_runs_over() {
        let late = Moment::START.after(Duration::MAX);
        assert_eq!(late.after(Duration::from_secs(1)), late);
        assert_eq!(Moment::START.since(late), Duration::ZERO);
        let clock = Clock::start();
        let first = clock.now();
        assert!(clock.now() >= first);
    }
}
