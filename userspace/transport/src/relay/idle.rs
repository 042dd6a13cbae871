//! When bytes last moved.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

pub(super) struct Idle {
    limit: Duration,
    start: Instant,
    /// Microseconds from `start` to the last byte.
    last: AtomicU64,
}

impl Idle {
    pub(super) fn new(limit: Duration) -> Self {
        Self { limit, start: Instant::now(), last: AtomicU64::new(0) }
    }

    /// Bytes moved.
    pub(super) fn touch(&self) {
        let since = u64::try_from(self.start.elapsed().as_micros()).unwrap_or(u64::MAX);
        self.last.store(since, Ordering::Relaxed);
    }

    /// Waits until no byte has moved for the whole limit.
    pub(super) async fn reached(&self) {
        loop {
            let end = self.start + Duration::from_micros(self.last.load(Ordering::Relaxed)) + self.limit;
            if Instant::now() >= end {
                return;
            }
            sleep_until(end).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_limit_counts_from_the_last_byte() {
        let limit = Duration::from_secs(10);
        let idle = Idle::new(limit);
        let begin = Instant::now();
        let touching = async {
            tokio::time::sleep(Duration::from_secs(9)).await;
            idle.touch();
        };
        tokio::join!(touching, idle.reached());
        let waited = begin.elapsed();
        assert!(waited >= Duration::from_secs(19) && waited < Duration::from_millis(19_010), "{waited:?}");
    }
}
