//! What time it is, for what certificates say.

use std::{
    fmt,
    sync::Arc,
    time::{Duration, SystemTime},
};

/// Tells the time of day. Certificates speak of the time of day only, so no decision about them uses another clock.
#[derive(Clone)]
pub struct Clock(Arc<dyn Fn() -> SystemTime + Send + Sync>);

impl Clock {
    /// The system's clock.
    pub fn system() -> Self {
        Self(Arc::new(SystemTime::now))
    }

    /// A clock that begins at `start` and moves with tokio's, which a test can pause.
    pub fn of_tokio(start: SystemTime) -> Self {
        let began = tokio::time::Instant::now();
        Self(Arc::new(move || start + began.elapsed()))
    }

    /// Now.
    pub fn now(&self) -> SystemTime {
        (self.0)()
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Clock").field(&self.now()).finish()
    }
}

/// From `from` to `to`; nothing if that is past.
pub(crate) fn between(from: SystemTime, to: SystemTime) -> Duration {
    to.duration_since(from).unwrap_or_default()
}

/// As people and RFC 3339 write it, to the second.
pub(crate) fn written(time: SystemTime) -> String {
    jiff::Timestamp::try_from(time).map_or_else(|_| "?".to_owned(), |time| format!("{time:.0}"))
}
