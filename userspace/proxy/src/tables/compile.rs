//! A Snapshot becomes [`Tables`]. What did not change is not compiled again.

use std::{net::SocketAddr, sync::Arc};

use hashbrown::HashMap;
use weft_model::{
    AppProtocol, EndpointGroup, HashKey, HttpLoadBalancer, LoadBalancer, Locality, ObjectName, PortRouting,
    Protocol, RetryBudget, RouteSet, Service, ServicePort, Snapshot, TrafficSettings,
};

use super::{Guards, People, Port, RuleKey, Tables, Upstream, upstream::Said};
use crate::{
    balance::EndpointState,
    clock::Moment,
    limits::{Budget, RateLimit},
    route::{PortRoutes, table::CompileError},
    tokens::Tokens,
};

/// Remembers the last version.
#[derive(Debug, Default)]
pub(crate) struct Compiler {
    services: HashMap<ObjectName, Compiled>,
    tokens: Tokens,
    locality: Arc<Locality>,
}

/// What a version brought.
#[derive(Debug)]
pub(crate) struct Version {
    pub tables: Tables,
    /// Endpoints that are in none of their backends any more.
    pub left: Vec<Arc<EndpointState>>,
    /// Ports whose routes did not compile; they keep those that they had.
    pub errors: Vec<CompileError>,
}

#[derive(Debug)]
struct Compiled {
    from: Arc<Service>,
    ports: Vec<CompiledPort>,
}

#[derive(Debug)]
struct CompiledPort {
    number: u16,
    /// One for each group; the Service's own endpoints are at `own`.
    upstreams: Vec<Arc<Upstream>>,
    own: Option<usize>,
    routing: Arc<PortRouting>,
    served: Option<Arc<Port>>,
}

impl Compiler {
    /// Compiles `snapshot`, which takes the place of the last one.
    pub(crate) fn compile(&mut self, snapshot: &Snapshot, now: Moment) -> Version {
        self.tokens = Tokens::updated(snapshot, &self.tokens);
        let mut version = Version {
            tables: Tables {
                workloads: Arc::clone(&snapshot.workloads),
                people: People::of(snapshot),
                guards: Guards::of(snapshot),
                trust_domain: Arc::clone(&snapshot.trust_domain),
                tokens: self.tokens.clone(),
                ..Tables::default()
            },
            left: Vec::new(),
            errors: Vec::new(),
        };
        let moved = *self.locality != *snapshot.locality;
        self.locality = Arc::clone(&snapshot.locality);
        let mut before = std::mem::take(&mut self.services);
        for (name, service) in snapshot.services.iter() {
            let last = before.remove(name);
            let compiled = match last {
                Some(last) if !moved && Arc::ptr_eq(&last.from, service) => last,
                last => self.service(service, last, now, &mut version),
            };
            version.tables.enter(&compiled);
            self.services.insert(name.clone(), compiled);
        }
        for gone in before.into_values().flat_map(|service| service.ports) {
            version.left.extend(gone.upstreams.iter().flat_map(|upstream| upstream.gone(now)));
        }
        version
    }

    fn service(
        &self,
        service: &Arc<Service>,
        before: Option<Compiled>,
        now: Moment,
        version: &mut Version,
    ) -> Compiled {
        let mut before = before.map_or_else(Vec::new, |before| before.ports);
        let mut ports = Vec::new();
        for port in service.ports.iter().filter(|port| port.protocol == Protocol::Tcp) {
            let at = before.iter().position(|before| before.number == port.port);
            let last = at.map(|at| before.swap_remove(at));
            ports.push(self.port(service, port, last.as_ref(), now, version));
        }
        for gone in before {
            version.left.extend(gone.upstreams.iter().flat_map(|upstream| upstream.gone(now)));
        }
        Compiled { from: Arc::clone(service), ports }
    }

    fn port(
        &self,
        service: &Service,
        port: &ServicePort,
        before: Option<&CompiledPort>,
        now: Moment,
        version: &mut Version,
    ) -> CompiledPort {
        let routing = port.routing.clone().unwrap_or_else(|| plain_routing(service, port));
        let mut last = before.map_or_else(Vec::new, |before| before.upstreams.clone());
        let mut upstreams = Vec::new();
        for group in &port.groups {
            let said = Said {
                service: &group.service,
                port: port.port,
                protocol: routing.protocol,
                traffic: &routing.traffic,
                affinity: service.session_affinity,
                group,
                locality: &self.locality,
            };
            let at = last.iter().position(|before| before.service == group.service);
            let last = at.map(|at| last.swap_remove(at));
            let upstream = Upstream::updated(&said, last.as_deref(), now, &mut version.left);
            upstreams.push(Arc::new(upstream));
        }
        version.left.extend(last.iter().flat_map(|gone| gone.gone(now)));
        let plain = plain(&port.groups, &upstreams);
        let last = before.and_then(|before| before.served.as_deref());
        let same = before.is_some_and(|before| before.routing == routing);
        let routes = last.filter(|_| same).map(|last| Ok(Arc::clone(&last.routes)));
        let routes = routes.unwrap_or_else(|| PortRoutes::compile(&routing).map(Arc::new));
        let served = match routes.map(|routes| Port::new(service, port.port, &routing, routes, plain, last)) {
            Ok(served) => Some(Arc::new(served)),
            Err(error) => {
                version.errors.push(error);
                before.and_then(|before| before.served.clone())
            }
        };
        let own = port.groups.iter().position(|group| group.service == service.name);
        CompiledPort { number: port.port, upstreams, own, routing, served }
    }
}

