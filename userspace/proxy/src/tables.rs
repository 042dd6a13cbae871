//! What a Snapshot is to the workers: who is behind a dialled address, ready to be asked.
//!
//! Compiled once for each version, off the workers, and put in place as a whole. What counts or remembers (endpoints,
//! breakers, budgets, buckets) goes on from version to version.

mod compile;
mod guards;
mod people;
mod upstream;

use std::{
    collections::{BTreeMap, HashMap},
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use weft_model::{AppProtocol, MtlsMode, ObjectName, ServiceAccount, TrafficSettings, Workload};
use weft_policy::Identity;

use crate::{
    Reason,
    draw::Draw,
    limits::{Budget, RateLimit},
    route::{PortRoutes, table::CompiledRule},
};
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

    /// Who has to be at `to`, where that is a pod of another node that is spoken to by mutual TLS.
    pub(crate) fn sealed(&self, to: SocketAddr) -> Option<&ServiceAccount> {
        self.people.sealed(to)
    }

    /// Whether `ip` is an enrolled pod's of another node.
    pub(crate) fn is_of_mesh(&self, ip: IpAddr) -> bool {
        self.people.at(ip).is_some_and(|pod| pod.enrolled && !pod.local)
    }

    /// Whether a port of `pod` takes nothing but mutual TLS from other nodes.
    pub(crate) fn is_strict(&self, pod: &ObjectName, port: u16) -> bool {
        self.people.mode(pod, port) == MtlsMode::Strict
    }

    /// Whether the policies of the pod at `to` let a connection from `source` in. Its client is who it has `proven` to be;
    /// who has that address is enough to be refused.
    pub(crate) fn may_come_in(
        &self,
        to: SocketAddr,
        source: IpAddr,
        proven: Option<&ServiceAccount>,
    ) -> Result<(), Reason> {
        let claimed = || self.people.at(source).map(|pod| &pod.service_account);
        let identity = match proven {
            Some(account) => Identity::Proven(account),
            None => claimed().map_or(Identity::Unknown, Identity::FromAddress),
        };
        match self.guards.decide(source, identity, to) {
            Some(decision) if !decision.allowed() => Err(decision.reason),
            _ => Ok(()),
        }
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
