//! A backend: a port of a Service, with all that workers know of it together.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use weft_model::{AppProtocol, Endpoint, EndpointGroup, Locality, ObjectName, TrafficSettings};

use crate::{
    Limits,
    balance::{Affinity, Backend, EndpointState, endpoints::View},
    clock::Moment,
    limits::{Breaker, Budget, Observed},
    outbound,
    pool::Queue,
};

/// One version of it; `state` is the same for all versions.
#[derive(Debug)]
pub(crate) struct Upstream {
    pub service: ObjectName,
    pub port: u16,
    /// What its endpoints speak.
    pub protocol: AppProtocol,
    /// The effective settings of its Service.
    pub traffic: Arc<TrafficSettings>,
    pub affinity: Option<Arc<Affinity>>,
    affinity_time: Option<Duration>,
    pub budget: Arc<Budget>,
    pub breaker: Arc<Breaker>,
    /// Who waits for a connection.
    pub queue: Arc<Queue>,
    /// An endpoint is reached from the client's own address, so a client sees those of its IP family.
    state: Arc<Families>,
}

#[derive(Debug)]
struct Families {
    v4: Backend,
    v6: Backend,
}

/// What one version says of a backend.
pub(super) struct Said<'a> {
    pub service: &'a ObjectName,
    pub port: u16,
    pub protocol: AppProtocol,
    pub traffic: &'a Arc<TrafficSettings>,
    pub affinity: Option<Duration>,
    pub group: &'a EndpointGroup,
    pub locality: &'a Locality,
}

impl Upstream {
    /// Goes on from `before`, which is the same backend in the last version. Puts the endpoints that left into `left`.
    pub(super) fn updated(
        said: &Said<'_>,
        before: Option<&Self>,
        now: Moment,
        left: &mut Vec<Arc<EndpointState>>,
    ) -> Self {
        let view = |ipv6| View { group: said.group, locality: said.locality, ipv6, traffic: said.traffic };
        let state = match before {
            Some(before) => {
                left.extend(before.state.v4.update(&view(false), now));
                left.extend(before.state.v6.update(&view(true), now));
                Arc::clone(&before.state)
            }
            None => {
                Arc::new(Families { v4: Backend::new(&view(false), now), v6: Backend::new(&view(true), now) })
            }
        };
        let settings = said.traffic.retry_budget.unwrap_or_default();
        let budget = before.map(|before| &before.budget).filter(|budget| *budget.settings() == settings);
        let affinity = before.filter(|before| before.affinity_time == said.affinity);
        Self {
            service: said.service.clone(),
            port: said.port,
            protocol: said.protocol,
            traffic: Arc::clone(said.traffic),
            affinity: match affinity {
                Some(before) => before.affinity.clone(),
                None => said.affinity.map(|time| Arc::new(Affinity::new(time))),
            },
            affinity_time: said.affinity,
            budget: budget.map_or_else(|| Arc::new(Budget::new(settings)), Arc::clone),
            breaker: before.map(|before| Arc::clone(&before.breaker)).unwrap_or_default(),
            queue: before.map(|before| Arc::clone(&before.queue)).unwrap_or_default(),
            state,
        }
    }

    /// The app of a pod of this node, to which connections are made from elsewhere.
    pub(super) fn of_pod(pod: &ObjectName, at: SocketAddr, now: Moment) -> Self {
        let endpoint = Endpoint {
            address: at,
            ready: true,
            serving: true,
            terminating: false,
            node: None,
            zone: None,
            hints: None,
            pod: Some(pod.clone()),
        };
        let group = EndpointGroup {
            service: pod.clone(),
            weight: 1,
            node_local: false,
            distribution: weft_model::Distribution::Any,
            endpoints: vec![endpoint],
        };
        let said = Said {
            service: pod,
            port: at.port(),
            protocol: AppProtocol::Detect,
            traffic: &Arc::default(),
            affinity: None,
            group: &group,
            locality: &Locality::default(),
        };
        Self::updated(&said, None, now, &mut Vec::new())
    }

    /// Its Service or its port is gone. Returns the endpoints that left.
    pub(super) fn gone(&self, now: Moment) -> Vec<Arc<EndpointState>> {
        let group = EndpointGroup {
            service: self.service.clone(),
            weight: 0,
            node_local: false,
            distribution: weft_model::Distribution::Any,
            endpoints: Vec::new(),
        };
        let locality = Locality::default();
        let view = |ipv6| View { group: &group, locality: &locality, ipv6, traffic: &self.traffic };
        let mut left = self.state.v4.update(&view(false), now);
        left.extend(self.state.v6.update(&view(true), now));
        left
    }

    /// How long a connection is kept that nobody uses.
    pub(crate) fn idle_time(&self, limits: &Limits) -> Duration {
        outbound::limit(self.traffic.timeouts.idle, limits.pool_time).min(limits.pool_time)
    }

    /// Tells outlier detection how a connection or a request ended.
    pub(crate) fn observe(&self, dialled: SocketAddr, endpoint: &EndpointState, how: Observed, now: Moment) {
        if let Some(ejected) = self.endpoints(dialled).endpoints().observe(endpoint, how, now) {
            let endpoint = endpoint.address();
            tracing::info!(service = %self.service, %endpoint, ?ejected, "an endpoint is ejected");
        }
    }

    /// The endpoints for a client that dialled `dialled`.
    pub(crate) fn endpoints(&self, dialled: SocketAddr) -> &Backend {
        if dialled.is_ipv4() { &self.state.v4 } else { &self.state.v6 }
    }
}
