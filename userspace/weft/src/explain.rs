//! `weft explain`: what would become of a request that nobody has made, and why.
//!
//! Answered here, in the one crate above both: by the routing engine of the proxy ([`weft_proxy::route`]), in the
//! words of the admin API, so that the answer cannot differ from what the proxy does.

mod backends;
mod because;
mod nearest;
mod routed;
mod settings;
#[cfg(test)]
mod tests;

use std::net::{IpAddr, Ipv4Addr};

use http::{HeaderMap, HeaderValue};
use weft_abi::Reason;
use weft_model::{
    Endpoint, LoadBalancer, MtlsMode, ObjectName, PortRouting, Protocol, ProvenClaims, RouteName, Service,
    ServiceKind, ServicePort, Snapshot, Workload,
};
use weft_policy::{Identity, Policies, Request, RuleName, decide};
use weft_proxy::route::path::normalise_uri;
use weft_telemetry::{
    api::{ExplainQuery, ExplainedSetting, Explanation, Failure, OwnAnswer, Path, Verdict},
    views::{self, AskedRequest},
};

use self::backends::Share;
use crate::settings::ServiceScope;

/// Who asks whom, found in the snapshot.
struct Question<'a> {
    snapshot: &'a Snapshot,
    query: &'a ExplainQuery,
    client: &'a Workload,
    service: &'a Service,
    port: &'a ServicePort,
}

/// The way of `query`. A failure is about the question: a name that is not there, a header that is none.
pub(crate) fn explain(
    snapshot: &Snapshot,
    query: &ExplainQuery,
    scope: ServiceScope,
) -> Result<Explanation, Failure> {
    let question = Question::find(snapshot, query)?;
    let Question { client, service, port, .. } = question;
    let mut told = blank();
    told.managed = client.enrolled;
    if !client.local {
        told.notes
            .push(format!("{} is of another node; endpoints are counted as this one sees them", client.name));
    }
    let asked = match question.asked()? {
        Ok(asked) => Some(asked),
        Err(reason) => {
            refuse(&mut told, reason);
            return Ok(told);
        }
    };
    if !client.enrolled {
        let fate = match scope {
            ServiceScope::Enrolled => "its connections are left alone",
            ServiceScope::Node => "the kernel balances its connections, and routes are not for them",
        };
        told.because.push(format!("{} is not in the mesh: {fate}", client.name));
        question.plain(&mut told, &backends::of_groups(snapshot, service, port), asked.as_ref());
        return Ok(told);
    }
    match (&port.routing, service.kind) {
        (Some(routing), ServiceKind::ClusterIp) => question.routed(routing, &mut told)?,
        (None, ServiceKind::ClusterIp) => {
            told.because.push("nothing of the Service needs the proxy".to_owned());
            told.settings.extend(kernel_settings(service));
            question.plain(&mut told, &backends::of_groups(snapshot, service, port), asked.as_ref());
        }
        (_, ServiceKind::Headless) => {
            told.because.push("the Service is headless: its clients dial pods".to_owned());
            question.plain(&mut told, &backends::of_groups(snapshot, service, port), asked.as_ref());
        }
        (_, ServiceKind::ExternalName) => {
            told.because.push("the Service is an alias in DNS: its connections are left alone".to_owned());
        }
    }
    Ok(told)
}

impl<'a> Question<'a> {
    fn find(snapshot: &'a Snapshot, query: &'a ExplainQuery) -> Result<Self, Failure> {
        let no = |kind: &str, name: &str, list: &str| {
            Failure::new(format!("there is no {kind} {name}"), format!("see: weft get {list}"))
        };
        let pod = ObjectName::parse(&query.from).and_then(|name| snapshot.workloads.get(&name));
        let service = ObjectName::parse(&query.to).and_then(|name| snapshot.services.get(&name));
        let client = pod.ok_or_else(|| no("pod", &query.from, "workloads"))?;
        let service = service.ok_or_else(|| no("Service", &query.to, "services"))?;
        let tcp = || service.ports.iter().filter(|port| port.protocol == Protocol::Tcp);
        let port = tcp().find(|port| port.port == query.port).ok_or_else(|| {
            let known: Vec<_> = tcp().map(|port| port.port.to_string()).collect();
            let message = format!("Service {} has no TCP port {}", query.to, query.port);
            Failure::new(message, format!("its ports are {}", known.join(", ")))
        })?;
        Ok(Self { snapshot, query, client, service, port })
    }

