//! Counts connections and their bytes, each byte once, from both ends' view.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, PoisonError},
};

use weft_abi::{FlowEvent, Reason, TCP, event_kind};
use weft_telemetry::{
    api::Path,
    metrics::{Metrics, Peer, Reporter, TcpLabels},
};

use super::names::{Names, path_of};

/// What of each live connection has been counted already, by [`weft_abi::SocketState::connection`].
#[derive(Default)]
pub(crate) struct Tracker {
    counted: Mutex<HashMap<u64, Counted>>,
}

struct Counted {
    labels: Vec<TcpLabels>,
    sent: u64,
    received: u64,
    /// How often it was not among the live ones.
    missed: u8,
}

impl Tracker {
    /// Counts what an event tells.
    pub(crate) fn count(&self, event: &FlowEvent, names: &Names, metrics: &Metrics) {
        let reason = Reason::from(event.reason);
        match event.kind {
            event_kind::DENIED => metrics.agent.dropped(reason.word()),
            event_kind::AUDIT => metrics.agent.audited(reason.word(), 1),
            event_kind::OPENED if event.protocol == TCP => {
                let labels = labels(event, names);
                for labels in &labels {
                    metrics.tcp.opened(labels);
                }
                self.all().insert(event.connection, Counted { labels, sent: 0, received: 0, missed: 0 });
            }
            event_kind::CLOSED => {
                let known = self.all().remove(&event.connection);
                // A connection that opened under an earlier agent is counted as closed, and so are its bytes.
                let known = known.unwrap_or_else(|| Counted {
                    labels: labels(event, names),
                    sent: 0,
                    received: 0,
                    missed: 0,
                });
                for labels in &known.labels {
                    metrics.tcp.closed(labels);
                    let (sent, received) = (event.sent, event.received);
                    metrics.tcp.transferred(
                        labels,
                        sent.saturating_sub(known.sent),
                        received.saturating_sub(known.received),
                    );
                }
            }
            _ => {}
        }
    }

    /// Counts what a live connection transferred by now.
    pub(crate) fn progress(&self, connection: u64, sent: u64, received: u64, metrics: &Metrics) {
        if let Some(known) = self.all().get_mut(&connection) {
            for labels in &known.labels {
                let (more_sent, more_received) =
                    (sent.saturating_sub(known.sent), received.saturating_sub(known.received));
                metrics.tcp.transferred(labels, more_sent, more_received);
            }
            (known.sent, known.received) = (known.sent.max(sent), known.received.max(received));
        }
    }

    /// Ends what is no longer among the `live` sockets: its last event was lost. Twice, because an event
    /// may be on its way.
    pub(crate) fn forget_all_but(&self, live: &HashSet<u64>, metrics: &Metrics) {
        self.all().retain(|connection, known| {
            known.missed = if live.contains(connection) { 0 } else { known.missed + 1 };
            if known.missed > 1 {
                for labels in &known.labels {
                    metrics.tcp.closed(labels);
                }
            }
            known.missed <= 1
        });
    }

    fn all(&self) -> std::sync::MutexGuard<'_, HashMap<u64, Counted>> {
        self.counted.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One series for each end that is a pod of this node: the client's side of a flow between two of them
/// is the only event there is.
fn labels(event: &FlowEvent, names: &Names) -> Vec<TcpLabels> {
    let (source, destination) = (names.pod(event.src.to_ip()), names.pod(event.dst.to_ip()));
    let unknown = || Arc::new(Peer::unknown());
    let (from, to) = (
        source.map_or_else(unknown, |known| Arc::clone(&known.peer)),
        destination.map_or_else(unknown, |known| Arc::clone(&known.peer)),
    );
    let path: Path = path_of(event);
    let label = |reporter| TcpLabels {
        reporter,
        source: Arc::clone(&from),
        destination: Arc::clone(&to),
        service: names.service(event.service).cloned(),
        path,
    };
    let here = |known: Option<&Arc<super::names::Known>>| {
        known.is_some_and(|k| k.workload.local && k.workload.enrolled)
    };
    let mut all = Vec::with_capacity(2);
    if event.client_side != 0 {
        all.push(label(Reporter::Source));
    }
    if here(destination) {
        all.push(label(Reporter::Destination));
    }
    all
}

#[cfg(test)]
mod tests {
    use weft_model::Snapshot;
    use weft_telemetry::api::Status;

    use super::*;

    #[test]
    fn a_connection_whose_end_nobody_told_is_let_go_of_at_the_second_look() {
        let (tracker, metrics) = (Tracker::default(), Metrics::new("test"));
        for connection in [1, 2] {
            let event = FlowEvent {
                kind: event_kind::OPENED,
                protocol: TCP,
                client_side: 1,
                connection,
                ..FlowEvent::zeroed()
            };
            tracker.count(&event, &Names::default(), &metrics);
        }
        let closed = || {
            let page = metrics.encode(&Status::default(), &Snapshot::default());
            let line = page.lines().find(|line| line.starts_with("istio_tcp_connections_closed_total{"));
            line.map_or(0, |line| line.rsplit(' ').next().unwrap().parse().unwrap())
        };
        let look = |live: &[u64]| {
            tracker.forget_all_but(&live.iter().copied().collect(), &metrics);
            (tracker.all().len(), closed())
        };
        assert_eq!(look(&[1, 2]), (2, 0));
        assert_eq!(look(&[1]), (2, 0), "its last event may be on its way");
        assert_eq!(look(&[1, 2]), (2, 0), "it was missed by one list");
        assert_eq!(look(&[1]), (2, 0));
        assert_eq!(look(&[1]), (1, 1));
        assert_eq!(look(&[1]), (1, 1), "it is counted once");
    }
}
