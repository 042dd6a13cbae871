//! Makes flows, metrics, access logs and `weft top` of what the node's proxy tells.

mod flow;

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Instant,
};

use weft_model::Snapshot;

use crate::{
    access_log::{self, Lines, Logged, Sink},
    api::Path,
    flows::FlowLog,
    metrics::{Ends, Metrics, Reporter, TcpLabels},
    pods::{Pod, Pods},
    records::{ConnectionRecord, Inbound, RecordBatch, RequestRecord, Security, Spoken},
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
}

impl Observer {
    /// An observer, and the lines of the access log that it makes.
    pub fn new() -> (Self, Lines) {
        let (log, lines) = access_log::queue();
        (Self { pods: Mutex::default(), window: Window::default(), log }, lines)
    }

    /// Takes a batch of a proxy. Records of pods that are not in `snapshot` any more make flows, and count as of
    /// nobody. Never waits for anybody who reads.
    pub fn take(&self, batch: &RecordBatch, snapshot: &Snapshot, flows: &FlowLog, metrics: &Metrics) {
        self.take_at(batch, snapshot, flows, metrics, Instant::now());
    }

    /// The proxy of this generation is gone.
    pub fn ended(&self, generation: u64, metrics: &Metrics) {
        metrics.proxy.ended(generation);
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
        for record in &batch.requests {
            match &record.inbound {
                None => self.request(record, snapshot, pods, flows, metrics, now),
                Some(inbound) => self.incoming(record, inbound, snapshot, pods, flows, metrics, now),
            }
        }
        for record in &batch.connections {
            connection(record, snapshot, pods, flows, metrics);
        }
        for usage in batch.usage.iter().filter(|usage| pods.named(&usage.pod).is_some()) {
            metrics.proxy.used(batch.generation, usage);
        }
        metrics.proxy.lost(batch.generation, batch.lost);
        metrics.proxy.lines_lost(self.log.lost());
    }

    fn request(
        &self,
        record: &RequestRecord,
        snapshot: &Snapshot,
        pods: &Pods,
        flows: &FlowLog,
        metrics: &Metrics,
        now: Instant,
    ) {
        let source = pods.named(&record.pod);
        let destination = record.endpoint.and_then(|endpoint| pods.at(endpoint.ip()));
        let ends = Ends {
            source: pods.known(source),
            destination: pods.known(destination),
            both: destination.is_some_and(|pod| pod.workload.local && pod.workload.enrolled),
        };
        metrics.http.count(record, &ends);
        if let (Some(reason), Some(_)) = (record.reason, source) {
            metrics.proxy.rejected(&record.pod, reason);
        }
        self.window.count(record, now);
        self.log.take(&Logged { record, source, destination }, snapshot);
        audited(record, metrics);
        let service = record.service.as_ref();
        flows.push(flow::of_request(record, service, source, destination, snapshot));
    }

    /// A request that was made to a pod of this node. What the client's own proxy, which is the same one, tells of is
    /// told once: of the server's policies it knows nothing.
    #[expect(clippy::too_many_arguments, reason = "as `request`, and who made it")]
    fn incoming(
        &self,
        record: &RequestRecord,
        inbound: &Inbound,
        snapshot: &Snapshot,
        pods: &mut Pods,
        flows: &FlowLog,
        metrics: &Metrics,
        now: Instant,
    ) {
        let service = record.endpoint.and_then(|endpoint| pods.service_at(snapshot, endpoint));
        let (source, destination) = (pods.at(record.client.ip()), pods.named(&record.pod));
        if let (Some(reason), Some(_)) = (record.reason, destination) {
            metrics.proxy.rejected(&record.pod, reason);
        }
        audited(record, metrics);
        if !inbound.told {
            let (source, destination) = (pods.known(source), pods.known(destination));
            metrics.http.count_incoming(record, service.as_ref(), source, destination);
            self.window.count(record, now);
        }
        self.log.take(&Logged { record, source, destination }, snapshot);
        if !inbound.told || record.is_refused() || record.audit.is_some() {
            flows.push(flow::of_request(record, service.as_ref(), source, destination, snapshot));
        }
    }
}

/// Counts what audited policies say of a request.
fn audited(record: &RequestRecord, metrics: &Metrics) {
    if let Some(reason) = record.audit.filter(|_| !record.is_refused()) {
        metrics.agent.audited(reason.word());
    }
}

fn connection(
    record: &ConnectionRecord,
    snapshot: &Snapshot,
    pods: &mut Pods,
    flows: &FlowLog,
    metrics: &Metrics,
) {
    let service = match (&record.service, record.dialled) {
        (None, Some(dialled)) => pods.service_at(snapshot, dialled),
        (service, _) => service.clone(),
    };
    let own = pods.named(&record.pod);
    if let (Some(reason), Some(_)) = (record.reason, own) {
        metrics.proxy.rejected(&record.pod, reason);
    }
    let (source, destination) = match record.inbound {
        Some(_) => (pods.at(record.client.ip()), own),
        None => (own, record.endpoint.and_then(|endpoint| pods.at(endpoint.ip()))),
    };
    if record.security == Security::MutualTls && record.spoken == Spoken::Tcp {
        let peer = |pod: Option<&Pod>| Arc::clone(pods.known(pod).peer());
        let labels = TcpLabels {
            reporter: if record.inbound.is_some() { Reporter::Destination } else { Reporter::Source },
            source: peer(source),
            destination: peer(destination),
            service: service.as_ref().map(|service| service.0.clone()),
            path: Path::Tls,
        };
        metrics.tcp.opened(&labels);
        metrics.tcp.transferred(&labels, record.received, record.sent);
        metrics.tcp.closed(&labels);
    }
    if let Some(flow) = flow::of_connection(record, service.as_ref(), source, destination, snapshot) {
        flows.push(flow);
    }
}

#[cfg(test)]
mod tests;