    /// The request as it is sent; `Err` is why its path is refused.
    fn asked(&self) -> Result<Result<AskedRequest, Reason>, Failure> {
        let mut parts = routed::head(self.query, self.service.name.to_string())?;
        if normalise_uri(&mut parts.uri).is_err() {
            return Ok(Err(Reason::PATH_INVALID));
        }
        Ok(routed::read(&parts).ok_or(Reason::PATH_INVALID))
    }

    /// The request takes the proxy.
    fn routed(&self, routing: &PortRouting, told: &mut Explanation) -> Result<(), Failure> {
        told.path = Path::Http;
        told.because = because::because(self.service, routing);
        told.protocol = Some(because::protocol(routing.protocol).to_owned());
        let found = routed::find(self, routing)?;
        told.routes = found.whose;
        told.rule = found.rule;
        told.nearest = found.nearest;
        told.answer = found.answer;
        told.settings = settings::in_force(found.handling, &routing.traffic);
        if let Some(reason) = found.refused {
            refuse(told, reason);
            return Ok(());
        }
        if told.answer.is_some() {
            return Ok(());
        }
        let shares =
            found.backends.unwrap_or_else(|| backends::of_groups(self.snapshot, self.service, self.port));
        self.plain(told, &shares, found.asked.as_ref());
        if let (Some(route), Some(asked)) = (&found.taken, &found.received) {
            self.by_route(told, route, asked);
        }
        Ok(())
    }

    /// What the policies of the route say, by which the client's proxy decides.
    fn by_route(&self, told: &mut Explanation, route: &RouteName, asked: &AskedRequest) {
        let protection = Policies::new(self.snapshot).of_route(route);
        let family = |ip: &&IpAddr| self.service.ips.iter().any(|own| own.is_ipv4() == ip.is_ipv4());
        let source = self.client.ips.iter().find(family).copied();
        let request = Request {
            source: source.unwrap_or(Ipv4Addr::UNSPECIFIED.into()),
            identity: Identity::Proven(&self.client.service_account),
            protocol: Protocol::Tcp,
            port: self.query.port,
            http: Some(asked.view()),
        };
        let decision = decide(&protection, &request);
        let by =
            |rule: &Option<RuleName>| rule.as_ref().map(|rule| format!(" by {rule}")).unwrap_or_default();
        if !decision.allowed() {
            told.notes.push(format!("policies of the route refuse it{}", by(&decision.rule)));
            refuse(told, decision.reason);
        } else if let Some(audit) = &decision.audit {
            told.notes.push(format!("audited policies of the route would refuse it{}", by(&audit.rule)));
            if told.verdict == Verdict::Forwarded {
                (told.verdict, told.reason) = (Verdict::Audit, Some(audit.reason.word().to_owned()));
            }
        }
    }

