//! The rule for a request, and what holds for it.

use std::time::Duration;

use http::request::Parts;
use tokio::time::Instant;
use weft_model::{Retry, RouteKind, RouteMatch, SessionPersistence, Timeouts, TrafficSettings};

use super::Refused;
use crate::{
    Reason, clock,
    route::{Asked as AskedFor, Routes, table::CompiledRule},
    serve::Client,
    tables::Port,
};

/// See the module.
pub(super) struct Routed<'a> {
    /// `None` is plain Service behaviour.
    pub rule: Option<&'a CompiledRule>,
    /// What kind of route the rule is of.
    pub kind: RouteKind,
    pub traffic: &'a TrafficSettings,
    pub timeouts: Timeouts,
    pub retry: Option<&'a Retry>,
    pub session: Option<&'a SessionPersistence>,
    pub matches: &'a [RouteMatch],
    began: Instant,
}

impl<'a> Routed<'a> {
    pub(super) fn find(port: &'a Port, client: &Client, parts: &Parts) -> Result<Self, Refused> {
        let began = Instant::from_std(clock::instant());
        let (kind, table) = match port.routes.for_client(&client.served.pod.name.namespace) {
            // TLSRoutes are for connections; what came in clear text is not theirs.
            Routes::Plain | Routes::Tls(_) => {
                return Ok(Self {
                    rule: None,
                    kind: RouteKind::Http,
                    traffic: &port.traffic,
                    timeouts: port.traffic.timeouts,
                    retry: port.traffic.retry.as_ref(),
                    session: None,
                    matches: &[],
                    began,
                });
            }
            Routes::Http(table) => (RouteKind::Http, table),
            Routes::Grpc(table) => (RouteKind::Grpc, table),
        };
        let asked = AskedFor::of(parts).map_err(|_| Reason::PATH_INVALID)?;
        let rule = table.find(&asked).ok_or(Reason::NO_RULE)?;
        let said = rule.rule();
        Ok(Self {
            rule: Some(rule),
            kind,
            traffic: &said.traffic,
            timeouts: said.timeouts,
            retry: said.retry.as_ref(),
            session: said.session.as_ref(),
            matches: &said.matches,
            began,
        })
    }

    /// When the request has to be over: the rule's timeout or the call's own, whichever is sooner.
    pub(super) fn deadline(&self, grpc: Option<Duration>) -> Option<Instant> {
        let said = self.timeouts.request.filter(|time| !time.is_zero());
        let time = match (said, grpc) {
            (Some(said), Some(grpc)) => said.min(grpc),
            (said, grpc) => said.or(grpc)?,
        };
        self.began.checked_add(time)
    }

    /// How long one try may take.
    pub(super) fn try_time(&self) -> Option<Duration> {
        self.timeouts.backend_request.filter(|time| !time.is_zero())
    }
}
