//! So many writes a second.

use std::time::Duration;

use tokio::time::Instant;

/// A token bucket: whoever has been quiet may write a few times at once.
#[derive(Debug)]
pub(super) struct Bucket {
    interval: Duration,
    most: u32,
    tokens: u32,
    /// Until when `tokens` is counted.
    at: Instant,
}

impl Bucket {
    /// One token each `interval`; full, with `most`.
    pub(super) fn new(interval: Duration, most: u32, now: Instant) -> Self {
        Self { interval, most, tokens: most, at: now }
    }

    /// Takes a token, or says when there will be one.
    pub(super) fn take(&mut self, now: Instant) -> Result<(), Instant> {
        while self.tokens < self.most && self.at + self.interval <= now {
            self.tokens += 1;
            self.at += self.interval;
        }
        if self.tokens == self.most {
            self.at = now;
        }
        match self.tokens.checked_sub(1) {
            Some(left) => {
                self.tokens = left;
                Ok(())
            }
            None => Err(self.at + self.interval),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STEP: Duration = Duration::from_millis(100);

    #[test]
    fn no_more_than_the_rate_passes_however_long_nobody_came() {
        let began = Instant::now();
        let mut bucket = Bucket::new(STEP, 2, began);
        let mut now = began + 1000 * STEP;
        let (from, mut passed) = (now, 0);
        while now < from + 50 * STEP {
            match bucket.take(now) {
                Ok(()) => passed += 1,
                Err(then) => {
                    assert!(then > now && then <= now + STEP, "{:?}", then - now);
                    now = then;
                }
            }
        }
        assert_eq!(passed, 2 + 49, "what had gathered, and one for each step");
    }

    #[test]
    fn who_comes_seldom_never_waits() {
        let began = Instant::now();
        let mut bucket = Bucket::new(STEP, 2, began);
        for i in 0..100 {
            assert_eq!(bucket.take(began + i * STEP), Ok(()), "{i}");
        }
    }
}
