//! Relayed connections that go on: told a second after they begin, and every few seconds while bytes move.
//!
//! What is told are totals, so that a record that is lost is made good by the next. A connection itself does nothing for
//! it: its worker looks at all of them each second.

use std::{
    cell::{Cell, RefCell},
    net::SocketAddr,
    rc::{Rc, Weak},
    sync::atomic::Ordering::Relaxed,
    time::{Duration, SystemTime},
};

use weft_model::ObjectName;
use weft_telemetry::records::{Destination, Inbound, LiveRecord, Security};
use weft_transport::Progress;

use crate::{
    clock::Moment,
    observe::{Record, Records},
    worker::{Shared, Worker},
};

/// A connection whose bytes are relayed, for as long as somebody holds it.
pub(crate) struct Relaying {
    connection: u64,
    began: (Moment, SystemTime),
    facts: Facts,
    progress: Rc<Progress>,
    told: Cell<Option<Told>>,
}

/// What is known of one.
pub(crate) struct Facts {
    pub client: SocketAddr,
    pub dialled: Option<SocketAddr>,
    pub service: Option<(ObjectName, u16)>,
    pub endpoint: SocketAddr,
    /// Of a stream: whom the app has as its peer.
    pub peer: Option<SocketAddr>,
    pub security: Security,
    /// Of one that was made to the pod: who its client has proven to be.
    pub inbound: Option<Inbound>,
}

#[derive(Clone, Copy)]
struct Told {
    at: Moment,
    bytes: (u64, u64),
    /// Which agent has heard it.
    audience: u64,
}

/// Those of one pod on one worker.
#[derive(Default)]
pub(crate) struct Live(RefCell<Vec<Weak<Relaying>>>);

impl Live {
    /// Has a connection told for as long as what is returned is held.
    pub(crate) fn add(
        &self,
        shared: &Shared,
        connection: u64,
        progress: &Rc<Progress>,
        facts: Facts,
    ) -> Rc<Relaying> {
        let began = (shared.clock.now(), SystemTime::now());
        let progress = Rc::clone(progress);
        let relaying = Rc::new(Relaying { connection, began, facts, progress, told: Cell::new(None) });
        self.0.borrow_mut().push(Rc::downgrade(&relaying));
        relaying
    }

    /// Tells what is due, `most` of them; the others are first the next time. How many may be told beside.
    pub(crate) fn tell(&self, worker: &Worker, pod: &ObjectName, most: usize) -> usize {
        let mut all = self.0.borrow_mut();
        all.retain(|one| one.strong_count() > 0);
        let (now, audience) = (worker.now(), worker.shared.audience.load(Relaxed));
        let mut left = most;
        let mut seen = 0;
        for one in all.iter().filter_map(Weak::upgrade) {
            if left == 0 {
                break;
            }
            seen += 1;
            if one.is_due(now, audience) {
                left -= 1;
                one.tell(&worker.records, pod, now, audience);
            }
        }
        all.rotate_left(seen);
        left
    }
}

impl Relaying {
    /// `work`, told until it is done.
    pub(crate) async fn hold<T>(self: Rc<Self>, work: impl Future<Output = T>) -> T {
        work.await
    }

    fn is_due(&self, now: Moment, audience: u64) -> bool {
        match self.told.get() {
            Some(told) if told.audience == audience => {
                now.since(told.at) >= AGAIN && told.bytes != self.bytes()
            }
            _ => now.since(self.began.0) >= FIRST,
        }
    }

    fn tell(&self, records: &Records, pod: &ObjectName, now: Moment, audience: u64) {
        let bytes = self.bytes();
        let began = self.began.1.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let Facts { client, dialled, service, endpoint, peer, security, inbound } = &self.facts;
        let live = LiveRecord {
            connection: self.connection,
            began: u64::try_from(began.as_micros()).unwrap_or(u64::MAX),
            pod: pod.clone(),
            client: *client,
            dialled: *dialled,
            service: service.clone().map(|(service, port)| Destination(service, port)),
            endpoint: *endpoint,
            security: *security,
            inbound: inbound.clone(),
            peer: *peer,
            received: bytes.0,
            sent: bytes.1,
        };
        records.put(Record::Live { told: SystemTime::now(), live: Box::new(live) });
        self.told.set(Some(Told { at: now, bytes, audience }));
    }

    /// From the client, and to it.
    fn bytes(&self) -> (u64, u64) {
        let (forth, back) = (self.progress.left_to_right(), self.progress.right_to_left());
        // The left side of one that is made to a pod is the app.
        if self.facts.inbound.is_some() { (back, forth) } else { (forth, back) }
    }
}

/// What is over sooner is told by its record alone.
const FIRST: Duration = Duration::from_secs(1);
/// contract: counters of live connections move at least every 10 s.
const AGAIN: Duration = Duration::from_secs(5);
/// So many are told at a time by a worker: a good part of what the queue of records holds stays free.
pub(crate) const AT_ONCE: usize = 2048;
