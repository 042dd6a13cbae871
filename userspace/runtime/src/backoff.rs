//! How long to wait before trying again.

use std::{
    hash::{BuildHasher, Hasher, RandomState},
    time::Duration,
};

/// Waits that double from `first` up to `longest`, each shortened by up to a half at random, so that
/// many who failed together do not come back together.
#[derive(Clone, Debug)]
pub struct Backoff {
    first: Duration,
    longest: Duration,
    next: Duration,
}

impl Backoff {
    /// Waits between `first` and `longest`.
    pub fn new(first: Duration, longest: Duration) -> Self {
        Self { first, longest, next: first }
    }

    /// Waits before the next try.
    pub async fn wait(&mut self) {
        tokio::time::sleep(self.step()).await;
    }

    /// A try succeeded: the next wait is a first one again.
    pub fn reset(&mut self) {
        self.next = self.first;
    }

    /// How long to wait before the next try, for those who wait for something else too. Grows with each call.
    pub fn step(&mut self) -> Duration {
        let full = self.next.min(self.longest);
        self.next = full.saturating_mul(2);
        full / 2 + (full / 2).mul_f64(fraction())
    }
}

/// A number in `0.0..=1.0` by chance, to spread what would happen together: from the seed that std gives to each hash
/// map, and no secret.
pub fn fraction() -> f64 {
    f64::from(u32::try_from(RandomState::new().build_hasher().finish() >> 32).unwrap_or(0))
        / f64::from(u32::MAX)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::Instant;

    use super::Backoff;

    const MS: Duration = Duration::from_millis(1);

    #[tokio::test(start_paused = true)]
    async fn waits_double_up_to_the_longest_and_never_fall_below_half() {
        let mut backoff = Backoff::new(100 * MS, 350 * MS);
        for full in [100, 200, 350, 350] {
            let start = Instant::now();
            backoff.wait().await;
            let waited = start.elapsed();
            assert!(waited >= full * MS / 2, "{waited:?} for {full} ms");
            assert!(waited <= (full + 1) * MS, "{waited:?} for {full} ms");
        }
    }

    #[test]
    fn a_success_makes_the_next_wait_short_again() {
        let mut backoff = Backoff::new(100 * MS, 10_000 * MS);
        for _ in 0..5 {
            backoff.step();
        }
        assert!(backoff.step() > 100 * MS);
        backoff.reset();
        assert!(backoff.step() <= 100 * MS);
    }

    #[test]
    fn two_that_fail_together_do_not_wait_alike() {
        let step = || Backoff::new(1000 * MS, 1000 * MS).step();
        let first = step();
        assert!((0..20).any(|_| step() != first));
    }
}
