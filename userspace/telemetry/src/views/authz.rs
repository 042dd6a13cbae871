//! What the policies would say to a connection that nobody has made.

use std::net::{IpAddr, Ipv4Addr};

use weft_abi::Reason;
use weft_model::{
    Endpoint, ObjectName, Protocol, ProvenClaims, ServiceAccount, Snapshot, Workload, eligible,
};
use weft_policy::{
    Claims, Decision, HttpRequest, Identity, Policies, Request, Requests, RuleName, decide, path::Readings,
};

use crate::api::{AuthzAnswer, AuthzQuery, Failure, PodAnswer, Verdict};

/// A request that nobody has made, as policies read it.
#[derive(Clone, Debug)]
pub struct AskedRequest {
    /// Its method.
    pub method: String,
    /// Its path.
    pub path: Readings,
    /// Its host.
    pub host: Option<String>,
    /// Its headers, by name in lower case.
    pub headers: Vec<(String, String)>,
}

impl AskedRequest {
    /// What [`decide`] is asked.
    pub fn view(&self) -> HttpRequest<'_> {
        let Self { method, path, host, headers } = self;
        HttpRequest { method, path, host: host.as_deref(), headers, claims: None }
    }

    /// The request of a query: `Err` is why its path is refused. `None` where none is asked about.
    fn of(query: &AuthzQuery) -> Result<Option<Result<Self, Reason>>, Failure> {
        let AuthzQuery { method, path, host, headers, .. } = query;
        if method.is_none() && path.is_none() && host.is_none() && headers.is_empty() {
            return Ok(None);
        }
        let lines = headers.lines().map(|line| {
            let (name, value) = line
                .split_once(':')
                .ok_or_else(|| Failure::new(format!("{line:?} is no header"), "write 'NAME: VALUE'"))?;
            Ok((name.trim().to_ascii_lowercase(), value.trim().to_owned()))
        });
        let headers = lines.collect::<Result<Vec<_>, Failure>>()?;
        let asked = path.as_deref().unwrap_or("/");
        if !asked.starts_with('/') {
            return Err(Failure::new(format!("{asked:?} is no path"), "begin it with a slash"));
        }
        let asked = asked.split(['?', '#']).next().unwrap_or_default();
        let Ok(path) = Readings::of(asked) else { return Ok(Some(Err(Reason::PATH_INVALID))) };
        let host =
            host.clone().or_else(|| headers.iter().find(|(name, _)| name == "host").map(|it| it.1.clone()));
        // As the name is dialled from anywhere in the cluster.
        let host =
            host.or_else(|| query.to.split_once('/').map(|(namespace, name)| format!("{name}.{namespace}")));
        let method = method.as_deref().unwrap_or("GET").to_ascii_uppercase();
        Ok(Some(Ok(Self { method, path, host, headers })))
    }
}

/// May `query.from` reach `query.to`? Judged for each pod that runs as the client and each endpoint
/// that a connection from this node may go to; the answer is yes only when all of them say so.
pub fn authz(snapshot: &Snapshot, query: &AuthzQuery) -> Result<AuthzAnswer, Failure> {
    let account = ServiceAccount::parse(&query.from).ok_or_else(|| {
        Failure::new(format!("{:?} is no ServiceAccount", query.from), "write NAMESPACE/NAME")
    })?;
    let servers = servers(snapshot, query)?;
    if servers.is_empty() {
        return Ok(refused(Reason::NO_ENDPOINTS));
    }
    let request = match AskedRequest::of(query)? {
        None => None,
        Some(Ok(request)) => Some(request),
        Some(Err(reason)) => return Ok(refused(reason)),
    };
    let http = request.as_ref();
    let policies = Policies::new(snapshot);
    let clients: Vec<_> =
        snapshot.workloads.values().filter(|w| w.service_account == account && !w.terminating).collect();
    let supposed = clients.is_empty();
    let mut pods = Vec::new();
    for (protocol, server) in servers {
        if supposed {
            pods.push(judge(snapshot, &policies, &Client::Supposed(&account), protocol, server, http));
        }
        for client in &clients {
            pods.push(judge(snapshot, &policies, &Client::Pod(client), protocol, server, http));
        }
    }
    let decisive = pods.iter().find(|pod| pod.verdict == Verdict::Denied).or(pods.first()).cloned();
    let supposed = supposed.then(|| format!("no pod runs as {account}: judged as one on the server's node"));
    let unseen = (http.is_none() && asks_for_requests(snapshot, &policies, query)).then(|| {
        "policies here read requests: judged as bytes that are none; ask with --method and --path".to_owned()
    });
    let note = supposed.into_iter().chain(unseen).reduce(|one, other| format!("{one}; {other}"));
    Ok(AuthzAnswer {
        verdict: decisive.as_ref().map_or(Verdict::Forwarded, |pod| pod.verdict),
        reason: decisive.as_ref().and_then(|pod| pod.reason.clone()),
        rule: decisive.and_then(|pod| pod.rule),
        pods,
        note,
    })
}

/// Whether policies in force of a pod behind the Service read requests.
fn asks_for_requests(snapshot: &Snapshot, policies: &Policies, query: &AuthzQuery) -> bool {
    let servers = servers(snapshot, query).unwrap_or_default();
    servers.into_iter().any(|(protocol, server)| {
        let pod = server.pod.as_ref().and_then(|name| snapshot.workloads.get(name));
        let requests = |pod: &Workload| policies.protection(pod).requests(protocol, server.address.port());
        pod.is_some_and(|pod| requests(pod) == Requests::Judged)
    })
}

