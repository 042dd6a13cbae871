//! What a Snapshot is to the workers: who is behind a dialled address, ready to be asked.
//!
//! Compiled once for each version, off the workers, and put in place as a whole. What counts or remembers (endpoints,
//! breakers, budgets, buckets) goes on from version to version.

mod authorize;
mod compile;
mod guards;
mod people;
mod upstream;

use hashbrown::HashMap;
use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use weft_model::{
    AppProtocol, MtlsMode, ObjectName, Passage, PortRouting, ServiceAccount, TrafficSettings, Workload,
};

use crate::{
    Reason,
    clock::Moment,
    draw::Draw,
    limits::{Budget, RateLimit},
    route::{PortRoutes, table::CompiledRule},
    tokens::{Providers, Tokens},
};
pub(crate) use authorize::Caller;
pub(crate) use compile::Compiler;
use guards::Guards;
use people::People;
pub(crate) use upstream::Upstream;

/// Everything that a request is asked against, of one version.
#[derive(Debug, Default)]
pub(crate) struct Tables {
    /// By the address that apps dial.
    ports: HashMap<SocketAddr, Arc<Port>>,
    upstreams: HashMap<UpstreamKey, Arc<Upstream>>,
    workloads: Arc<BTreeMap<ObjectName, Arc<Workload>>>,
    people: People,
    guards: Guards,
    trust_domain: Arc<str>,
    tokens: Tokens,
}

/// A port of a Service that the proxy serves.
#[derive(Debug)]
pub(crate) struct Port {
    pub service: ObjectName,
    pub number: u16,
    pub protocol: AppProtocol,
    pub routes: Arc<PortRoutes>,
    pub traffic: Arc<TrafficSettings>,
    /// Where plain balancing sends what no route is for, by weight.
    plain: Vec<(u32, Arc<Upstream>)>,
    limit: Option<Arc<RateLimit>>,
    budget: Option<Arc<Budget>>,
    /// Of rules that say more than the Service.
    rule_limits: HashMap<RuleKey, Arc<RateLimit>>,
    rule_budgets: HashMap<RuleKey, Arc<Budget>>,
}

type UpstreamKey = (ObjectName, u16);
/// A route and a rule's place in it.
type RuleKey = (ObjectName, usize);

impl Tables {
    /// The port behind a dialled address.
    pub(crate) fn port(&self, dialled: SocketAddr) -> Option<&Arc<Port>> {
        self.ports.get(&dialled)
    }

    /// The endpoints of a Service's port.
    pub(crate) fn upstream(&self, service: &ObjectName, port: u16) -> Option<&Arc<Upstream>> {
        // A key by reference would need a type of its own; the name is two `Arc`s.
        self.upstreams.get(&(service.clone(), port))
    }

    /// The ServiceAccount of a pod.
    pub(crate) fn identity(&self, pod: &ObjectName) -> Option<&ServiceAccount> {
        Some(&self.workloads.get(pod)?.service_account)
    }

    /// Who has to be at `to`, where that is a pod of another node to which `pod` speaks by mutual TLS.
    pub(crate) fn sealed(&self, pod: &ObjectName, to: SocketAddr) -> Option<&ServiceAccount> {
        self.people.sealed(to).filter(|_| !self.is_passing(pod))
    }

    /// The same of a connection of which the kernel has said so, which may have been a moment ago: whatever the mode of `to`
    /// and the way of its pod are by now, that pod's node still understands it.
    pub(crate) fn sealed_by_kernel(&self, to: SocketAddr) -> Option<&ServiceAccount> {
        Some(&self.people.elsewhere(to.ip())?.service_account)
    }

    /// Whether `pod`, of this node, is on its way into the mesh or out of it.
    pub(crate) fn is_passing(&self, pod: &ObjectName) -> bool {
        self.workloads.get(pod).is_some_and(|pod| pod.passage != Passage::Done)
    }

    /// Whether this is the address of a pod of this node.
    pub(crate) fn is_here(&self, ip: IpAddr) -> bool {
        self.people.at(ip).is_some_and(|pod| pod.local)
    }

    /// How far the enrolled pod of another node is that has this address.
    pub(crate) fn elsewhere(&self, ip: IpAddr) -> Option<Passage> {
        Some(self.people.elsewhere(ip)?.passage)
    }

