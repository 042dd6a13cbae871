//! Who may come in to a pod, and what may be asked of it.

use std::net::{IpAddr, SocketAddr};

use weft_model::{Protocol, RouteName, ServiceAccount};
use weft_policy::{Decision, HttpRequest, Identity, Request, Requests};
use weft_transport::Attested;

use super::Tables;
use crate::Reason;

/// Who makes a connection: an address, and who it has proven to be.
#[derive(Clone, Debug)]
pub(crate) struct Caller {
    pub ip: IpAddr,
    pub proven: Option<ServiceAccount>,
}

impl Tables {
    /// Who reads what comes to the pod at `to`.
    pub(crate) fn requests(&self, to: SocketAddr) -> Requests {
        self.guards.requests(to)
    }

    /// Whether the policies of the pod at `to` let in bytes that are no request.
    pub(crate) fn may_come_in(&self, to: SocketAddr, caller: &Caller) -> Result<(), Reason> {
        verdict(self.guards.decide(caller.ip, self.identity_of(caller), to, None))
    }

    /// Whether they let in a connection on which there may be requests: what none of them could change.
    pub(crate) fn may_open(&self, to: SocketAddr, caller: &Caller) -> Result<(), Reason> {
        verdict(self.guards.open(caller.ip, self.identity_of(caller), to))
    }

    /// What they say to a request. `None` where there are none.
    pub(crate) fn judge(&self, to: SocketAddr, caller: &Caller, http: HttpRequest<'_>) -> Option<Decision> {
        self.guards.decide(caller.ip, self.identity_of(caller), to, Some(http))
    }

    /// What the policies of `route` say to a request that takes it to `dialled`. `None` where there are none.
    pub(crate) fn judge_by_route(
        &self,
        route: &RouteName,
        dialled: SocketAddr,
        caller: &Caller,
        http: HttpRequest<'_>,
    ) -> Option<Decision> {
        let (source, identity) = (caller.ip, self.identity_of(caller));
        let (protocol, port) = (Protocol::Tcp, dialled.port());
        self.guards.of_route(route, &Request { source, identity, protocol, port, http: Some(http) })
    }

    /// Whether `route` has policies.
    pub(crate) fn judges_by_route(&self, route: &RouteName) -> bool {
        self.guards.has_route(route)
    }

    /// The ServiceAccount that the kernel attests of a client at `ip`. `None` where no pod of this node is known to have
    /// it.
    pub(crate) fn attested(&self, attested: &Attested, ip: IpAddr) -> Option<&ServiceAccount> {
        let here = self.people.at(ip).map(|pod| &pod.service_account);
        here.filter(|account| attested.is(account)).or_else(|| {
            // An app may have bound its socket to an address that its object does not name.
            let own = self.workloads.values().filter(|pod| pod.local && pod.enrolled);
            own.map(|pod| &pod.service_account).find(|account| attested.is(account))
        })
    }

    /// Who has the address is enough to be refused.
    fn identity_of<'a>(&'a self, caller: &'a Caller) -> Identity<'a> {
        let claimed = || self.people.at(caller.ip).map(|pod| &pod.service_account);
        match &caller.proven {
            Some(account) => Identity::Proven(account),
            None => claimed().map_or(Identity::Unknown, Identity::FromAddress),
        }
    }
}

fn verdict(decision: Option<Decision>) -> Result<(), Reason> {
    match decision {
        Some(decision) if !decision.allowed() => Err(decision.reason),
        _ => Ok(()),
    }
}