    /// The request, as whoever forwards it leaves it, goes to one of `shares`, if their policies let it.
    fn plain(&self, told: &mut Explanation, shares: &[Share<'_>], asked: Option<&AskedRequest>) {
        let weighted = || shares.iter().filter(|share| share.weight > 0);
        let bad: Vec<_> = weighted().filter_map(|share| Some((share, share.problem?))).collect();
        for (share, reason) in &bad {
            if bad.len() < weighted().count() {
                let percent = share.percent(shares);
                told.notes.push(format!("{percent:.1} % of requests are refused: {reason}, {}", share.name));
            }
        }
        told.backends = shares.iter().map(|share| share.view(shares)).collect();
        self.between_nodes(told, shares);
        let endpoints = weighted().flat_map(|share| share.eligible.iter().copied());
        let servers = endpoints.map(|endpoint: &Endpoint| (self.port.protocol, endpoint));
        told.pods = views::authz_of_pod(self.snapshot, self.client, servers, asked, &authenticate);
        if weighted().all(|share| share.problem.is_some()) {
            let reason = bad.first().map(|(_, reason)| *reason);
            let none = if told.path == Path::Http && told.rule.is_some() {
                Reason::INVALID_BACKEND
            } else {
                Reason::NO_ENDPOINTS
            };
            refuse(told, reason.unwrap_or(none));
            return;
        }
        let mut decisive = [Verdict::Denied, Verdict::Audit].into_iter();
        let decisive = decisive.find_map(|v| told.pods.iter().find(|pod| pod.verdict == v));
        if let Some(pod) = decisive {
            (told.verdict, told.reason) = (pod.verdict, pod.reason.clone());
        }
    }

    /// Which of the eligible endpoints are reached by mutual TLS, and which of them refuse everything else.
    fn between_nodes(&self, told: &mut Explanation, shares: &[Share<'_>]) {
        let mtls = &self.snapshot.mtls;
        let eligible = shares.iter().filter(|share| share.weight > 0).flat_map(|share| &share.eligible);
        let server = |endpoint: &&Endpoint| {
            let pod = endpoint.pod.as_ref().and_then(|pod| self.snapshot.workloads.get(pod))?;
            let port = endpoint.address.port();
            let sealed = mtls.is_between(self.client, pod, port);
            let strict =
                !self.client.enrolled && pod.enrolled && mtls.mode(&pod.name, port) == MtlsMode::Strict;
            Some((sealed, strict))
        };
        let servers: Vec<_> = eligible.map(|endpoint| server(endpoint).unwrap_or_default()).collect();
        let (sealed, strict) = servers
            .iter()
            .fold((0, 0), |(a, b), (sealed, strict)| (a + usize::from(*sealed), b + usize::from(*strict)));
        let all = servers.len();
        if sealed > 0 {
            if sealed == all && told.path == Path::Kernel {
                told.path = Path::Tls;
            }
            told.because
                .push(format!("{sealed} of {all} endpoints are enrolled pods of other nodes: mutual TLS"));
        }
        if strict > 0 && strict == all {
            refuse(told, Reason::PLAINTEXT);
        } else if strict > 0 {
            told.notes.push(format!("{strict} of {all} endpoints refuse it: {}", Reason::PLAINTEXT));
        }
    }
}

/// As the proxy of the server's node would.
pub(crate) fn authenticate(
    snapshot: &Snapshot,
    pod: &ObjectName,
    headers: &mut Vec<(String, String)>,
) -> Result<Option<ProvenClaims>, Reason> {
    let read = headers.iter().filter_map(|(name, value)| Some((name.parse().ok()?, value.parse().ok()?)));
    let mut map: HeaderMap = read.collect();
    let claims = weft_proxy::authenticate(snapshot, pod, &mut map)?;
    let text = |value: &HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    *headers = map.iter().map(|(name, value)| (name.to_string(), text(value))).collect();
    Ok(claims)
}

fn refuse(told: &mut Explanation, reason: Reason) {
    (told.verdict, told.reason) = (Verdict::Denied, Some(reason.word().to_owned()));
    if told.path == Path::Http && told.answer.is_none() {
        let why = reason.meaning().to_owned();
        told.answer = Some(OwnAnswer { status: reason.status(), location: None, why });
    }
}

fn kernel_settings(service: &Service) -> Vec<ExplainedSetting> {
    let (algorithm, from) = match service.load_balancer {
        LoadBalancer::Random => ("Random".to_owned(), "default"),
        LoadBalancer::RoundRobin => ("RoundRobin".to_owned(), "TrafficPolicy of the Service"),
        LoadBalancer::LeastRequest => {
            ("LeastRequest, by connections".to_owned(), "TrafficPolicy of the Service")
        }
        LoadBalancer::SourceIpHash { .. } => {
            ("ConsistentHash by the client's address".to_owned(), "TrafficPolicy of the Service")
        }
    };
    let mut all = vec![settings::setting("loadBalancer", algorithm, from)];
    all.extend(settings::affinity(service));
    all
}

fn blank() -> Explanation {
    Explanation {
        verdict: Verdict::Forwarded,
        reason: None,
        managed: true,
        path: Path::Kernel,
        because: Vec::new(),
        protocol: None,
        routes: None,
        rule: None,
        nearest: Vec::new(),
        answer: None,
        backends: Vec::new(),
        settings: Vec::new(),
        pods: Vec::new(),
        notes: Vec::new(),
    }
}