    /// Whether nobody is known to have this address, and the port of `pod` takes mutual TLS: it may be a pod's of which other nodes
    /// have not heard yet.
    pub(crate) fn may_be_a_new_client(&self, ip: IpAddr, pod: &ObjectName, port: u16) -> bool {
        self.people.at(ip).is_none() && self.people.mode(pod, port) != MtlsMode::Disabled
    }

    /// Who is at `to`, where `pod` and that one prove to each other who they are: by mutual TLS, or by the kernel of this
    /// node.
    pub(crate) fn proven_to(&self, pod: &ObjectName, to: SocketAddr) -> Option<&ServiceAccount> {
        self.sealed(pod, to).or_else(|| self.people.neighbour(to))
    }

    /// The trust domain of this node's workloads.
    pub(crate) fn trust_domain(&self) -> &str {
        &self.trust_domain
    }

    /// Whether a port of `pod` takes nothing but mutual TLS from other nodes.
    pub(crate) fn is_strict(&self, pod: &ObjectName, port: u16) -> bool {
        self.people.mode(pod, port) == MtlsMode::Strict
    }

    /// Whose tokens the pod takes; `None` where nobody looks at tokens.
    pub(crate) fn providers(&self, pod: &ObjectName) -> Option<&Arc<Providers>> {
        self.tokens.of(pod)
    }

    /// Why the kernel refused the connection of `pod` to `to`.
    pub(crate) fn why_refused(&self, pod: &ObjectName, to: SocketAddr) -> Reason {
        let decision = self.workloads.get(pod).and_then(|client| self.guards.decide_about(client, to));
        if let Some(rule) = decision.as_ref().and_then(|decision| decision.rule.as_ref()) {
            tracing::debug!(%pod, %to, %rule, "a policy refuses a connection");
        }
        guards::reason(decision.as_ref())
    }
}

impl Port {
    /// What requests to a pod of this node, made from elsewhere, are forwarded by: to its app, and nothing else.
    pub(crate) fn of_pod(pod: &ObjectName, at: SocketAddr, now: Moment) -> Self {
        let upstream = Arc::new(Upstream::of_pod(pod, at, now));
        let routes =
            PortRoutes::compile(&PortRouting::default()).expect("no routes have nothing to be wrong");
        Self {
            service: pod.clone(),
            number: at.port(),
            protocol: AppProtocol::Detect,
            routes: Arc::new(routes),
            traffic: Arc::default(),
            plain: vec![(1, upstream)],
            limit: None,
            budget: None,
            rule_limits: HashMap::new(),
            rule_budgets: HashMap::new(),
        }
    }

    /// Plain balancing's choice among the groups of the port.
    pub(crate) fn plain(&self, dice: &mut impl Draw) -> Option<&Arc<Upstream>> {
        if let [(_, only)] = &*self.plain {
            return Some(only);
        }
        let total: u64 = self.plain.iter().map(|(weight, _)| u64::from(*weight)).sum();
        let mut point = dice.below(total);
        let mut groups = self.plain.iter();
        let drawn = groups.find(|(weight, _)| {
            let here = point < u64::from(*weight);
            point = point.saturating_sub(u64::from(*weight));
            here
        });
        drawn.map(|(_, upstream)| upstream)
    }

    /// The rate limit for a request: the rule's own, else the Service's.
    pub(crate) fn limit(&self, rule: Option<&CompiledRule>) -> Option<&Arc<RateLimit>> {
        let Some(rule) = rule else { return self.limit.as_ref() };
        let wanted = rule.rule().traffic.rate_limit.as_ref()?;
        if Some(wanted) == self.traffic.rate_limit.as_ref() {
            return self.limit.as_ref();
        }
        self.rule_limits.get(&key(rule))
    }

    /// The retry budget for a request: the rule's own, else that of the Service that was asked, wherever its routes lead.
    /// `None` where neither says anything: the backend's holds.
    pub(crate) fn budget(&self, rule: Option<&CompiledRule>) -> Option<&Arc<Budget>> {
        let Some(rule) = rule else { return self.budget.as_ref() };
        let wanted = rule.rule().traffic.retry_budget?;
        if Some(wanted) == self.traffic.retry_budget {
            return self.budget.as_ref();
        }
        self.rule_budgets.get(&key(rule))
    }
}

fn key(rule: &CompiledRule) -> RuleKey {
    (rule.route.name.clone(), rule.index)
}

#[cfg(test)]
mod tests;
