//! Which policies protect a workload, and on which ports.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    net::IpAddr,
    sync::Arc,
};

use weft_model::{
    AuthorizationPolicy, Mode, ObjectName, Passage, PolicyTarget, Protocol, ROOT_NAMESPACE, RouteName, Rule,
    Service, Snapshot, Workload,
};

use crate::Requests;

/// The policies that protect one workload, by name.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Protection {
    /// None of them: everybody may connect.
    pub policies: Vec<Applied>,
    /// Whether tokens are looked at (AuthenticationPolicy, `jwt`): each request on TCP is read, whatever policies ask for.
    pub tokens: bool,
}

/// A policy as it applies to one workload.
#[derive(Clone, Debug, PartialEq)]
pub struct Applied {
    /// The policy.
    pub policy: Arc<AuthorizationPolicy>,
    /// The workload's ports that it protects; `None` is every port. A policy that targets Services
    /// protects their target ports on this workload.
    pub ports: Option<BTreeSet<(Protocol, u16)>>,
}

/// The policies of a [`Snapshot`], ready to be asked for many workloads.
#[derive(Clone, Debug, Default)]
pub struct Policies {
    all: Vec<Arc<AuthorizationPolicy>>,
    /// Indices of those that select pods, by their namespace.
    by_namespace: HashMap<Arc<str>, Vec<usize>>,
    /// Indices of those that target a Service, by that Service.
    by_service: HashMap<ObjectName, Vec<usize>>,
    /// Indices of those that target a route, by that route.
    by_route: HashMap<RouteName, Vec<usize>>,
    /// Where targeted Services lead, by address.
    backends: HashMap<IpAddr, Vec<Backend>>,
    /// The pods at which tokens are looked at.
    tokens: HashSet<ObjectName>,
}

/// A targeted Service leads to `port` of an address.
#[derive(Clone, Debug)]
struct Backend {
    service: ObjectName,
    port: (Protocol, u16),
}

/// The policies of `snapshot` that protect `workload`. Whoever asks for many workloads keeps a
/// [`Policies`].
pub fn protection(snapshot: &Snapshot, workload: &Workload) -> Protection {
    Policies::new(snapshot).protection(workload)
}

impl Policies {
    /// Sorts the policies of `snapshot` by what they target.
    pub fn new(snapshot: &Snapshot) -> Self {
        let mut policies = Self {
            all: snapshot.policies.values().cloned().collect(),
            tokens: snapshot.jwt.keys().cloned().collect(),
            ..Self::default()
        };
        for (index, policy) in policies.all.iter().enumerate() {
            let namespace = &policy.name.namespace;
            match &policy.target {
                PolicyTarget::Pods(_) => {
                    policies.by_namespace.entry(Arc::clone(namespace)).or_default().push(index);
                }
                PolicyTarget::Services(names) => {
                    for name in names.iter().collect::<BTreeSet<_>>() {
                        let service = ObjectName::new(Arc::clone(namespace), Arc::clone(name));
                        policies.by_service.entry(service).or_default().push(index);
                    }
                }
                PolicyTarget::Routes(routes) => {
                    for route in routes.iter().collect::<BTreeSet<_>>() {
                        policies.by_route.entry(route.clone()).or_default().push(index);
                    }
                }
            }
        }
        if !policies.by_service.is_empty() {
            snapshot.services.values().for_each(|service| policies.note_backends(service));
        }
        policies
    }

    /// The policies that protect `workload`: none unless it is enrolled and stays so, since nothing enforces them.
    pub fn protection(&self, workload: &Workload) -> Protection {
        if !workload.enrolled || workload.passage == Passage::Leaves {
            return Protection::default();
        }
        let mut applied: BTreeMap<usize, Option<BTreeSet<_>>> =
            self.selecting(workload).map(|index| (index, None)).collect();
        for (index, port) in self.behind_services(workload) {
            applied.entry(index).or_default().get_or_insert_default().insert(port);
        }
        let policies = applied.into_iter();
        let policies = policies.map(|(index, ports)| Applied { policy: Arc::clone(&self.all[index]), ports });
        Protection { policies: policies.collect(), tokens: self.tokens.contains(&workload.name) }
    }

