//! The proxy's own clock. A [`Moment`] is a number, so that workers can share it in an atomic.
//!
//! Decisions take the moment as an argument and never ask for it: a test says what time it is.

use std::{
    cell::Cell,
    time::{Duration, Instant},
};

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

    /// Now; in the work of a task, [when it was woken](during).
    pub fn now(&self) -> Moment {
        Moment::START.after(instant().saturating_duration_since(self.started))
    }
}

/// Has everything that asks for the time in `work` be told `now`: a task does its work in some microseconds, and to ask a
/// virtual machine's clock takes a part of one, a dozen times for each request.
pub(crate) fn during<T>(now: Instant, work: impl FnOnce() -> T) -> T {
    let _over = Over(NOW.replace(Some(now)));
    work()
}

/// Dropped, also when the work panics, has the clock be as it was.
struct Over(Option<Instant>);

impl Drop for Over {
    fn drop(&mut self) {
        NOW.set(self.0);
    }
}

/// Now, as [`Clock::now`] has it.
pub(crate) fn instant() -> Instant {
    NOW.get().unwrap_or_else(Instant::now)
}

thread_local! {
    static NOW: Cell<Option<Instant>> = const { Cell::new(None) };
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

    #[test]
    fn a_task_is_told_the_same_time_from_its_beginning_to_its_end() {
        let clock = Clock::start();
        let woken = Instant::now();
        let told = during(woken, || {
            std::thread::sleep(Duration::from_millis(2));
            clock.now()
        });
        assert!(told.since(Moment::START) < Duration::from_millis(2), "{told:?}");
        assert!(clock.now().since(told) >= Duration::from_millis(2), "the clock goes on afterwards");
    }
}
