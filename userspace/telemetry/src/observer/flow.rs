//! Records as flows.

use std::{
    borrow::Cow,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::Arc,
    time::{Duration, SystemTime},
};

use weft_model::{ObjectName, Protocol, Snapshot};

use crate::{
    api::{Destination, Flow, FlowKind, HttpFlow, Path, Source, Time, Verdict},
    flows::Request,
    pods::Pod,
    records::{self, Alike, ConnectionRecord, Inbound, LiveRecord, RequestRecord, Security, Spoken},
};

/// Requests that are alike.
pub(super) fn of_requests(
    alike: &Alike,
    service: Option<&records::Destination>,
    source: Option<&Pod>,
    destination: Option<&Pod>,
    snapshot: &Snapshot,
) -> impl Iterator<Item = Request> {
    let like = Arc::new(of_request(alike.like(), service, source, destination, snapshot));
    alike.each().map(move |own| Request {
        like: Arc::clone(&like),
        time: time(own.ended),
        port: own.port,
        path: own.path().shared(),
        lasted: Duration::from_micros(own.lasted),
        bytes_sent: own.received,
        bytes_received: own.sent,
    })
}

/// A request.
fn of_request(
    record: &RequestRecord,
    service: Option<&records::Destination>,
    source: Option<&Pod>,
    destination: Option<&Pod>,
    snapshot: &Snapshot,
) -> Flow {
    let http = HttpFlow {
        method: record.method.shared(),
        path: record.path.shared(),
        status: record.status,
        latency_ms: record.duration().as_secs_f64() * 1e3,
        protocol: record.spoken.word().into(),
        authority: record.authority.shared(),
        grpc_status: record.grpc_status,
        route: record.rule.as_ref().map(|rule| rule.0.clone()),
        response_flags: record.flags().into(),
    };
    let (verdict, kind, reason) = match record.audit {
        _ if record.is_refused() => (Verdict::Denied, FlowKind::Refused, record.reason),
        Some(audit) => (Verdict::Audit, FlowKind::Audited, Some(audit)),
        None => (Verdict::Forwarded, FlowKind::Request, record.reason),
    };
    Flow {
        time: time(record.ended),
        verdict,
        kind,
        reason: reason.map(|reason| Cow::Borrowed(reason.word())),
        path: Path::Http,
        protocol: Protocol::Tcp,
        source: match &record.inbound {
            None => of_source(record.client, &record.pod, source),
            Some(inbound) => from_elsewhere(record.client, inbound, source, snapshot),
        },
        destination: of_destination(record.endpoint, service, None, destination, snapshot),
        bytes_sent: record.received,
        bytes_received: record.sent,
        duration_ms: record.lasted / 1_000,
        rule: None,
        rtt_us: None,
        retransmits: None,
        http: Some(Box::new(http)),
    }
}

/// A connection, unless its requests tell all there is to say.
pub(super) fn of_connection(
    record: &ConnectionRecord,
    service: Option<&records::Destination>,
    source: Option<&Pod>,
    destination: Option<&Pod>,
    snapshot: &Snapshot,
) -> Option<Flow> {
    let relayed = matches!(record.spoken, Spoken::Tcp | Spoken::Tls);
    if !relayed && record.reason.is_none() {
        return None;
    }
    let unseen = record.endpoint.is_none() || record.received + record.sent == 0;
    let refused = record.reason.is_some() && unseen;
    let (verdict, kind) =
        if refused { (Verdict::Denied, FlowKind::Refused) } else { (Verdict::Forwarded, FlowKind::Closed) };
    Some(Flow {
        time: time(record.ended),
        verdict,
        kind,
        reason: record.reason.map(|reason| Cow::Borrowed(reason.word())),
        path: if relayed && record.security == Security::MutualTls { Path::Tls } else { Path::Http },
        protocol: Protocol::Tcp,
        source: match &record.inbound {
            None => of_source(record.client, &record.pod, source),
            Some(inbound) => from_elsewhere(record.client, inbound, source, snapshot),
        },
        destination: of_destination(record.endpoint, service, record.dialled, destination, snapshot),
        bytes_sent: record.received,
        bytes_received: record.sent,
        duration_ms: record.lasted / 1_000,
        rule: None,
        rtt_us: None,
        retransmits: None,
        http: None,
    })
}