    /// The policies that are for requests that take `route`: the client's node proxy decides by them.
    pub fn of_route(&self, route: &RouteName) -> Protection {
        let indices = self.by_route.get(route).into_iter().flatten();
        let applied = indices.map(|&index| Applied { policy: Arc::clone(&self.all[index]), ports: None });
        Protection { policies: applied.collect(), tokens: false }
    }

    /// The routes that have such policies.
    pub fn routes(&self) -> impl Iterator<Item = &RouteName> {
        self.by_route.keys()
    }

    /// Remembers every endpoint of a targeted Service, also where another Service's route leads to it.
    fn note_backends(&mut self, service: &Service) {
        for port in &service.ports {
            for group in port.groups.iter().filter(|group| self.by_service.contains_key(&group.service)) {
                for endpoint in &group.endpoints {
                    let backend = Backend {
                        service: group.service.clone(),
                        port: (port.protocol, endpoint.address.port()),
                    };
                    self.backends.entry(endpoint.address.ip().to_canonical()).or_default().push(backend);
                }
            }
        }
    }

    /// Policies whose selector matches, of the workload's namespace and of the whole mesh.
    fn selecting<'a>(&'a self, workload: &'a Workload) -> impl Iterator<Item = usize> + 'a {
        let namespaces = BTreeSet::from([&*workload.name.namespace, ROOT_NAMESPACE]);
        let candidates = namespaces.into_iter().filter_map(|name| self.by_namespace.get(name)).flatten();
        candidates.copied().filter(|&index| match &self.all[index].target {
            PolicyTarget::Pods(selector) => selector.matches(&workload.labels),
            PolicyTarget::Services(_) | PolicyTarget::Routes(_) => false,
        })
    }

    /// Policies of Services that lead to the workload, each with a port. Anybody may write endpoints
    /// with a foreign address into their own namespace; that gives them no say over the pod there.
    fn behind_services<'a>(
        &'a self,
        workload: &'a Workload,
    ) -> impl Iterator<Item = (usize, (Protocol, u16))> + 'a {
        let backends = workload.ips.iter().filter_map(|ip| self.backends.get(&ip.to_canonical())).flatten();
        backends.filter(|backend| backend.service.namespace == workload.name.namespace).flat_map(|backend| {
            let policies = self.by_service.get(&backend.service).into_iter().flatten();
            policies.map(|&index| (index, backend.port))
        })
    }
}

impl Protection {
    /// Whether policies of this port ask for what only requests say, or tokens are looked at. Nothing but TCP carries any.
    pub fn requests(&self, protocol: Protocol, port: u16) -> Requests {
        let asks = |applied: &&Applied| {
            let here = |rule: &Rule| rule.l7 && rule.covers(port);
            applied.covers(protocol, port) && applied.policy.rules.iter().any(here)
        };
        let asking = self.policies.iter().filter(|_| protocol == Protocol::Tcp).filter(asks);
        let modes = asking.map(|applied| applied.policy.mode);
        let read = self.tokens && protocol == Protocol::Tcp;
        modes.fold(if read { Requests::Judged } else { Requests::Unread }, |requests, mode| match mode {
            Mode::Enforce => Requests::Judged,
            Mode::Audit if requests == Requests::Unread => Requests::Watched,
            Mode::Audit => requests,
        })
    }

    /// Whether there is a port whose requests are judged: without a proxy nobody may come there.
    pub fn judges_requests(&self) -> bool {
        let on_tcp = |applied: &Applied, rule: &Rule| match &applied.ports {
            None => true,
            Some(ports) => {
                ports.iter().any(|(protocol, port)| *protocol == Protocol::Tcp && rule.covers(*port))
            }
        };
        let judges = |applied: &Applied| {
            let mut rules = applied.policy.rules.iter();
            applied.policy.mode == Mode::Enforce && rules.any(|rule| rule.l7 && on_tcp(applied, rule))
        };
        self.tokens || self.policies.iter().any(judges)
    }

    /// Whether policies of any port ask for what only requests say.
    pub fn reads_requests(&self) -> bool {
        self.tokens || self.policies.iter().any(|applied| applied.policy.rules.iter().any(|rule| rule.l7))
    }
}

impl Applied {
    /// Whether the policy protects this port.
    pub fn covers(&self, protocol: Protocol, port: u16) -> bool {
        self.ports.as_ref().is_none_or(|ports| ports.contains(&(protocol, port)))
    }
}

#[cfg(test)]
mod tests;
