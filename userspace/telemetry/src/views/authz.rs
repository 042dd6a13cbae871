//! What the policies would say to a connection that nobody has made.

use std::net::{IpAddr, Ipv4Addr};

use weft_abi::Reason;
use weft_model::{Endpoint, ObjectName, Protocol, ServiceAccount, Snapshot, Workload, eligible};
use weft_policy::{Decision, Identity, Policies, Request, RuleName, decide};

use crate::api::{AuthzAnswer, AuthzQuery, Failure, PodAnswer, Verdict};

/// May `query.from` reach `query.to`? Judged for each pod that runs as the client and each endpoint
/// that a connection from this node may go to; the answer is yes only when all of them say so.
pub fn authz(snapshot: &Snapshot, query: &AuthzQuery) -> Result<AuthzAnswer, Failure> {
    let account = ServiceAccount::parse(&query.from).ok_or_else(|| {
        Failure::new(format!("{:?} is no ServiceAccount", query.from), "write NAMESPACE/NAME")
    })?;
    let servers = servers(snapshot, query)?;
    if servers.is_empty() {
        return Ok(no_endpoints());
    }
    let policies = Policies::new(snapshot);
    let clients: Vec<_> =
        snapshot.workloads.values().filter(|w| w.service_account == account && !w.terminating).collect();
    let supposed = clients.is_empty();
    let mut pods = Vec::new();
    for (protocol, server) in servers {
        if supposed {
            pods.push(judge(snapshot, &policies, &Client::Supposed(&account), protocol, server));
        }
        for client in &clients {
            pods.push(judge(snapshot, &policies, &Client::Pod(client), protocol, server));
        }
    }
    let decisive = pods.iter().find(|pod| pod.verdict == Verdict::Denied).or(pods.first()).cloned();
    let note = supposed.then(|| format!("no pod runs as {account}: judged as one on the server's node"));
    Ok(AuthzAnswer {
        verdict: decisive.as_ref().map_or(Verdict::Forwarded, |pod| pod.verdict),
        reason: decisive.as_ref().and_then(|pod| pod.reason.clone()),
        rule: decisive.and_then(|pod| pod.rule),
        pods,
        note,
    })
}

/// What the policies of each of `servers` say to `client`.
pub fn authz_of_pod<'a>(
    snapshot: &Snapshot,
    client: &Workload,
    servers: impl IntoIterator<Item = (Protocol, &'a Endpoint)>,
) -> Vec<PodAnswer> {
    let policies = Policies::new(snapshot);
    let servers = servers.into_iter();
    servers.map(|(at, server)| judge(snapshot, &policies, &Client::Pod(client), at, server)).collect()
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
) -> PodAnswer {
    let workload = server.pod.as_ref().and_then(|name| snapshot.workloads.get(name));
    let decision = workload.map(|workload| {
        let port = server.address.port();
        let sealed =
            |client: &Workload| protocol == Protocol::Tcp && snapshot.mtls.is_between(client, workload, port);
        let (source, identity) = client.seen_by(workload, sealed);
        let request = Request { source, identity, protocol, port };
        decide(&policies.protection(workload), &request)
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

fn no_endpoints() -> AuthzAnswer {
    AuthzAnswer {
        verdict: Verdict::Denied,
        reason: Some(Reason::NO_ENDPOINTS.to_string()),
        rule: None,
        pods: Vec::new(),
        note: None,
    }
}
