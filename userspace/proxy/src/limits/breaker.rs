//! The circuit breaker: what one backend may have under way from this node, all workers together.
//!
//! A count never exceeds its limit, not even for a moment: what would is refused at once.

use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering::Relaxed},
};

use weft_model::CircuitBreaker;

/// The counts of one backend. They outlive a change of the limits.
#[derive(Debug, Default)]
pub struct Breaker {
    counts: [AtomicU32; 4],
}

/// What is limited.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Limit {
    /// `maxConnections`
    #[error("the backend has as many connections as its circuit breaker allows; raise maxConnections")]
    Connections,
    /// `maxPendingRequests`
    #[error("as many requests wait for a connection as the circuit breaker allows; raise maxPendingRequests")]
    Pending,
    /// `maxParallelRequests`
    #[error("as many requests are under way as the circuit breaker allows; raise maxParallelRequests")]
    Requests,
    /// `maxParallelRetries`
    #[error("as many retries are under way as the circuit breaker allows; raise maxParallelRetries")]
    Retries,
}

impl Breaker {
    /// Counts one more until the guard is dropped, or says which limit is reached.
    pub fn hold(self: &Arc<Self>, what: Limit, limits: &CircuitBreaker) -> Result<Held, Limit> {
        let most = what.of(limits);
        let more = |count: u32| (count < most).then(|| count + 1);
        self.counts[what as usize].fetch_update(Relaxed, Relaxed, more).map_err(|_| what)?;
        Ok(Held { breaker: Arc::clone(self), what })
    }

    /// How many are under way.
    pub fn count(&self, what: Limit) -> u32 {
        self.counts[what as usize].load(Relaxed)
    }
}

impl Limit {
    fn of(self, limits: &CircuitBreaker) -> u32 {
        match self {
            Self::Connections => limits.max_connections,
            Self::Pending => limits.max_pending,
            Self::Requests => limits.max_requests,
            Self::Retries => limits.max_retries,
        }
    }
}

/// Whether a connection that has carried `served` requests is to be closed.
pub fn worn_out(served: u32, limits: &CircuitBreaker) -> bool {
    limits.max_requests_per_connection != 0 && served >= limits.max_requests_per_connection
}

/// One that counts.
#[derive(Debug)]
#[must_use = "it counts only as long as it is held"]
pub struct Held {
    breaker: Arc<Breaker>,
    what: Limit,
}

impl Drop for Held {
    fn drop(&mut self) {
        self.breaker.counts[self.what as usize].fetch_sub(1, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [Limit; 4] = [Limit::Connections, Limit::Pending, Limit::Requests, Limit::Retries];

    fn limits() -> CircuitBreaker {
        CircuitBreaker {
            max_connections: 1,
            max_pending: 2,
            max_requests: 3,
            max_retries: 4,
            max_requests_per_connection: 0,
        }
    }

    #[test]
    fn each_limit_counts_by_itself_and_an_overflow_says_which() {
        let breaker = Arc::new(Breaker::default());
        for (most, what) in (1..).zip(ALL) {
            let held: Vec<_> = (0..most).map(|_| breaker.hold(what, &limits()).unwrap()).collect();
            assert_eq!(breaker.hold(what, &limits()).unwrap_err(), what);
            assert_eq!(breaker.count(what), most);
            drop(held);
            assert_eq!(breaker.count(what), 0);
        }
    }

    #[test]
    fn lower_limits_hold_for_what_comes_next() {
        let breaker = Arc::new(Breaker::default());
        let first = breaker.hold(Limit::Requests, &limits()).unwrap();
        let _second = breaker.hold(Limit::Requests, &limits()).unwrap();
        let lower = CircuitBreaker { max_requests: 1, ..limits() };
        assert!(breaker.hold(Limit::Requests, &lower).is_err());
        drop(first);
        assert!(breaker.hold(Limit::Requests, &lower).is_err());
        let none = CircuitBreaker { max_connections: 0, ..limits() };
        assert!(breaker.hold(Limit::Connections, &none).is_err());
    }

    #[test]
    fn a_connection_is_closed_after_its_last_request() {
        let two = CircuitBreaker { max_requests_per_connection: 2, ..limits() };
        assert!(!worn_out(1, &two) && worn_out(2, &two));
        assert!(!worn_out(u32::MAX, &limits()));
    }

    #[test]
    fn threads_never_exceed_a_limit_and_end_at_zero() {
        let breaker = Arc::new(Breaker::default());
        let refused: u32 = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..4)
                .map(|_| {
                    scope.spawn(|| {
                        let mut refused = 0;
                        for _ in 0..20_000 {
                            let held = breaker.hold(Limit::Requests, &limits());
                            assert!(breaker.count(Limit::Requests) <= 3);
                            refused += u32::from(held.is_err());
                        }
                        refused
                    })
                })
                .collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).sum()
        });
        assert!(refused < 80_000);
        assert_eq!(breaker.count(Limit::Requests), 0);
    }
}
