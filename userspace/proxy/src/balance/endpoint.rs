//! What all workers know together of one endpoint, for as long as it stays.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed},
    },
};

use weft_model::ObjectName;

use super::{hash, latency::Latency};
use crate::{clock::Moment, limits::outlier::Health};

/// One endpoint of a backend. The same allocation in every set it is in; another pod at its address is
/// another endpoint.
#[derive(Debug)]
pub struct EndpointState {
    address: SocketAddr,
    pod: Option<ObjectName>,
    id: u64,
    joined: Option<Moment>,
    active: AtomicU32,
    served: AtomicU64,
    draining: AtomicBool,
    pub(super) latency: Latency,
    pub(super) health: Health,
}

impl EndpointState {
    /// `joined` is `None` for those that were there when the backend was first seen: they are not new.
    pub(super) fn new(address: SocketAddr, pod: Option<ObjectName>, joined: Option<Moment>) -> Self {
        Self {
            address,
            pod,
            id: hash::address(address),
            joined,
            active: AtomicU32::new(0),
            served: AtomicU64::new(0),
            draining: AtomicBool::new(false),
            latency: Latency::default(),
            health: Health::default(),
        }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The pod behind it.
    pub fn pod(&self) -> Option<&ObjectName> {
        self.pod.as_ref()
    }

    /// A hash of its address, the same on every node: what sessions name it by.
    pub fn id(&self) -> u64 {
        self.id
    }

    /// When it joined its backend; `None` is before the backend was first seen.
    pub fn joined(&self) -> Option<Moment> {
        self.joined
    }

    /// Requests under way.
    pub fn active(&self) -> u32 {
        self.active.load(Relaxed)
    }

    /// Requests so far, those under way included.
    pub fn served(&self) -> u64 {
        self.served.load(Relaxed)
    }

    /// Whether it has left its backend: idle connections to it are to be closed, the others once their
    /// requests are over.
    pub fn draining(&self) -> bool {
        self.draining.load(Relaxed)
    }

    /// Whether outlier detection leaves it out at `now`.
    pub fn ejected(&self, now: Moment) -> bool {
        self.health.ejected(now)
    }

    /// A request begins; it is under way until the guard is dropped.
    pub fn serve(self: &Arc<Self>, now: Moment) -> Serving {
        self.active.fetch_add(1, Relaxed);
        self.served.fetch_add(1, Relaxed);
        Serving { endpoint: Arc::clone(self), began: now }
    }

    pub(super) fn drain(&self) {
        self.draining.store(true, Relaxed);
    }
}

/// One request that an endpoint has under way.
#[derive(Debug)]
pub struct Serving {
    endpoint: Arc<EndpointState>,
    began: Moment,
}

impl Serving {
    /// The endpoint.
    pub fn endpoint(&self) -> &Arc<EndpointState> {
        &self.endpoint
    }

    /// The head of its answer came: how long that took is the endpoint's latency.
    pub fn answered(&self, now: Moment) {
        self.endpoint.latency.observe(now.since(self.began), now);
    }

    /// No answer came, or a 5xx: that is never a fast endpoint.
    pub fn failed(&self, now: Moment) {
        self.endpoint.latency.fail(now.since(self.began), now);
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        self.endpoint.active.fetch_sub(1, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_of_many_threads_are_over_when_their_guards_are() {
        let state = EndpointState::new(([10, 0, 0, 1], 80).into(), None, None);
        let endpoint = Arc::new(state);
        let held = endpoint.serve(Moment::START);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..10_000 {
                        let serving = endpoint.serve(Moment::START);
                        assert!(endpoint.active() >= 2);
                        serving.answered(Moment::from_nanos(1000));
                    }
                });
            }
        });
        assert_eq!((endpoint.active(), endpoint.served()), (1, 40_001));
        drop(held);
        assert_eq!(endpoint.active(), 0);
    }
}
