//! What the policies would say to a connection that nobody has made.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

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

/// What the tokens in the headers of a request prove to a pod, whose node's proxy takes them out, or why it refuses the
/// request; `None` where nobody looks at tokens. Asked of whoever verifies tokens.
pub type Authenticate<'a> =
    &'a dyn Fn(&Snapshot, &ObjectName, &mut Vec<(String, String)>) -> Result<Option<ProvenClaims>, Reason>;

impl AskedRequest {
    /// What [`decide`] is asked.
    pub fn view(&self) -> HttpRequest<'_> {
        self.with(None)
    }

    /// The same, with what its tokens say.
    fn with<'a>(&'a self, claims: Option<&'a ProvenClaims>) -> HttpRequest<'a> {
        let Self { method, path, host, headers } = self;
        let claims = claims.map(|claims| claims as &dyn Claims);
        HttpRequest { method, path, host: host.as_deref(), headers, claims }
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
pub fn authz(
    snapshot: &Snapshot,
    query: &AuthzQuery,
    authenticate: Authenticate<'_>,
) -> Result<AuthzAnswer, Failure> {
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
    let judged = Judged { snapshot, policies: Policies::new(snapshot), authenticate };
    let clients: Vec<_> =
        snapshot.workloads.values().filter(|w| w.service_account == account && !w.terminating).collect();
    let supposed = clients.is_empty();
    let mut pods = Vec::new();
    for (protocol, server) in servers {
        if supposed {
            pods.push(judged.pod(&Client::Supposed(&account), protocol, server, http));
        }
        for client in &clients {
            pods.push(judged.pod(&Client::Pod(client), protocol, server, http));
        }
    }
    let decisive = pods.iter().find(|pod| pod.verdict == Verdict::Denied).or(pods.first()).cloned();
    let supposed = supposed.then(|| format!("no pod runs as {account}: judged as one on the server's node"));
    let unseen = (http.is_none() && asks_for_requests(snapshot, &judged.policies, query)).then(|| {
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
    authenticate: Authenticate<'_>,
) -> Vec<PodAnswer> {
    let judged = Judged { snapshot, policies: Policies::new(snapshot), authenticate };
    let servers = servers.into_iter();
    servers.map(|(at, server)| judged.pod(&Client::Pod(client), at, server, request)).collect()
}

/// By what is judged.
struct Judged<'a> {
    snapshot: &'a Snapshot,
    policies: Policies,
    authenticate: Authenticate<'a>,
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

impl Judged<'_> {
    /// What the policies of the pod behind `server` say.
    fn pod(
        &self,
        client: &Client<'_>,
        protocol: Protocol,
        server: &Endpoint,
        request: Option<&AskedRequest>,
    ) -> PodAnswer {
        let workload = server.pod.as_ref().and_then(|name| self.snapshot.workloads.get(name));
        let (verdict, reason, rule) = match workload {
            Some(workload) => self.workload(client, protocol, workload, server.address, request),
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

    fn workload(
        &self,
        client: &Client<'_>,
        protocol: Protocol,
        workload: &Workload,
        at: SocketAddr,
        request: Option<&AskedRequest>,
    ) -> Outcome {
        let port = at.port();
        let mtls = &self.snapshot.mtls;
        let sealed = |client: &Workload| protocol == Protocol::Tcp && mtls.is_between(client, workload, port);
        let (source, identity) = client.seen_by(workload, at.ip(), sealed);
        let protection = self.policies.protection(workload);
        let mut request = request.cloned();
        let mut claims = None;
        if let Some(request) = &mut request {
            match (self.authenticate)(self.snapshot, &workload.name, &mut request.headers) {
                Ok(proven) => claims = proven,
                Err(reason) => return (Verdict::Denied, Some(reason), None),
            }
        }
        let http = request.as_ref().map(|asked| asked.with(claims.as_ref()));
        outcome(decide(&protection, &Request { source, identity, protocol, port, http }))
    }
}

type Outcome = (Verdict, Option<Reason>, Option<RuleName>);

/// An audit policy is worth showing only where nothing refuses the connection anyway.
fn outcome(decision: Decision) -> Outcome {
    match (decision.allowed(), decision.audit) {
        (false, _) => (Verdict::Denied, Some(decision.reason), decision.rule),
        (true, Some(audit)) => (Verdict::Audit, Some(audit.reason), audit.rule),
        (true, None) => (Verdict::Forwarded, None, decision.rule),
    }
}

impl<'a> Client<'a> {
    /// Its address and what `server` can know of its identity: the kernel attests enrolled pods of
    /// the server's own node, certificates those whose connections are `sealed`; of others only the address is known.
    /// It comes from its address of the family that it dials.
    fn seen_by(
        &self,
        server: &Workload,
        at: IpAddr,
        sealed: impl Fn(&Workload) -> bool,
    ) -> (IpAddr, Identity<'a>) {
        match *self {
            Self::Supposed(account) => (Ipv4Addr::UNSPECIFIED.into(), Identity::Proven(account)),
            Self::Pod(pod) => {
                let address = pod.ips.iter().find(|ip| ip.is_ipv4() == at.is_ipv4()).copied();
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
