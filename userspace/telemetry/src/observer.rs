//! Makes flows, metrics, access logs and `weft top` of what the node's proxy tells.

mod flow;

use std::{
    borrow::Cow,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Instant,
};

use weft_model::{ObjectName, Snapshot};

use crate::{
    access_log::{self, Lines, Sink},
    api::Path,
    flows::{FlowLog, Request},
    live::{Carried, Counted, Live},
    metrics::{Ends, Metrics, Reporter, TcpLabels},
    pods::{Pod, Pods},
    records::{self, Alike, ConnectionRecord, Inbound, LiveRecord, RecordBatch, Security, Spoken},
    window::Window,
};
#[cfg(test)]
pub(crate) use tests::sample_request;

/// Takes the proxy's records. One for an agent.
#[derive(Debug)]
pub struct Observer {
    pods: Mutex<Option<Pods>>,
    window: Window,
    log: Sink,
    live: Live,
}

impl Observer {
    /// An observer, and the lines of the access log that it makes.
    pub fn new() -> (Self, Lines) {
        let (log, lines) = access_log::queue();
        (Self { pods: Mutex::default(), window: Window::default(), log, live: Live::default() }, lines)
    }

    /// Takes a batch of a proxy. Records of pods that are not in `snapshot` any more make flows, and count as of
    /// nobody. Never waits for anybody who reads.
    pub fn take(&self, batch: &RecordBatch, snapshot: &Snapshot, flows: &FlowLog, metrics: &Metrics) {
        self.take_at(batch, snapshot, flows, metrics, Instant::now());
    }

    /// The proxy of this generation is gone.
    pub fn ended(&self, generation: u64, metrics: &Metrics) {
        metrics.proxy.ended(generation);
        self.live.is_gone(generation, metrics);
    }

    /// The connections that go on.
    pub fn live(&self) -> &Live {
        &self.live
    }

    /// What the last minute was like, for `weft stat` and `weft top`.
    pub fn window(&self) -> &Window {
        &self.window
    }

    pub(crate) fn take_at(
        &self,
        batch: &RecordBatch,
        snapshot: &Snapshot,
        flows: &FlowLog,
        metrics: &Metrics,
        now: Instant,
    ) {
        let mut pods = self.pods.lock().unwrap_or_else(PoisonError::into_inner);
        let pods = match pods.take().filter(|pods| pods.are_of(snapshot)) {
            Some(known) => pods.insert(known),
            None => pods.insert(Pods::of(snapshot, &metrics.http)),
        };
        let mut requests = Vec::new();
        let alone = batch.requests.iter().map(|record| Cow::Owned(Alike::of(record)));
        for alike in alone.chain(batch.alike.iter().map(Cow::Borrowed)) {
            match &alike.like().inbound {
                None => self.requests(&alike, snapshot, pods, &mut requests, metrics, now),
                Some(inbound) => self.incoming(&alike, inbound, snapshot, pods, &mut requests, metrics, now),
            }
        }
        flows.push_requests(requests);
        for record in &batch.live {
            self.goes_on(batch.generation, record, snapshot, pods, flows, metrics);
        }
        for record in &batch.connections {
            self.connection(batch.generation, record, snapshot, pods, flows, metrics);
        }
        for usage in batch.usage.iter().filter(|usage| pods.named(&usage.pod).is_some()) {
            metrics.proxy.used(batch.generation, usage);
        }
        metrics.proxy.lost(batch.generation, batch.lost);
        metrics.proxy.lines_lost(self.log.lost());
    }

    fn requests(
        &self,
        alike: &Alike,
        snapshot: &Snapshot,
        pods: &Pods,
        flows: &mut Vec<Request>,
        metrics: &Metrics,
        now: Instant,
    ) {
        let like = alike.like();
        let source = pods.named(&like.pod);
        let destination = like.endpoint.and_then(|endpoint| pods.at(endpoint.ip()));
        let ends = Ends {
            source: pods.known(source),
            destination: pods.known(destination),
            both: destination.is_some_and(|pod| pod.workload.local && pod.workload.enrolled),
        };
        metrics.http.count(alike, &ends);
        rejected(alike, source, metrics);
        audited(alike, metrics);
        self.window.count(alike, now);
        self.log.take(alike, source, destination, snapshot);
        let service = like.service.as_ref();
        flows.extend(flow::of_requests(alike, service, source, destination, snapshot));
    }

    /// Requests that were made to a pod of this node. What the client's own proxy, which is the same one, tells of is
    /// told once: of the server's policies it knows nothing.
    #[expect(clippy::too_many_arguments, reason = "as `requests`, and who made it")]
    fn incoming(
        &self,
        alike: &Alike,
        inbound: &Inbound,
        snapshot: &Snapshot,
        pods: &mut Pods,
        flows: &mut Vec<Request>,
        metrics: &Metrics,
        now: Instant,
    ) {
        let like = alike.like();
        let service = like.endpoint.and_then(|endpoint| pods.service_at(snapshot, endpoint));
        let (source, destination) = (pods.at(like.client.ip()), pods.named(&like.pod));
        rejected(alike, destination, metrics);
        audited(alike, metrics);
        if !inbound.told {
            let (source, destination) = (pods.known(source), pods.known(destination));
            metrics.http.count_incoming(alike, service.as_ref(), source, destination);
            self.window.count(alike, now);
        }
        self.log.take(alike, source, destination, snapshot);
        if !inbound.told || like.is_refused() || like.audit.is_some() {
            flows.extend(flow::of_requests(alike, service.as_ref(), source, destination, snapshot));
        }
    }