/// A connection that goes on.
pub(super) fn of_live(
    record: &LiveRecord,
    service: Option<&records::Destination>,
    (source, destination): (Option<&Pod>, Option<&Pod>),
    snapshot: &Snapshot,
) -> Flow {
    Flow {
        time: time(record.began),
        verdict: Verdict::Forwarded,
        kind: FlowKind::Opened,
        reason: None,
        path: if record.security == Security::MutualTls { Path::Tls } else { Path::Http },
        protocol: Protocol::Tcp,
        source: match &record.inbound {
            None => of_source(record.client, &record.pod, source),
            Some(inbound) => from_elsewhere(record.client, inbound, source, snapshot),
        },
        destination: of_destination(Some(record.endpoint), service, record.dialled, destination, snapshot),
        bytes_sent: 0,
        bytes_received: 0,
        duration_ms: 0,
        rule: None,
        rtt_us: None,
        retransmits: None,
        http: None,
    }
}

/// The SPIFFE ID that the client of an inbound connection has proven.
pub(super) fn proven(inbound: Option<&Inbound>, snapshot: &Snapshot) -> Option<Arc<str>> {
    let account = inbound?.account.as_ref()?;
    Some(account.spiffe(&snapshot.trust_domain).into())
}

/// The proxy has the connection from the pod's own listener, so who it is needs no other proof.
fn of_source(client: SocketAddr, name: &ObjectName, pod: Option<&Pod>) -> Source {
    Source {
        namespace: Some(Arc::clone(&name.namespace)),
        pod: Some(Arc::clone(&name.name)),
        ip: client.ip(),
        port: client.port(),
        identity: pod.map(|pod| Arc::clone(&pod.identity)),
    }
}

/// Who has the address is not who it is: the identity is what was proven.
fn from_elsewhere(client: SocketAddr, inbound: &Inbound, pod: Option<&Pod>, snapshot: &Snapshot) -> Source {
    Source {
        namespace: pod.map(|pod| Arc::clone(&pod.workload.name.namespace)),
        pod: pod.map(|pod| Arc::clone(&pod.workload.name.name)),
        ip: client.ip(),
        port: client.port(),
        identity: proven(Some(inbound), snapshot),
    }
}

/// Where no endpoint was asked, the Service's own address stands.
fn of_destination(
    endpoint: Option<SocketAddr>,
    service: Option<&records::Destination>,
    dialled: Option<SocketAddr>,
    pod: Option<&Pod>,
    snapshot: &Snapshot,
) -> Destination {
    let of_service = || {
        let records::Destination(name, port) = service?;
        let ip = snapshot.services.get(name)?.ips.first()?;
        Some(SocketAddr::new(*ip, *port))
    };
    let nowhere = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0);
    let address = endpoint.or(dialled).or_else(of_service).unwrap_or(nowhere);
    let namespace =
        pod.map(|pod| &pod.workload.name.namespace).or(service.map(|service| &service.0.namespace));
    Destination {
        namespace: namespace.cloned(),
        pod: pod.map(|pod| Arc::clone(&pod.workload.name.name)),
        service: service.map(|service| Arc::clone(&service.0.name)),
        ip: address.ip(),
        port: address.port(),
        identity: pod.filter(|pod| pod.workload.enrolled).map(|pod| Arc::clone(&pod.identity)),
    }
}

fn time(micros: u64) -> Time {
    // A time that no clock can have is shown as 1970, not believed.
    let time = SystemTime::UNIX_EPOCH.checked_add(Duration::from_micros(micros));
    Time::from(time.unwrap_or(SystemTime::UNIX_EPOCH))
}
