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
    limits::retry::Outcome,
    route::{backend::CompiledBackend, table::CompiledRule},
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
        if let Some(target) = self.target_in_session(rule) {
            return Ok(target);
        }
        let number = worker.dice.borrow_mut().number();
        let backend = rule.backends.draw(number).filter(|backend| backend.is_valid());
        let backend = backend.ok_or(Reason::INVALID_BACKEND)?;
        let upstream = self.upstream(backend).ok_or(Reason::NO_ENDPOINTS)?;
        self.pick(Some(backend), upstream, &[]).ok_or_else(|| Reason::NO_ENDPOINTS.into())
    }

    /// An endpoint that was not tried: of the same backendRef, else of another one of the rule's. Where all were tried, a
    /// policy that asks for more tries gets one of them again; without a policy there is no point.
    pub(super) fn next_target(
        &self,
        last: &Target<'_>,
        tried: &[SocketAddr],
        outcome: Outcome,
    ) -> Option<Target<'_>> {
        // The borrow of the last target is not this one's.
        let same = self.routed.rule.zip(last.backend).map(|(rule, last)| &rule.backends.all()[last.index]);
        if let Some(target) = self.pick(same, &last.upstream, tried) {
            return Some(target);
        }
        if let Some(rule) = self.routed.rule {
            let other = |backend: &CompiledBackend| {
                self.upstream(backend).is_some_and(|upstream| {
                    let endpoints = upstream.endpoints(self.client.dialled).endpoints();
                    endpoints.has_any(&Ask { now: self.client.served.worker.now(), hash: None, tried })
                })
            };
            let number = self.client.served.worker.dice.borrow_mut().number();
            let other = rule.backends.draw_among(number, other);
            let other = other.and_then(|backend| self.pick(Some(backend), self.upstream(backend)?, tried));
            if other.is_some() {
                return other;
            }
        }
        // Who refused a stream may take it on a new connection.
        let again = self.routed.retry.is_some() || outcome == Outcome::RefusedStream;
        if again { self.pick(same, &last.upstream, &[]) } else { None }
    }

    /// Where the client's session is, in any of the rule's backendRefs: it takes precedence over their weights, over a
    /// weight of zero as well (GEP-1619, "Traffic Splitting").
    fn target_in_session<'a>(&'a self, rule: &'a CompiledRule) -> Option<Target<'a>> {
        let id = self.session_token()?.endpoint;
        let ask = Ask { now: self.client.served.worker.now(), hash: None, tried: &[] };
        rule.backends.all().iter().find_map(|backend| {
            let upstream = self.upstream(backend)?;
            let endpoints = upstream.endpoints(self.client.dialled).endpoints();
            let endpoint = Arc::clone(endpoints.sticky(id, &ask)?);
            let upstream = Arc::clone(upstream);
            Some(Target { backend: Some(backend), upstream, endpoint, in_session: true, granted: None })
        })
    }

    /// What the client's token says.
    fn session_token(&self) -> Option<Session> {
        Session::read(self.routed.session?, &self.parts.headers, unix())
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
        let affinity = upstream.affinity.as_ref().filter(|_| self.session_token().is_none());
        let stuck = affinity.and_then(|affinity| endpoints.sticky(affinity.endpoint(ip, now)?, &ask));
        // Plain balancing has chosen for this client already.
        let stuck = stuck.or_else(|| {
            let early = self.client.early.borrow();
            let id = early.as_ref().filter(|_| ask.hash.is_none())?.endpoint.id();
            endpoints.sticky(id, &ask)
        });
        let endpoint = stuck.or_else(|| endpoints.pick(&ask, &mut *worker.dice.borrow_mut()))?;
        let (endpoint, upstream) = (Arc::clone(endpoint), Arc::clone(upstream));
        Some(Target { backend, upstream, endpoint, in_session: false, granted })
    }
}

/// Since 1970; zero before.
pub(super) fn unix() -> Duration {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default()
}