    /// A connection that goes on: counted as it moves, and a flow once.
    fn goes_on(
        &self,
        generation: u64,
        record: &LiveRecord,
        snapshot: &Snapshot,
        pods: &mut Pods,
        flows: &FlowLog,
        metrics: &Metrics,
    ) {
        let service = service(record.service.as_ref(), record.dialled, snapshot, pods);
        let is_inbound = record.inbound.is_some();
        let ends = ends(&record.pod, record.client, Some(record.endpoint), is_inbound, pods);
        let news = || {
            let (endpoint, security) = (record.endpoint, record.security);
            let carried = Carried {
                from: record.client,
                endpoint,
                security,
                client: flow::proven(record.inbound.as_ref(), snapshot),
            };
            (carried, labels(security, is_inbound, ends, service.as_ref(), pods))
        };
        if self.live.goes_on(generation, record, metrics, news) {
            flows.push(flow::of_live(record, service.as_ref(), ends, snapshot));
        }
    }

    fn connection(
        &self,
        generation: u64,
        record: &ConnectionRecord,
        snapshot: &Snapshot,
        pods: &mut Pods,
        flows: &FlowLog,
        metrics: &Metrics,
    ) {
        let service = service(record.service.as_ref(), record.dialled, snapshot, pods);
        let own = pods.named(&record.pod);
        if let (Some(reason), Some(_)) = (record.reason, own) {
            metrics.proxy.rejected(&record.pod, reason, 1);
        }
        let is_inbound = record.inbound.is_some();
        let ends = ends(&record.pod, record.client, record.endpoint, is_inbound, pods);
        let total = Counted { received: record.received, sent: record.sent };
        let relayed = matches!(record.spoken, Spoken::Tcp | Spoken::Tls);
        if !self.live.has_ended(generation, record.connection, total, metrics)
            && relayed
            && let Some(labels) = labels(record.security, is_inbound, ends, service.as_ref(), pods)
        {
            metrics.tcp.opened(&labels);
            metrics.tcp.transferred(&labels, record.received, record.sent);
            metrics.tcp.closed(&labels);
        }
        if let Some(flow) = flow::of_connection(record, service.as_ref(), ends.0, ends.1, snapshot) {
            flows.push(flow);
        }
    }
}

/// Counts requests that a pod of the mesh did not get answered.
fn rejected(alike: &Alike, pod: Option<&Pod>, metrics: &Metrics) {
    let like = alike.like();
    if let (Some(reason), Some(_)) = (like.reason, pod) {
        metrics.proxy.rejected(&like.pod, reason, alike.count() as u64);
    }
}

/// Counts what audited policies say of requests.
fn audited(alike: &Alike, metrics: &Metrics) {
    let like = alike.like();
    if let Some(reason) = like.audit.filter(|_| !like.is_refused()) {
        metrics.agent.audited(reason.word(), alike.count() as u64);
    }
}

/// The Service that a record names, or whose address was dialled.
fn service(
    named: Option<&records::Destination>,
    dialled: Option<SocketAddr>,
    snapshot: &Snapshot,
    pods: &mut Pods,
) -> Option<records::Destination> {
    match (named, dialled) {
        (None, Some(dialled)) => pods.service_at(snapshot, dialled),
        (named, _) => named.cloned(),
    }
}

/// The client and the server.
fn ends<'a>(
    pod: &ObjectName,
    client: SocketAddr,
    endpoint: Option<SocketAddr>,
    is_inbound: bool,
    pods: &'a Pods,
) -> (Option<&'a Pod>, Option<&'a Pod>) {
    let own = pods.named(pod);
    if is_inbound {
        (pods.at(client.ip()), own)
    } else {
        (own, endpoint.and_then(|endpoint| pods.at(endpoint.ip())))
    }
}

/// Whose counters a relayed connection moves: those of mutual TLS, and those that come in another way. All others the
/// kernel has told.
fn labels(
    security: Security,
    is_inbound: bool,
    (source, destination): (Option<&Pod>, Option<&Pod>),
    service: Option<&records::Destination>,
    pods: &Pods,
) -> Option<TcpLabels> {
    let path = match security {
        Security::MutualTls => Path::Tls,
        Security::None if is_inbound => Path::Http,
        Security::None => return None,
    };
    let peer = |pod: Option<&Pod>| Arc::clone(pods.known(pod).peer());
    Some(TcpLabels {
        reporter: if is_inbound { Reporter::Destination } else { Reporter::Source },
        source: peer(source),
        destination: peer(destination),
        service: service.map(|service| service.0.clone()),
        path,
    })
}

#[cfg(test)]
mod tests;
