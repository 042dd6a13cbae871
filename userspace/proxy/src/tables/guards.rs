//! What the policies say: of this node's pods to connections and requests that come to them, of routes to requests that
//! take them.
//!
//! Also why the kernel refused a connection, which is the same question asked again: the connect hook tells its errno
//! alone, and decides by rows that are made of what [`weft_policy::open`] says.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use hashbrown::HashMap;
use weft_abi::Reason;
use weft_model::{Protocol, RouteName, Snapshot, Workload};
use weft_policy::{Decision, HttpRequest, Identity, Policies, Protection, Request, Requests, decide, open};

/// The policies of this node's pods and of routes, of one version.
#[derive(Debug, Default)]
pub(super) struct Guards {
    /// By each address of a pod that has policies.
    pods: HashMap<IpAddr, Arc<Protection>>,
    routes: HashMap<RouteName, Protection>,
}

impl Guards {
    pub(super) fn of(snapshot: &Snapshot) -> Self {
        let policies = Policies::new(snapshot);
        let mut pods = HashMap::new();
        for pod in snapshot.workloads.values().filter(|pod| pod.local && pod.enrolled) {
            let protection = Arc::new(policies.protection(pod));
            if !protection.policies.is_empty() || protection.tokens {
                pods.extend(pod.ips.iter().map(|ip| (ip.to_canonical(), Arc::clone(&protection))));
            }
        }
        let routes = policies.routes().map(|route| (route.clone(), policies.of_route(route)));
        Self { pods, routes: routes.collect() }
    }

    /// What the policies of the pod at `to` say to a connection of `client`, a pod of this node: the kernel proves who
    /// it is. `None` where no pod of this node with policies is there.
    pub(super) fn decide_about(&self, client: &Workload, to: SocketAddr) -> Option<Decision> {
        let source = *client.ips.iter().find(|ip| ip.is_ipv4() == to.is_ipv4())?;
        self.open(source, Identity::Proven(&client.service_account), to)
    }

    /// Who reads what comes to the pod at `to`.
    pub(super) fn requests(&self, to: SocketAddr) -> Requests {
        self.of_pod(to).map_or(Requests::Unread, |pod| pod.requests(Protocol::Tcp, to.port()))
    }

    /// What they say to a connection from `source` whose client is `identity`, before there is a request on it.
    pub(super) fn open(&self, source: IpAddr, identity: Identity<'_>, to: SocketAddr) -> Option<Decision> {
        let request = Request { source, identity, protocol: Protocol::Tcp, port: to.port(), http: None };
        Some(open(self.of_pod(to)?, &request).decision)
    }

    /// What they say to a request of such a client; without one, to bytes that are none.
    pub(super) fn decide(
        &self,
        source: IpAddr,
        identity: Identity<'_>,
        to: SocketAddr,
        http: Option<HttpRequest<'_>>,
    ) -> Option<Decision> {
        let request = Request { source, identity, protocol: Protocol::Tcp, port: to.port(), http };
        Some(decide(self.of_pod(to)?, &request))
    }

    /// What the policies of a route say to a request that takes it. `None` where it has none.
    pub(super) fn of_route(&self, route: &RouteName, request: &Request<'_>) -> Option<Decision> {
        Some(decide(self.routes.get(route)?, request))
    }

    /// Whether a route has policies.
    pub(super) fn has_route(&self, route: &RouteName) -> bool {
        self.routes.contains_key(route)
    }

    fn of_pod(&self, to: SocketAddr) -> Option<&Protection> {
        self.pods.get(&to.ip().to_canonical()).map(|protection| &**protection)
    }
}

/// The reason of a refusal that `decision` is to explain. The rows that the kernel asked and this version of the
/// snapshot may differ for a moment: it refused all the same.
pub(super) fn reason(decision: Option<&Decision>) -> Reason {
    decision
        .map(|decision| decision.reason)
        .filter(|&reason| reason != Reason::NONE)
        .unwrap_or(Reason::NOT_ALLOWED)
}

#[cfg(test)]
mod tests;
