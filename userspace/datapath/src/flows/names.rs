//! The names of what events carry as addresses and ids.

use std::{
    borrow::Cow,
    collections::{BTreeMap, HashMap},
    net::IpAddr,
    sync::Arc,
    time::{Duration, SystemTime},
};

use nix::time::{ClockId, clock_gettime};
use weft_abi::{FlowEvent, Reason, UDP, event_kind, path};
use weft_model::{Mtls, MtlsMode, ObjectName, Protocol, Snapshot, Workload};
use weft_policy::RuleName;
use weft_telemetry::{
    api::{Destination, Flow, FlowKind, Path, Source, Time, Verdict},
    metrics::Peer,
};

use crate::rows::token;

/// A pod with what flows and metrics say of it.
pub(crate) struct Known {
    /// The pod.
    pub workload: Arc<Workload>,
    /// Its SPIFFE ID.
    pub identity: Arc<str>,
    /// Its labels in metrics.
    pub peer: Arc<Peer>,
}

/// What addresses and ids mean at one moment.
#[derive(Default)]
pub(crate) struct Names {
    workloads: Option<Arc<BTreeMap<ObjectName, Arc<Workload>>>>,
    pods: Arc<HashMap<IpAddr, Arc<Known>>>,
    services: HashMap<u64, ObjectName>,
    rules: HashMap<u32, Arc<str>>,
    mtls: Arc<Mtls>,
}

impl Names {
    /// Names of `snapshot`. The pods are those of `before` where the caller knows that none changed.
    pub(crate) fn new(
        snapshot: &Snapshot,
        services: HashMap<u64, ObjectName>,
        rules: &HashMap<u32, RuleName>,
        before: Option<&Self>,
    ) -> Self {
        let rules = rules.iter().map(|(id, rule)| (*id, rule.to_string().into())).collect();
        let pods = before.map_or_else(|| Arc::new(pods_of(snapshot)), |before| Arc::clone(&before.pods));
        Self {
            workloads: Some(Arc::clone(&snapshot.workloads)),
            pods,
            services,
            rules,
            mtls: Arc::clone(&snapshot.mtls),
        }
    }

    /// Whether these are a Snapshot's, and not those from before the first.
    pub(crate) fn are_known(&self) -> bool {
        self.workloads.is_some()
    }

    /// Whether these are the pods of `snapshot`.
    pub(crate) fn same_pods(&self, snapshot: &Snapshot) -> bool {
        self.workloads.as_ref().is_some_and(|workloads| Arc::ptr_eq(workloads, &snapshot.workloads))
    }

    /// A rule by its id.
    pub(crate) fn rule(&self, id: u32) -> Option<&Arc<str>> {
        self.rules.get(&id)
    }

    /// ServiceAccounts and namespaces by their tokens.
    pub(crate) fn tokens(&self) -> HashMap<u64, String> {
        let mut tokens = HashMap::new();
        for known in self.pods.values() {
            let account = &known.workload.service_account;
            tokens.insert(token::service_account(account), account.to_string());
            tokens.insert(token::namespace(&account.namespace), format!("{}/*", account.namespace));
        }
        tokens
    }

    /// The pod with this address.
    pub(crate) fn pod(&self, ip: IpAddr) -> Option<&Arc<Known>> {
        self.pods.get(&ip)
    }

    /// Whether this is the address of an enrolled pod.
    pub(crate) fn is_enrolled(&self, ip: IpAddr) -> bool {
        self.pod(ip).is_some_and(|known| known.workload.enrolled)
    }

    /// How a port of a pod is spoken to between nodes.
    pub(crate) fn mode(&self, pod: &ObjectName, port: u16) -> MtlsMode {
        self.mtls.mode(pod, port)
    }

    /// The Service of a frontend.
    pub(crate) fn service(&self, id: u64) -> Option<&ObjectName> {
        self.services.get(&id)
    }

    /// An event in words.
    pub(crate) fn flow(&self, event: &FlowEvent) -> Flow {
        let reason = Reason::from(event.reason);
        let (verdict, kind) = match event.kind {
            event_kind::DENIED => (Verdict::Denied, FlowKind::Refused),
            event_kind::AUDIT => (Verdict::Audit, FlowKind::Audited),
            event_kind::CLOSED => (Verdict::Forwarded, FlowKind::Closed),
            _ => (Verdict::Forwarded, FlowKind::Opened),
        };
        let closed = kind == FlowKind::Closed;
        Flow {
            time: wall_clock(event.time_ns),
            verdict,
            kind,
            reason: (reason != Reason::NONE).then(|| Cow::Borrowed(reason.word())),
            path: path_of(event),
            protocol: if event.protocol == UDP { Protocol::Udp } else { Protocol::Tcp },
            source: self.source(event.src.to_ip(), event.src_port.get(), event.attested != 0),
            destination: self.destination(event.dst.to_ip(), event.dst_port.get(), event.service),
            bytes_sent: event.sent,
            bytes_received: event.received,
            duration_ms: event.duration_ns / 1_000_000,
            rule: self.rules.get(&event.rule).cloned(),
            rtt_us: closed.then_some(event.rtt_us),
            retransmits: closed.then_some(event.retransmits),
            http: None,
        }
    }