/// What the policies of each of `servers` say to `client`, and to its request if that is known.
pub fn authz_of_pod<'a>(
    snapshot: &Snapshot,
    client: &Workload,
    servers: impl IntoIterator<Item = (Protocol, &'a Endpoint)>,
    request: Option<&AskedRequest>,
) -> Vec<PodAnswer> {
    let policies = Policies::new(snapshot);
    let servers = servers.into_iter();
    servers
        .map(|(at, server)| judge(snapshot, &policies, &Client::Pod(client), at, server, request))
        .collect()
}

enum Client<'a> {
    Pod(&'a Workload),
    Supposed(&'a ServiceAccount),
}

fn servers<'a>(snapshot: &'a Snapshot, query: &AuthzQuery) -> Result<Vec<(Protocol, &'a Endpoint)>, Failure> {
    let name = ObjectName::parse(&query.to)
        .ok_or_else(|| Failure::new(format!("{:?} is no Service", query.to), "write NAMESPACE/NAME:PORT"))?;
    let service = snapshot
        .services
        .get(&name)
        .ok_or_else(|| Failure::new(format!("there is no Service {name}"), "see: weft get services"))?;
    let ports: Vec<_> = service.ports.iter().filter(|port| port.port == query.port).collect();
    if ports.is_empty() {
        let known: Vec<_> = service.ports.iter().map(|port| port.port.to_string()).collect();
        let message = format!("Service {name} has no port {}", query.port);
        return Err(Failure::new(message, format!("its ports are {}", known.join(", "))));
    }
    let of_port = |port: &'a weft_model::ServicePort| {
        let groups = port.groups.iter().filter(|group| group.weight > 0);
        groups.flat_map(|group| eligible(group, &snapshot.locality)).map(|endpoint| (port.protocol, endpoint))
    };
    Ok(ports.into_iter().flat_map(of_port).collect())
}

fn judge(
    snapshot: &Snapshot,
    policies: &Policies,
    client: &Client<'_>,
    protocol: Protocol,
    server: &Endpoint,
    request: Option<&AskedRequest>,
) -> PodAnswer {
    let workload = server.pod.as_ref().and_then(|name| snapshot.workloads.get(name));
    let decision = workload.map(|workload| {
        let port = server.address.port();
        let sealed =
            |client: &Workload| protocol == Protocol::Tcp && snapshot.mtls.is_between(client, workload, port);
        let (source, identity) = client.seen_by(workload, sealed);
        let protection = policies.protection(workload);
        // Where tokens are looked at, this one has none.
        let none = ProvenClaims::default();
        let claims = protection.tokens.then_some(&none as &dyn Claims);
        let http = request.map(|asked| HttpRequest { claims, ..asked.view() });
        decide(&protection, &Request { source, identity, protocol, port, http })
    });
    let (verdict, reason, rule) = match decision {
        Some(decision) => outcome(decision),
        None => (Verdict::Forwarded, None, None), // no pod: nobody protects it
    };
    PodAnswer {
        pod: server.pod.as_ref().map_or_else(|| server.address.ip().to_string(), ToString::to_string),
        client: client.name(),
        port: server.address.port(),
        verdict,
        reason: reason.map(|reason| reason.to_string()),
        rule: rule.map(|rule| rule.to_string()),
    }
}

/// An audit policy is worth showing only where nothing refuses the connection anyway.
fn outcome(decision: Decision) -> (Verdict, Option<Reason>, Option<RuleName>) {
    match (decision.allowed(), decision.audit) {
        (false, _) => (Verdict::Denied, Some(decision.reason), decision.rule),
        (true, Some(audit)) => (Verdict::Audit, Some(audit.reason), audit.rule),
        (true, None) => (Verdict::Forwarded, None, decision.rule),
    }
}

impl<'a> Client<'a> {
    /// Its address and what `server` can know of its identity: the kernel attests enrolled pods of
    /// the server's own node, certificates those whose connections are `sealed`; of others only the address is known.
    fn seen_by(&self, server: &Workload, sealed: impl Fn(&Workload) -> bool) -> (IpAddr, Identity<'a>) {
        match *self {
            Self::Supposed(account) => (Ipv4Addr::UNSPECIFIED.into(), Identity::Proven(account)),
            Self::Pod(pod) => {
                let family = |ip: &&IpAddr| server.ips.iter().any(|own| own.is_ipv4() == ip.is_ipv4());
                let address = pod.ips.iter().find(family).copied();
                let attested = (pod.enrolled && pod.is_beside(server)) || sealed(pod);
                let account = &pod.service_account;
                let identity =
                    if attested { Identity::Proven(account) } else { Identity::FromAddress(account) };
                (address.unwrap_or(Ipv4Addr::UNSPECIFIED.into()), identity)
            }
        }
    }

    fn name(&self) -> Option<String> {
        match self {
            Self::Pod(pod) => Some(pod.name.to_string()),
            Self::Supposed(_) => None,
        }
    }
}

fn refused(reason: Reason) -> AuthzAnswer {
    AuthzAnswer {
        verdict: Verdict::Denied,
        reason: Some(reason.to_string()),
        rule: None,
        pods: Vec::new(),
        note: None,
    }
}
