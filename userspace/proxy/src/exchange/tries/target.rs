//! Where a try goes: a backendRef by weight, and an endpoint of it.

use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Duration, SystemTime},
};

use http::HeaderValue;
use weft_model::{BackendTarget, HttpLoadBalancer};

use super::Tries;
use crate::{
    Reason,
    balance::{Ask, EndpointState, cookie, hash, session::Session},
    draw::Draw as _,
    exchange::Refused,
    route::backend::CompiledBackend,
    tables::Upstream,
};

/// See the module.
pub(super) struct Target<'a> {
    /// `None` is plain Service behaviour.
    pub backend: Option<&'a CompiledBackend>,
    pub upstream: Arc<Upstream>,
    pub endpoint: Arc<EndpointState>,
    /// Whether the client's token led here.
    pub in_session: bool,
    /// A cookie for a client that has none to be hashed by.
    pub granted: Option<HeaderValue>,
}

impl Tries<'_> {
    pub(super) fn first_target(&self) -> Result<Target<'_>, Refused> {
        let worker = &self.client.served.worker;
        let Some(rule) = self.routed.rule else {
            let upstream = self.port.plain(&mut *worker.dice.borrow_mut()).ok_or(Reason::NO_ENDPOINTS)?;
            return self.pick(None, upstream, &[]).ok_or_else(|| Reason::NO_ENDPOINTS.into());
        };
        let number = worker.dice.borrow_mut().number();
        let backend = rule.backends.draw(number).filter(|backend| backend.is_valid());
        let backend = backend.ok_or(Reason::INVALID_BACKEND)?;
        let upstream = self.upstream(backend).ok_or(Reason::NO_ENDPOINTS)?;
        self.pick(Some(backend), upstream, &[]).ok_or_else(|| Reason::NO_ENDPOINTS.into())
    }

    /// An endpoint that was not tried: of the same backendRef, else of another one of the rule's. Where all were tried, a
    /// policy that asks for more tries gets one of them again; without a policy there is no point.
    pub(super) fn next_target(&self, last: &Target<'_>, tried: &[SocketAddr]) -> Option<Target<'_>> {
        // The borrow of the last target is not this one's.
        let same = self.routed.rule.zip(last.backend).map(|(rule, last)| &rule.backends.all()[last.index]);
        if let Some(target) = self.pick(same, &last.upstream, tried) {
            return Some(target);
        }
        if let Some(rule) = self.routed.rule {
            let other = |backend: &CompiledBackend| {
                self.upstream(backend).is_some_and(|upstream| {
                    let endpoints = upstream.endpoints(self.client.dialled).endpoints();
                    endpoints.all().iter().any(|one| !tried.contains(&one.address()))
                })
            };
            let number = self.client.served.worker.dice.borrow_mut().number();
            if let Some(backend) = rule.backends.draw_among(number, other) {
                return self.pick(Some(backend), self.upstream(backend)?, tried);
            }
        }
        self.routed.retry?;
        self.pick(same, &last.upstream, &[])
    }

    fn upstream(&self, backend: &CompiledBackend) -> Option<&Arc<Upstream>> {
        let BackendTarget::Service { name, port } = &backend.target else { return None };
        self.tables.upstream(name, *port)
    }

    fn pick<'a>(
        &'a self,
        backend: Option<&'a CompiledBackend>,
        upstream: &Arc<Upstream>,
        tried: &[SocketAddr],
    ) -> Option<Target<'a>> {
        let worker = &self.client.served.worker;
        let (now, ip) = (worker.now(), self.client.address.ip());
        let mut ask = Ask { now, hash: None, tried };
        let mut granted = None;
        if let Some(HttpLoadBalancer::ConsistentHash { key, .. }) = &upstream.traffic.load_balancer {
            ask.hash = hash::of(key, ip, &self.parts.headers, self.parts.uri.query());
            if ask.hash.is_none()
                && let Some((hash, line)) = cookie::grant(key, &mut *worker.dice.borrow_mut())
            {
                (ask.hash, granted) = (Some(hash), Some(line));
            }
        }
        let endpoints = upstream.endpoints(self.client.dialled).endpoints();
        let session = self.routed.session.and_then(|rule| Session::read(rule, &self.parts.headers, unix()));
        let stuck = session.and_then(|session| endpoints.sticky(session.endpoint, &ask));
        let in_session = stuck.is_some();
        let affinity = upstream.affinity.as_ref();
        let stuck = stuck.or_else(|| {
            let id = affinity.filter(|_| session.is_none())?.endpoint(ip, now)?;
            endpoints.sticky(id, &ask)
        });
        // Plain balancing has chosen for this client already.
        let stuck = stuck.or_else(|| {
            let early = self.client.early.borrow();
            let id = early.as_ref().filter(|_| ask.hash.is_none())?.endpoint.id();
            endpoints.sticky(id, &ask)
        });
        let endpoint = stuck.or_else(|| endpoints.pick(&ask, &mut *worker.dice.borrow_mut()))?;
        let (endpoint, upstream) = (Arc::clone(endpoint), Arc::clone(upstream));
        Some(Target { backend, upstream, endpoint, in_session, granted })
    }
}

/// Since 1970; zero before.
pub(super) fn unix() -> Duration {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default()
}