    /// The client's end. Its identity is shown only where it is attested.
    pub(crate) fn source(&self, ip: IpAddr, port: u16, attested: bool) -> Source {
        let known = self.pod(ip);
        Source {
            namespace: known.map(|known| Arc::clone(&known.workload.name.namespace)),
            pod: known.map(|known| Arc::clone(&known.workload.name.name)),
            ip,
            port,
            identity: known
                .filter(|known| attested && known.workload.enrolled)
                .map(|known| Arc::clone(&known.identity)),
        }
    }

    /// The server's end.
    pub(crate) fn destination(&self, ip: IpAddr, port: u16, service: u64) -> Destination {
        let known = self.pod(ip);
        let service = self.service(service);
        let namespace = known.map(|known| &known.workload.name.namespace).or(service.map(|s| &s.namespace));
        Destination {
            namespace: namespace.cloned(),
            pod: known.map(|known| Arc::clone(&known.workload.name.name)),
            service: service.map(|service| Arc::clone(&service.name)),
            ip,
            port,
            identity: known.filter(|known| known.workload.enrolled).map(|known| Arc::clone(&known.identity)),
        }
    }
}

/// Of two pods that claim an address it is the one that is here, else the first by name of those that do not leave: as
/// the kernel's rows have it.
fn pods_of(snapshot: &Snapshot) -> HashMap<IpAddr, Arc<Known>> {
    let mut pods = HashMap::<IpAddr, Arc<Known>>::new();
    let claim = |pod: &Workload| (pod.local && pod.enrolled, !pod.terminating);
    for workload in snapshot.workloads.values() {
        let known = Arc::new(Known {
            identity: workload.service_account.spiffe(&snapshot.trust_domain).into(),
            peer: Arc::new(Peer::of(workload, &snapshot.trust_domain)),
            workload: Arc::clone(workload),
        });
        for ip in &workload.ips {
            let has = pods.entry(*ip).or_insert_with(|| Arc::clone(&known));
            if claim(&has.workload) < claim(workload) {
                *has = Arc::clone(&known);
            }
        }
    }
    pods
}

/// The way that an event's connection took.
pub(super) fn path_of(event: &FlowEvent) -> Path {
    if event.path == path::ACCELERATED { Path::Accelerated } else { Path::Kernel }
}

/// Nanoseconds since boot (`CLOCK_MONOTONIC`, as `bpf_ktime_get_ns`) as a moment.
fn wall_clock(time_ns: u64) -> Time {
    let now = clock_gettime(ClockId::CLOCK_MONOTONIC).map_or(Duration::ZERO, Duration::from);
    let ago = now.saturating_sub(Duration::from_nanos(time_ns));
    Time::from(SystemTime::now() - ago)
}

#[cfg(test)]
mod tests {
    use weft_model::{Passage, ServiceAccount};

    use super::*;

    fn pod(name: &str, terminating: bool) -> Workload {
        Workload {
            name: ObjectName::new("shop", name),
            service_account: ServiceAccount::new("shop", name),
            ips: vec![IP],
            node: None,
            local: false,
            labels: Arc::default(),
            enrolled: true,
            netns: None,
            ports: Vec::new(),
            owner: name.into(),
            ready: true,
            passage: Passage::Done,
            terminating,
            created: 0,
        }
    }

    #[test]
    fn of_pods_with_one_address_the_first_that_does_not_leave_is_named() {
        let named = |pods: [Workload; 3]| {
            let workloads = pods.map(|pod| (pod.name.clone(), Arc::new(pod)));
            let snapshot = Snapshot { workloads: Arc::new(BTreeMap::from(workloads)), ..Snapshot::default() };
            pods_of(&snapshot)[&IP].workload.name.name.to_string()
        };
        assert_eq!(named([pod("a", true), pod("b", false), pod("c", false)]), "b");
        assert_eq!(named([pod("a", false), pod("b", true), pod("c", true)]), "a");
        let here = Workload { local: true, ..pod("c", true) };
        assert_eq!(named([pod("a", false), pod("b", false), here]), "c");
    }

    const IP: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 9));
}
