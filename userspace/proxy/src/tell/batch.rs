//! Records and accounts in the form that the agent reads.

use std::collections::BTreeMap;

use weft_model::{ObjectName, RouteKind, RouteName};
use weft_telemetry::records::{Alike, ConnectionRecord, Destination, Inbound, PodUsage, RecordBatch, Rule};

use crate::{
    account::Usage,
    observe::{self, Read, Record, micros, since_1970},
};

/// Puts what was read into a batch that has the rest; `alike` says whether the agent takes requests as [`Alike`].
pub(super) fn of(read: Read, mut batch: RecordBatch, alike: bool) -> RecordBatch {
    batch.alike = read.requests.into_kinds();
    if !alike {
        let kinds = std::mem::take(&mut batch.alike);
        batch.requests.extend(kinds.iter().flat_map(Alike::records));
    }
    for record in read.others {
        match record {
            Record::Request(record) => batch.requests.push(*record),
            Record::Connection(record) => batch.connections.push(connection(*record)),
            Record::Live { live, .. } => batch.live.push(*live),
        }
    }
    batch
}

/// One account for each name: a pod that was made anew has the old one's name, and its connections may still end.
pub(super) fn usage(pods: &[(ObjectName, Usage)]) -> Vec<PodUsage> {
    let mut sums = BTreeMap::<&ObjectName, PodUsage>::new();
    for (pod, usage) in pods {
        let none = || PodUsage {
            pod: pod.clone(),
            connections: 0,
            connections_total: 0,
            requests: 0,
            requests_total: 0,
            received: 0,
            sent: 0,
            busy_ns: 0,
            mirrors_dropped: 0,
            handshakes: 0,
        };
        let sum = sums.entry(pod).or_insert_with(none);
        sum.connections += u64::from(usage.connections);
        sum.connections_total += usage.connections_total;
        sum.requests += u64::from(usage.requests);
        sum.requests_total += usage.requests_total;
        sum.received += usage.received;
        sum.sent += usage.sent;
        sum.busy_ns += usage.busy_ns;
        sum.mirrors_dropped += usage.mirrors_dropped;
        sum.handshakes += usage.handshakes;
    }
    sums.into_values().collect()
}

fn connection(record: observe::ConnectionRecord) -> ConnectionRecord {
    let rule = |name| Rule(RouteName { kind: RouteKind::Tls, name }, 0);
    ConnectionRecord {
        connection: record.connection,
        ended: since_1970(record.ended),
        pod: record.pod,
        client: record.client,
        dialled: record.dialled,
        service: record.service.map(destination),
        rule: record.route.map(rule),
        endpoint: record.endpoint,
        security: record.security,
        inbound: record.inbound.map(inbound),
        spoken: record.spoken.into(),
        lasted: micros(record.lasted),
        received: record.received,
        sent: record.sent,
        reason: record.reason,
    }
}

fn inbound(inbound: observe::Inbound) -> Inbound {
    Inbound { account: inbound.account, told: inbound.told }
}

fn destination((service, port): (ObjectName, u16)) -> Destination {
    Destination(service, port)
}

#[cfg(test)]
pub(super) mod tests {
    use std::time::{Duration, SystemTime};

    use weft_telemetry::records::{RequestRecord, Security, Spoken};

    use super::*;

    /// Every text as long as can be, and of signs that take two bytes to write.
    pub(in crate::tell) fn largest() -> RequestRecord {
        let (name, long) = (longest_name(), "\"".repeat(1 << 16));
        RequestRecord {
            ended: since_1970(SystemTime::now()),
            pod: name.clone(),
            client: "[2001:db8:1:2:3:4:5:6]:65535".parse().unwrap(),
            spoken: Spoken::Http2,
            grpc: true,
            service: Some(Destination(name.clone(), u16::MAX)),
            rule: Some(Rule(RouteName { kind: RouteKind::Http, name: name.clone() }, u16::MAX)),
            backend: Some(Destination(name, u16::MAX)),
            endpoint: Some("[2001:db8:1:2:3:4:5:6]:65535".parse().unwrap()),
            method: (&*long).into(),
            authority: (&*long).into(),
            path: (&*long).into(),
            id: (&*long).into(),
            trace: (&*long).into(),
            agent: (&*long).into(),
            status: u16::MAX,
            grpc_status: Some(u32::MAX),
            reason: Some(crate::Reason::UNKNOWN),
            audit: Some(crate::Reason::UNKNOWN),
            inbound: Some(Inbound {
                account: Some(weft_model::ServiceAccount::new("n".repeat(63), "s".repeat(253))),
                told: true,
            }),
            delayed: true,
            exhausted: true,
            tries: u32::MAX,
            lasted: u64::MAX,
            upstream: u64::MAX,
            received: u64::MAX,
            sent: u64::MAX,
            messages: (u64::MAX, u64::MAX),
            security: Security::MutualTls,
        }
    }

    /// As large.
    pub(in crate::tell) fn largest_connection() -> Record {
        let (name, socket) = (longest_name(), "[2001:db8:1:2:3:4:5:6]:65535".parse().unwrap());
        Record::Connection(Box::new(observe::ConnectionRecord {
            connection: u64::MAX,
            ended: SystemTime::now(),
            pod: name.clone(),
            client: socket,
            dialled: Some(socket),
            service: Some((name.clone(), u16::MAX)),
            route: Some(name),
            spoken: observe::Protocol::Http2,
            endpoint: Some(socket),
            security: Security::MutualTls,
            inbound: None,
            lasted: Duration::MAX,
            received: u64::MAX,
            sent: u64::MAX,
            reason: Some(crate::Reason::UNKNOWN),
        }))
    }

    pub(in crate::tell) fn longest_name() -> ObjectName {
        ObjectName::new("n".repeat(63), "p".repeat(253))
    }

    #[test]
    fn pods_of_one_name_have_one_account() {
        let used = |sent| Usage { sent, connections: 1, ..Usage::default() };
        let (web, api) = (ObjectName::new("shop", "web"), ObjectName::new("shop", "api"));
        let sums = usage(&[(web.clone(), used(1)), (api.clone(), used(5)), (web.clone(), used(2))]);
        let sums: Vec<_> = sums.into_iter().map(|sum| (sum.pod, sum.sent, sum.connections)).collect();
        assert_eq!(sums, [(api, 5, 1), (web, 3, 2)]);
    }
}
