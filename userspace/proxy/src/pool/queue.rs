//! Who waits for a connection of a backend that has as many as its circuit breaker allows: first come, first served, over
//! all pods and workers.
//!
//! A connection counts as long as its [`Slot`] is held. Whenever a slot is given back, or a connection has room again, who
//! is first is called and looks for itself; who leaves the queue calls the next one, so no call is lost. A connection that
//! is idle counts as well, and only its own pod may use it: it is closed for a request of another pod or worker.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{
    sync::Notify,
    time::{Instant, timeout_at},
};

use super::Pools;
use crate::{
    Reason,
    limits::{Held, Limit},
    tables::Upstream,
    worker::Served,
};

/// The queue of one backend. Nobody waits longer than a connection may take to come about, and no more do than
/// `maxPendingRequests`.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    waiting: Mutex<Waiting>,
}

#[derive(Debug, Default)]
struct Waiting {
    places: VecDeque<Arc<Place>>,
    given: u64,
}

/// A request in the queue.
#[derive(Debug)]
struct Place {
    number: u64,
    /// Whose connections it can use.
    pool: PoolId,
    called: Notify,
}

/// The connections of one pod on one worker, for as long as they are there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct PoolId(usize);

/// A connection that counts.
#[derive(Debug)]
pub(crate) struct Slot {
    // Dropped in this order: who is called finds it free.
    _held: Held,
    _freed: Freed,
}

#[derive(Debug)]
struct Freed(Arc<Queue>);

impl Drop for Freed {
    fn drop(&mut self) {
        self.0.call();
    }
}

impl Pools {
    pub(super) fn id(&self) -> PoolId {
        PoolId(std::ptr::from_ref(self).addr())
    }
}

impl Queue {
    /// Whether somebody waits who cannot use the connections of `pool` and comes before all who can.
    pub(super) fn first_is_not_of(&self, pool: PoolId) -> bool {
        self.waiting().places.front().is_some_and(|first| first.pool != pool)
    }

    /// Whether the next connection is for somebody of `pool`.
    pub(super) fn first_is_of(&self, pool: PoolId) -> bool {
        self.waiting().places.front().is_some_and(|first| first.pool == pool)
    }

    /// A slot is free.
    fn call(&self) {
        if let Some(first) = self.waiting().places.front() {
            first.called.notify_one();
        }
    }

    /// A connection of `pool` has room.
    pub(super) fn call_in(&self, pool: PoolId) {
        let waiting = self.waiting();
        let of_pool = waiting.places.iter().find(|place| place.pool == pool);
        for place in waiting.places.front().into_iter().chain(of_pool) {
            place.called.notify_one();
        }
    }

    fn join(&self, pool: PoolId) -> Arc<Place> {
        let mut waiting = self.waiting();
        waiting.given += 1;
        let place = Arc::new(Place { number: waiting.given, pool, called: Notify::new() });
        waiting.places.push_back(Arc::clone(&place));
        place
    }

    fn leave(&self, place: &Place) {
        let mut waiting = self.waiting();
        if let Ok(at) = waiting.places.binary_search_by_key(&place.number, |one| one.number) {
            waiting.places.remove(at);
        }
        drop(waiting);
        self.call_in(place.pool);
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Somebody who wants a connection to `upstream`.
pub(crate) struct Asking<'a> {
    served: &'a Served,
    upstream: &'a Upstream,
    /// How long to wait at most.
    patience: Duration,
    queued: Option<Queued<'a>>,
}

struct Queued<'a> {
    queue: &'a Queue,
    place: Arc<Place>,
    until: Instant,
    _pending: Held,
}

/// What the circuit breaker says.
pub(crate) enum May {
    /// Open a connection, and hold this as long as it lives.
    Open(Option<Slot>),
    /// Something may be free.
    LookAgain,
}

impl<'a> Asking<'a> {
    pub(crate) fn new(served: &'a Served, upstream: &'a Upstream, patience: Duration) -> Self {
        Self { served, upstream, patience, queued: None }
    }

    /// Whether nobody came before. Who has an idle connection at hand does not overtake those who wait for one.
    pub(super) fn is_next(&self) -> bool {
        if self.upstream.traffic.circuit_breaker.is_none() {
            return true;
        }
        let first = self.upstream.queue.waiting().places.front().map(|first| first.number);
        first.is_none_or(|first| self.queued.as_ref().is_some_and(|queued| queued.place.number == first))
    }

    /// Whether the circuit breaker allows one more connection. Where it does not, waits until something became free, among
    /// as many as it lets wait; then the caller looks again what there is.
    pub(crate) async fn may_open(&mut self) -> Result<May, Reason> {
        let upstream = self.upstream;
        let Some(limits) = &upstream.traffic.circuit_breaker else { return Ok(May::Open(None)) };
        let slot = || {
            let held = upstream.breaker.hold(Limit::Connections, limits).ok()?;
            Some(Slot { _held: held, _freed: Freed(Arc::clone(&upstream.queue)) })
        };
        let pools = &self.served.pools;
        if self.is_next()
            && let Some(slot) = slot().or_else(|| pools.close_one_of(&upstream.queue).then(slot).flatten())
        {
            return Ok(May::Open(Some(slot)));
        }
        if let Some(queued) = &self.queued {
            let called = timeout_at(queued.until, queued.place.called.notified());
            return called.await.map(|()| May::LookAgain).map_err(|_| Reason::BREAKER_CONNECTIONS);
        }
        let pending = upstream.breaker.hold(Limit::Pending, limits);
        self.queued = pending.ok().map(|pending| Queued {
            queue: &upstream.queue,
            place: upstream.queue.join(pools.id()),
            until: Instant::now() + self.patience,
            _pending: pending,
        });
        // Also for who may not wait: the next one finds it free.
        self.served.worker.shared.make_room(&upstream.queue);
        match self.queued {
            Some(_) => Ok(May::LookAgain),
            None if limits.max_pending == 0 => Err(Reason::BREAKER_CONNECTIONS),
            None => Err(Reason::BREAKER_PENDING),
        }
    }
}

impl Drop for Queued<'_> {
    fn drop(&mut self) {
        self.queue.leave(&self.place);
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    const OURS: PoolId = PoolId(1);
    const THEIRS: PoolId = PoolId(2);

    fn is_called(place: &Place) -> bool {
        place.called.notified().now_or_never().is_some()
    }

    #[test]
    fn a_slot_is_for_the_first_and_who_leaves_calls_the_next() {
        let queue = Queue::default();
        let places = [queue.join(OURS), queue.join(THEIRS), queue.join(OURS)];
        queue.call();
        queue.call();
        assert_eq!([0, 1, 2].map(|at: usize| is_called(&places[at])), [true, false, false]);
        assert!(queue.first_is_of(OURS) && queue.first_is_not_of(THEIRS));
        queue.leave(&places[0]);
        // The second call was for him; the third is told that a connection of his pool may have room.
        assert_eq!([1, 2].map(|at: usize| is_called(&places[at])), [true, true]);
        assert!(queue.first_is_not_of(OURS));
        queue.leave(&places[2]);
        queue.leave(&places[1]);
        assert!(!queue.first_is_not_of(OURS) && !queue.first_is_of(OURS));
    }

    #[test]
    fn room_in_a_connection_is_told_to_who_can_use_it_though_another_is_first() {
        let queue = Queue::default();
        let places = [queue.join(THEIRS), queue.join(OURS), queue.join(OURS)];
        queue.call_in(OURS);
        assert_eq!([0, 1, 2].map(|at: usize| is_called(&places[at])), [true, true, false]);
    }
}
