//! The endpoints of one backend as the proxy sees them, and how they change.

use std::{
    cmp::Ordering,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError, atomic::AtomicUsize},
};

use arc_swap::{ArcSwap, Guard};
use weft_model::{
    EndpointGroup, HttpLoadBalancer, Locality, OutlierDetection, TrafficSettings, eligible, maglev_table,
};

use super::{EndpointState, hash, slow_start::SlowStart};
use crate::{
    clock::Moment,
    limits::outlier::{Ejected, Observed, Outliers},
};

/// One backend: a port of a Service, for clients of one IP family. Shared by all workers.
#[derive(Debug)]
pub struct Backend {
    endpoints: ArcSwap<Endpoints>,
    /// Held while a new set is made; workers never wait for it.
    updating: Mutex<()>,
}

/// What an update is made of.
#[derive(Clone, Copy, Debug)]
pub struct View<'a> {
    /// The backend's endpoints.
    pub group: &'a EndpointGroup,
    /// Where this node is.
    pub locality: &'a Locality,
    /// Whether clients dial IPv6: an endpoint is reached from the client's own address.
    pub ipv6: bool,
    /// The effective settings of the Service.
    pub traffic: &'a TrafficSettings,
}

/// Those that may take a request, at one time. Immutable but for what its endpoints count.
#[derive(Debug)]
pub struct Endpoints {
    /// By address, so that every node makes the same Maglev table.
    pub(super) members: Box<[Arc<EndpointState>]>,
    by_id: Box<[(u64, usize)]>,
    pub(super) algorithm: Algorithm,
    pub(super) slow_start: Option<SlowStart>,
    outlier_detection: Option<OutlierDetection>,
    pub(super) outliers: Arc<Outliers>,
    pub(super) turn: Arc<AtomicUsize>,
}

#[derive(Clone, Debug)]
pub(super) enum Algorithm {
    LeastRequest,
    RoundRobin,
    Random,
    PeakEwma,
    /// A Maglev table of indices; its length is 0 or a prime.
    Hash(Arc<[u16]>),
}

impl Backend {
    /// As first seen. Its endpoints count as old: none of them is slowed down.
    pub fn new(view: &View<'_>, now: Moment) -> Self {
        let none = Endpoints {
            members: Box::default(),
            by_id: Box::default(),
            algorithm: Algorithm::Random,
            slow_start: None,
            outlier_detection: None,
            outliers: Arc::default(),
            turn: Arc::default(),
        };
        let first = none.updated(view, now, None);
        Self { endpoints: ArcSwap::from_pointee(first.0), updating: Mutex::new(()) }
    }

    /// Puts a new set in the place of the old one, and returns the endpoints that left: they are marked as
    /// draining, and the caller closes what it keeps open to them.
    ///
    /// An endpoint that stays keeps its state. Who is eligible is decided as for the kernel path.
    pub fn update(&self, view: &View<'_>, now: Moment) -> Vec<Arc<EndpointState>> {
        let _alone = self.updating.lock().unwrap_or_else(PoisonError::into_inner);
        let (next, left) = self.endpoints.load().updated(view, now, Some(now));
        self.endpoints.store(Arc::new(next));
        for endpoint in &left {
            endpoint.drain();
        }
        left
    }

    /// The set as it is now. Cheap; hold it for one pick, not across a wait.
    pub fn endpoints(&self) -> Guard<Arc<Endpoints>> {
        self.endpoints.load()
    }
}

impl Endpoints {
    /// All of them, by address.
    pub fn all(&self) -> &[Arc<EndpointState>] {
        &self.members
    }

    /// The one that a session or an affinity names.
    pub fn named(&self, id: u64) -> Option<&Arc<EndpointState>> {
        let at = self.by_id.binary_search_by_key(&id, |(id, _)| *id).ok()?;
        Some(&self.members[self.by_id[at].1])
    }