impl Tables {
    fn enter(&mut self, service: &Compiled) {
        for port in &service.ports {
            if let Some(own) = port.own {
                let key = (service.from.name.clone(), port.number);
                self.upstreams.insert(key, Arc::clone(&port.upstreams[own]));
            }
            let Some(served) = &port.served else { continue };
            for ip in &service.from.ips {
                self.ports.insert(SocketAddr::new(*ip, port.number), Arc::clone(served));
            }
        }
    }
}

impl Port {
    fn new(
        service: &Service,
        port: u16,
        routing: &PortRouting,
        routes: Arc<PortRoutes>,
        plain: Vec<(u32, Arc<Upstream>)>,
        before: Option<&Self>,
    ) -> Self {
        let limit = routing.traffic.rate_limit.as_ref().map(|rules| {
            let last = before.filter(|before| before.traffic.rate_limit.as_ref() == Some(rules));
            let last = last.and_then(|before| before.limit.clone());
            last.unwrap_or_else(|| Arc::new(RateLimit::new(rules)))
        });
        let budget = routing.traffic.retry_budget.map(|settings| {
            let last = before.and_then(|before| before.budget.as_ref());
            made_of(settings, last)
        });
        let mut compiled = Self {
            service: service.name.clone(),
            number: port,
            protocol: routing.protocol,
            routes,
            traffic: Arc::clone(&routing.traffic),
            plain,
            limit,
            budget,
            rule_limits: HashMap::new(),
            rule_budgets: HashMap::new(),
        };
        for set in routing.consumers.values().chain([&routing.producer]) {
            compiled.remember(set, before);
        }
        compiled
    }

    /// The buckets and budgets of rules that say other things than the Service does.
    fn remember(&mut self, set: &RouteSet, before: Option<&Self>) {
        let (RouteSet::Http(routes) | RouteSet::Grpc(routes)) = set else { return };
        for route in routes {
            for (index, rule) in route.rules.iter().enumerate() {
                let key = (route.name.clone(), index);
                let wanted = rule.traffic.rate_limit.as_ref();
                if let Some(rules) = wanted.filter(|_| wanted != self.traffic.rate_limit.as_ref()) {
                    let last = before.and_then(|before| before.limit_made_of(&key, rules));
                    let limit = last.unwrap_or_else(|| Arc::new(RateLimit::new(rules)));
                    self.rule_limits.insert(key.clone(), limit);
                }
                let wanted = rule.traffic.retry_budget;
                if let Some(settings) = wanted.filter(|_| wanted != self.traffic.retry_budget) {
                    let last = before.and_then(|before| before.rule_budgets.get(&key));
                    self.rule_budgets.insert(key, made_of(settings, last));
                }
            }
        }
    }

    fn limit_made_of(&self, key: &RuleKey, rules: &[weft_model::RateLimitRule]) -> Option<Arc<RateLimit>> {
        self.rule_limits.get(key).filter(|limit| limit.is_of(rules)).cloned()
    }
}

/// A budget, which goes on where the last version had the same.
fn made_of(settings: RetryBudget, last: Option<&Arc<Budget>>) -> Arc<Budget> {
    let last = last.filter(|budget| *budget.settings() == settings);
    last.map_or_else(|| Arc::new(Budget::new(settings)), Arc::clone)
}

fn plain(groups: &[EndpointGroup], upstreams: &[Arc<Upstream>]) -> Vec<(u32, Arc<Upstream>)> {
    let weighted = groups.iter().zip(upstreams).filter(|(group, _)| group.weight > 0);
    weighted.map(|(group, upstream)| (group.weight, Arc::clone(upstream))).collect()
}

/// Of a port that nothing leads here any more: who is still connected is served as by a plain Service.
fn plain_routing(service: &Service, port: &ServicePort) -> Arc<PortRouting> {
    Arc::new(PortRouting {
        protocol: AppProtocol::of(port.app_protocol.as_deref()),
        traffic: Arc::new(service.traffic.over(&kernel_settings(service.load_balancer))),
        ..PortRouting::default()
    })
}

/// What an agent of before [`Service::traffic`] says. `Random` is the kernel's default, so it says nothing.
fn kernel_settings(balancer: LoadBalancer) -> TrafficSettings {
    let load_balancer = match balancer {
        LoadBalancer::Random => None,
        LoadBalancer::RoundRobin => Some(HttpLoadBalancer::RoundRobin),
        LoadBalancer::LeastRequest => Some(HttpLoadBalancer::LeastRequest),
        LoadBalancer::SourceIpHash { table_size } => {
            Some(HttpLoadBalancer::ConsistentHash { key: HashKey::SourceIp, table_size })
        }
    };
    TrafficSettings { load_balancer, ..TrafficSettings::default() }
}
