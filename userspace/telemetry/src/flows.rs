//! The last flows of this node.

mod request;

use std::{
    cmp::Reverse,
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::broadcast;

use crate::api::{Flow, FlowFilter, FlowLine};
pub(crate) use request::Request;

/// A ring of the last flows, which others may follow. Writing never waits: the oldest flow makes
/// room, and a follower that is too slow is told how many it missed.
///
/// Requests have a ring of their own: they come so much faster than connections that they would leave none. They become
/// flows when somebody asks.
#[derive(Debug)]
pub struct FlowLog {
    rings: Mutex<Rings>,
    followers: broadcast::Sender<Arc<Flow>>,
    capacity: usize,
}

#[derive(Debug, Default)]
struct Rings {
    connections: VecDeque<Arc<Flow>>,
    requests: VecDeque<Request>,
}

/// New flows, as they come.
pub struct Follower {
    receiver: broadcast::Receiver<Arc<Flow>>,
    keeps: Keeps,
}

/// Which flows are wanted.
pub type Keeps = Box<dyn Fn(&Flow) -> bool + Send + Sync>;

impl FlowLog {
    /// A log of [`CAPACITY`] flows of connections and a quarter as many requests.
    pub fn new() -> Self {
        Self::with_capacity(CAPACITY)
    }

    /// Adds the flow of a connection.
    pub fn push(&self, flow: Flow) {
        let flow = Arc::new(flow);
        let mut rings = self.rings();
        if rings.connections.len() == self.capacity {
            rings.connections.pop_front();
        }
        rings.connections.push_back(Arc::clone(&flow));
        // Inside the lock, so that a new follower sees each flow either in the ring or here. Fails
        // only when nobody follows.
        let _ = self.followers.send(flow);
    }

    /// Adds requests.
    pub(crate) fn push_requests(&self, mut requests: Vec<Request>) {
        requests.sort_by_key(Request::time);
        let capacity = self.capacity.div_ceil(REQUESTS);
        let mut rings = self.rings();
        for request in requests {
            // As above.
            if self.followers.receiver_count() > 0 {
                let _ = self.followers.send(request.flow());
            }
            if rings.requests.len() == capacity {
                rings.requests.pop_front();
            }
            rings.requests.push_back(request);
        }
    }

    /// The last `count` flows that `filter` keeps, oldest first.
    pub fn last(&self, filter: &FlowFilter, count: usize) -> Vec<Arc<Flow>> {
        self.last_that(|flow| filter.keeps(flow), count)
    }

    /// The last `count` flows that are wanted, oldest first.
    pub fn last_that(&self, keeps: impl Fn(&Flow) -> bool, count: usize) -> Vec<Arc<Flow>> {
        self.rings().newest(&keeps, count)
    }

    /// The last `count` flows that are wanted, and all that come after them.
    pub fn follow(&self, keeps: Keeps, count: usize) -> (Vec<Arc<Flow>>, Follower) {
        let rings = self.rings();
        let past = rings.newest(&keeps, count);
        (past, Follower { receiver: self.followers.subscribe(), keeps })
    }

    fn with_capacity(capacity: usize) -> Self {
        let (followers, _) = broadcast::channel(BACKLOG);
        Self { rings: Mutex::default(), followers, capacity }
    }

    fn rings(&self) -> MutexGuard<'_, Rings> {
        // A push that panicked left rings that are still rings.
        self.rings.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for FlowLog {
    fn default() -> Self {
        Self::new()
    }
}

impl Follower {
    /// The next flow that is wanted; `None` once the log is gone.
    pub async fn next(&mut self) -> Option<FlowLine> {
        loop {
            match self.receiver.recv().await {
                Ok(flow) if (self.keeps)(&flow) => return Some(FlowLine::Flow(flow)),
                Ok(_) => {}
                Err(broadcast::error::RecvError::Lagged(missed)) => return Some(FlowLine::Missed { missed }),
                Err(broadcast::error::RecvError::Closed) => return None,
            }
        }
    }
}

impl Rings {
    /// The last `count` flows of both that are wanted, by time.
    fn newest(&self, keeps: &dyn Fn(&Flow) -> bool, count: usize) -> Vec<Arc<Flow>> {
        let connections = self.connections.iter().rev().filter(|flow| keeps(flow));
        let requests = self.requests.iter().rev().map(Request::flow).filter(|flow| keeps(flow));
        let mut kept: Vec<_> = connections.take(count).cloned().collect();
        let requests: Vec<_> = requests.take(count).collect();
        if !requests.is_empty() {
            kept.extend(requests);
            kept.sort_by_key(|flow| Reverse(flow.time));
            kept.truncate(count);
        }
        kept.reverse();
        kept
    }
}

/// Flows of connections that are kept.
pub const CAPACITY: usize = 65_535;

/// Of so many flows that are kept, one more may be a request.
const REQUESTS: usize = 4;

/// Flows that a follower may lag behind.
const BACKLOG: usize = 4_096;

#[cfg(test)]
pub(crate) use tests::sample;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::{Destination, FlowKind, Path, Source, Time, Verdict};

    /// A flow from pod `shop/<from>` to pod `shop/<to>`, by Service `shop/<to>`.
    pub(crate) fn sample(from: &str, to: &str) -> Flow {
        Flow {
            time: Time::from(std::time::SystemTime::UNIX_EPOCH),
            verdict: Verdict::Forwarded,
            kind: FlowKind::Closed,
            reason: None,
            path: Path::Kernel,
            protocol: weft_model::Protocol::Tcp,
            source: Source {
                namespace: Some("shop".into()),
                pod: Some(from.into()),
                ip: [10, 0, 0, 1].into(),
                port: 41_234,
                identity: Some(format!("spiffe://cluster.local/ns/shop/sa/{from}").into()),
            },
            destination: Destination {
                namespace: Some("shop".into()),
                pod: Some(to.into()),
                service: Some(to.into()),
                ip: [10, 0, 0, 2].into(),
                port: 8080,
                identity: None,
            },
            bytes_sent: 1,
            bytes_received: 2,
            duration_ms: 3,
            rule: None,
            rtt_us: Some(80),
            retransmits: Some(0),
            http: None,
        }
    }

    fn pods(flows: &[Arc<Flow>]) -> Vec<&str> {
        flows.iter().filter_map(|flow| flow.source.pod.as_deref()).collect()
    }

    #[test]
    fn the_oldest_flow_makes_room() {
        let log = FlowLog::with_capacity(2);
        for pod in ["a", "b", "c"] {
            log.push(sample(pod, "api"));
        }
        assert_eq!(pods(&log.last(&FlowFilter::default(), 10)), ["b", "c"]);
        assert_eq!(pods(&log.last(&FlowFilter::default(), 1)), ["c"]);
    }

    #[test]
    fn the_last_65_535_flows_are_kept() {
        let log = FlowLog::new();
        for bytes_sent in 0..=65_535 {
            log.push(Flow { bytes_sent, ..sample("a", "api") });
        }
        let kept = log.last(&FlowFilter::default(), usize::MAX);
        assert_eq!((kept.len(), kept[0].bytes_sent), (65_535, 1), "the first of 65 536 made room");
    }

    #[test]
    fn a_flood_of_requests_leaves_the_flows_of_connections() {
        let log = FlowLog::with_capacity(8);
        log.push(sample("a", "api"));
        log.push_requests(vec![crate::observer::sample_request(); 100]);
        let kept = log.last(&FlowFilter::default(), 10);
        assert_eq!(pods(&kept), ["a", "web-1", "web-1"], "by time, requests are a quarter");
        assert_eq!(pods(&log.last(&FlowFilter::default(), 1)), ["web-1"]);
    }

    #[test]
    fn last_counts_only_what_the_filter_keeps() {
        let log = FlowLog::new();
        for pod in ["a", "b", "a", "c"] {
            log.push(sample(pod, "api"));
        }
        let only = FlowFilter { pod: Some("a".into()), ..FlowFilter::default() };
        assert_eq!(pods(&log.last(&only, 2)), ["a", "a"]);
    }

    #[tokio::test]
    async fn a_follower_sees_the_past_and_then_each_new_flow_once() {
        let log = FlowLog::new();
        log.push(sample("a", "api"));
        let (past, mut follower) = log.follow(Box::new(|_| true), 10);
        log.push(sample("b", "api"));
        assert_eq!(pods(&past), ["a"]);
        let Some(FlowLine::Flow(flow)) = follower.next().await else { panic!("a flow was pushed") };
        assert_eq!(flow.source.pod.as_deref(), Some("b"));
        drop(log);
        assert_eq!(follower.next().await, None);
    }

    #[tokio::test]
    async fn a_slow_follower_learns_how_many_flows_it_missed() {
        let log = FlowLog::new();
        let (_, mut follower) = log.follow(Box::new(|_| true), 0);
        for _ in 0..BACKLOG + 7 {
            log.push(sample("a", "api"));
        }
        assert_eq!(follower.next().await, Some(FlowLine::Missed { missed: 7 }));
        assert!(matches!(follower.next().await, Some(FlowLine::Flow(_))));
    }

    #[test]
    fn a_flow_is_written_with_the_names_that_are_promised() {
        let json: serde_json::Value = serde_json::to_value(sample("web", "api")).unwrap();
        let keys = |value: &serde_json::Value| {
            let mut keys: Vec<_> = value.as_object().unwrap().keys().cloned().collect();
            keys.sort();
            keys.join(" ")
        };
        assert_eq!(
            keys(&json),
            "bytesReceived bytesSent destination durationMs kind path protocol reason retransmits rttUs rule \
             source time verdict"
        );
        assert_eq!(keys(&json["source"]), "identity ip namespace pod port");
        assert_eq!(keys(&json["destination"]), "identity ip namespace pod port service");
        assert_eq!(json["verdict"], "FORWARDED");
        assert_eq!(json["protocol"], "TCP");
        assert_eq!(json["time"], "1970-01-01T00:00:00.000Z");
    }
}