    /// Tells outlier detection how a request to `endpoint` ended; says so where that ejects it.
    pub fn observe(&self, endpoint: &EndpointState, how: Observed, now: Moment) -> Option<Ejected> {
        let settings = self.outlier_detection.as_ref()?;
        let all = self.members.iter().map(|member| &member.health);
        self.outliers.observe(settings, &endpoint.health, all, how, now)
    }

    fn updated(
        &self,
        view: &View<'_>,
        now: Moment,
        joined: Option<Moment>,
    ) -> (Self, Vec<Arc<EndpointState>>) {
        let (members, left) = self.merged(view, joined);
        let mut by_id: Box<_> = members.iter().enumerate().map(|(at, one)| (one.id(), at)).collect();
        by_id.sort_unstable();
        let outlier_detection = view.traffic.outlier_detection;
        let health = members.iter().map(|member| &member.health);
        self.outliers.resettle(outlier_detection.as_ref(), health, now);
        let next = Self {
            algorithm: self.algorithm_for(view.traffic, &members),
            slow_start: SlowStart::of(view.traffic.slow_start, members.iter().map(|one| one.joined())),
            by_id,
            members,
            outlier_detection,
            outliers: Arc::clone(&self.outliers),
            turn: Arc::clone(&self.turn),
        };
        (next, left)
    }

    /// Those that `view` has, with the state of those that were there, and those that it has no more.
    fn merged(
        &self,
        view: &View<'_>,
        joined: Option<Moment>,
    ) -> (Box<[Arc<EndpointState>]>, Vec<Arc<EndpointState>>) {
        let mut wanted = eligible(view.group, view.locality);
        wanted.retain(|endpoint| endpoint.address.is_ipv6() == view.ipv6);
        wanted.sort_unstable_by_key(|endpoint| endpoint.address);
        let (mut members, mut left) = (Vec::with_capacity(wanted.len()), Vec::new());
        let mut before = self.members.iter().peekable();
        for endpoint in wanted {
            let gone = |old: &Arc<EndpointState>| old.address().cmp(&endpoint.address) == Ordering::Less;
            while let Some(old) = before.next_if(|old| gone(old)) {
                left.push(Arc::clone(old));
            }
            let same = before.next_if(|old| old.address() == endpoint.address);
            if let Some(same) = same.filter(|old| old.pod() == endpoint.pod.as_ref()) {
                members.push(Arc::clone(same));
                continue;
            }
            left.extend(same.cloned());
            let new = EndpointState::new(endpoint.address, endpoint.pod.clone(), joined);
            members.push(Arc::new(new));
        }
        left.extend(before.cloned());
        (members.into(), left)
    }

    fn algorithm_for(&self, traffic: &TrafficSettings, members: &[Arc<EndpointState>]) -> Algorithm {
        match traffic.load_balancer.as_ref().unwrap_or(&HttpLoadBalancer::LeastRequest) {
            HttpLoadBalancer::LeastRequest => Algorithm::LeastRequest,
            HttpLoadBalancer::RoundRobin => Algorithm::RoundRobin,
            HttpLoadBalancer::Random => Algorithm::Random,
            HttpLoadBalancer::PeakEwma => Algorithm::PeakEwma,
            HttpLoadBalancer::ConsistentHash { table_size, .. } => {
                let size = *table_size as usize;
                let addresses = |all: &[Arc<EndpointState>]| -> Vec<SocketAddr> {
                    all.iter().map(|one| one.address()).collect()
                };
                match &self.algorithm {
                    Algorithm::Hash(table)
                        if table.len() == size && addresses(members) == addresses(&self.members) =>
                    {
                        Algorithm::Hash(Arc::clone(table))
                    }
                    _ => Algorithm::Hash(table(members, size)),
                }
            }
        }
    }
}

fn table(members: &[Arc<EndpointState>], size: usize) -> Arc<[u16]> {
    let seeds: Vec<_> = members.iter().map(|one| hash::seeds(one.id())).collect();
    maglev_table(&seeds, &vec![1.0; members.len()], size).into()
}

#[cfg(test)]
pub(super) mod tests;
