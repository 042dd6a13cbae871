//! The source at work: news in, snapshots out.

mod keeping;

use std::{
    collections::{BTreeSet, HashSet},
    sync::Arc,
    time::Duration,
};

use futures_util::future::BoxFuture;
use tokio::{
    sync::{mpsc, oneshot, watch as latest},
    time::{Instant, sleep_until},
};
use weft_model::{JwksHeld, ObjectName, Snapshot};

use self::keeping::{Due, Keeping};
use super::{
    ClusterSource,
    follow::Told,
    health::{Failures, Health},
    lookups::{Decided, Lookups},
    resource::Resource,
    store::Store,
    trouble::Trouble,
    watches::{Of, Watches},
};
use crate::{
    announce::{Announced, Call, Known},
    node::Sandboxes,
    object::Kind,
    source::{self, Asked, Options, blocking},
    status::Judgement,
};

/// All of it, but for what is moved to threads that may block.
pub(super) struct Running {
    watches: Watches,
    lookups: Lookups,
    failures: Failures,
    server: String,
    options: Options,
    publish: latest::Sender<Arc<Snapshot>>,
    health: latest::Sender<Arc<Health>>,
    requests: mpsc::Receiver<Asked>,
    calls: mpsc::Receiver<Call>,
    jwks: latest::Receiver<Arc<JwksHeld>>,
    /// Whom it is told what is to be said of objects.
    judgement: Option<latest::Sender<Arc<Judgement>>>,
    /// Who waits for what there is now.
    waiting: Vec<Asked>,
    /// The UIDs of pods that the runtime has told of, and who waits for them to be known.
    announced: Vec<(Arc<str>, oneshot::Sender<Known>)>,
    scan_at: Instant,
    keeping: Keeping,
    /// What blocks; `None` only while it is elsewhere.
    parts: Option<Parts>,
}

struct Parts {
    store: Store,
    sandboxes: Sandboxes,
}

/// What came of a batch.
struct Applied {
    parts: Parts,
    /// Fit to be published.
    snapshot: Option<Arc<Snapshot>>,
    judgement: Option<Arc<Judgement>>,
}

/// What is taken over together.
struct Batch {
    decided: Vec<Decided>,
    told: Vec<(Kind, Told)>,
    /// The kinds that there are, once that is known.
    there: Option<Vec<Kind>>,
    jwks: Arc<JwksHeld>,
    /// What was said of objects last, where anybody asks.
    judged: Option<Arc<Judgement>>,
    called: Vec<Called>,
    /// Whether namespaces are looked for.
    scan: bool,
    /// The kinds that the API server refuses to tell of.
    refused: BTreeSet<Kind>,
}

/// A [`Call`], less whoever waits for the answer.
enum Called {
    Add(Announced),
    Remove(Arc<str>),
    Keep(HashSet<Arc<str>>),
}

/// What there is to do.
enum News {
    Called(Vec<Call>),
    Told(Vec<(Of, Told)>),
    Decided(Result<Decided, Trouble>),
    Asked(Asked),
    Keys,
    Scan,
    Keep(Due),
    Due,
}

impl Running {
    pub(super) fn of(source: ClusterSource) -> Self {
        // The source's own handle (`refresh`) would keep the channel of requests open for ever.
        let ClusterSource {
            store,
            watches,
            lookups,
            sandboxes,
            server,
            options,
            publish,
            health,
            requests,
            calls,
            jwks,
            judgement,
            ..
        } = source;
        let (now, keeping) = (Instant::now(), Keeping::new(options.last_good.clone()));
        Self {
            watches,
            lookups,
            failures: Failures::default(),
            server,
            options,
            publish,
            health,
            requests,
            calls,
            jwks,
            judgement,
            waiting: Vec::new(),
            announced: Vec::new(),
            scan_at: now,
            keeping,
            parts: Some(Parts { store, sandboxes }),
        }
    }

    /// Publishes until `shutdown`.
    pub(super) async fn follow(mut self, mut shutdown: BoxFuture<'static, ()>) {
        loop {
            let news = tokio::select! {
                () = &mut shutdown => None,
                news = self.news() => Some(news),
            };
            let done = match news {
                Some(News::Keep(due)) => self.keep(due),
                Some(news) => self.take(news).await,
                None => {
                    self.keep_the_last().await;
                    return;
                }
            };
            // The runtime is shutting down.
            if done.is_none() {
                return;
            }
        }
    }

    async fn news(&mut self) -> News {
        let now = Instant::now();
        let due = self.parts.as_ref().and_then(|parts| parts.store.due()).map(Instant::from_std);
        let due = due.filter(|due| *due > now);
        tokio::select! {
            told = self.watches.next() => News::Told(told),
            decided = self.lookups.next() => News::Decided(decided),
            Some(asked) = self.requests.recv() => News::Asked(asked),
            calls = next_of(&mut self.calls) => News::Called(calls),
            Ok(()) = self.jwks.changed() => News::Keys,
            () = sleep_until(self.scan_at) => News::Scan,
            due = self.keeping.due() => News::Keep(due),
            () = sleep_until(due.unwrap_or(now)), if due.is_some() => News::Due,
        }
    }

    async fn take(&mut self, news: News) -> Option<()> {
        let (mut told, mut decided) = (Vec::new(), Vec::new());
        let mut called = Vec::new();
        let scan = matches!(news, News::Scan | News::Asked(_) | News::Called(_));
        if scan {
            self.scan_at = Instant::now() + SCAN;
        }
        match news {
            News::Told(news) => {
                for (of, one) in news {
                    let name = of.map_or(DEFINITION, Kind::name);
                    self.failures.take(name, &one);
                    match of {
                        Some(kind) => told.push((kind, one)),
                        None => decided.extend(self.lookups.take(&one)),
                    }
                }
            }
            News::Decided(Ok(one)) => decided.push(one),
            News::Decided(Err(trouble)) => drop(self.failures.fail(DEFINITION, &trouble)),
            News::Asked(asked) => self.waiting.push(asked),
            News::Called(calls) => called.extend(calls.into_iter().map(|call| self.heard(call))),
            News::Scan | News::Keys | News::Keep(_) | News::Due => {}
        }
        self.watch(&decided);
        let batch = Batch {
            decided,
            told,
            there: self.lookups.are_done().then(|| self.watches.kinds().collect()),
            jwks: Arc::clone(&self.jwks.borrow_and_update()),
            judged: self.judgement.as_ref().map(|told| Arc::clone(&told.borrow())),
            called,
            scan,
            refused: self.watches.kinds().filter(|kind| self.failures.are_forbidden(kind.name())).collect(),
        };
        let parts = self.parts.take()?;
        let Applied { parts, snapshot, judgement } = blocking(move || parts.apply(batch)).await?;
        self.parts = Some(parts);
        if let Some(snapshot) = snapshot {
            self.publish(snapshot);
            self.answer();
        }
        if let (Some(told), Some(judgement)) = (&self.judgement, judgement) {
            told.send_replace(judgement);
        }
        self.tell_health();
        Some(())
    }

    /// Watches what is there now.
    fn watch(&mut self, decided: &[Decided]) {
        for (kind, version) in decided {
            match version {
                Some(version) if self.watches.version(Some(*kind)) == Some(version) => {}
                Some(version) => self.watches.start(Some(*kind), Resource::optional(*kind, version)),
                None => {
                    self.watches.stop(Some(*kind));
                    self.failures.forget(kind.name());
                }
            }
        }
    }

    fn publish(&mut self, snapshot: Arc<Snapshot>) {
        let synced = self.parts.as_ref().is_some_and(|parts| parts.store.is_synced());
        let other = !Arc::ptr_eq(&self.publish.borrow(), &snapshot);
        if other && synced {
            self.keeping.changed();
        }
        let pods = snapshot.workloads.values().filter(|pod| pod.local && pod.enrolled && !pod.terminating);
        if pods.into_iter().any(|pod| pod.netns.is_none()) {
            self.scan_at = self.scan_at.min(Instant::now() + SCAN_SOON);
        }
        let version = snapshot.version;
        source::publish(&self.publish, snapshot);
        if synced {
            for asked in self.waiting.drain(..) {
                // Whoever has stopped waiting needs no answer.
                let _ = asked.send(version);
            }
        }
    }

    /// What a call says; whoever waits for it is noted.
    fn heard(&mut self, call: Call) -> Called {
        match call {
            Call::Add(network, answer) => {
                self.announced.push((Arc::clone(&network.uid), answer));
                Called::Add(network)
            }
            Call::Remove(sandbox) => Called::Remove(sandbox),
            Call::Keep(sandboxes) => Called::Keep(sandboxes),
        }
    }

    /// Answers whoever waits for a pod that is known by now: of the mesh, once it is kept.
    fn answer(&mut self) {
        let Some(Parts { store, .. }) = &self.parts else { return };
        let published = Arc::clone(&self.publish.borrow());
        let mut enrolled = Vec::new();
        for (uid, answer) in std::mem::take(&mut self.announced) {
            match store.known(&uid, &published) {
                Some(known) if known.enrolled => enrolled.push((known, answer)),
                // Whoever has stopped waiting needs no answer.
                Some(known) => drop(answer.send(known)),
                None if answer.is_closed() => {}
                None => self.announced.push((uid, answer)),
            }
        }
        self.keeping.answer_when_kept(enrolled);
        if self.keeping.is_wanted() {
            self.begin_to_keep();
        }
    }

    /// Goes on with what is kept for the next agent.
    fn keep(&mut self, due: Due) -> Option<()> {
        if let Due::Written(written) = due {
            self.keeping.written(&written?);
            if !self.keeping.is_wanted() {
                return Some(());
            }
        }
        self.begin_to_keep();
        Some(())
    }

    fn begin_to_keep(&mut self) {
        let Some(Parts { store, .. }) = &self.parts else { return };
        let published = Arc::clone(&self.publish.borrow());
        self.keeping.begin(|| store.to_keep(&published));
    }

    /// Keeps what is in force at the end.
    async fn keep_the_last(&mut self) {
        loop {
            self.begin_to_keep();
            if !self.keeping.is_under_way() {
                return;
            }
            match self.keeping.due().await {
                Due::Written(Some(written)) => self.keeping.written(&written),
                _ => return,
            }
        }
    }

    fn tell_health(&self) {
        let Some(Parts { store, .. }) = &self.parts else { return };
        let node = ObjectName::new("", Arc::clone(&self.options.node));
        let kept = store.kept_at().map(|at| std::time::UNIX_EPOCH + Duration::from_secs(at));
        let health = Health {
            server: self.server.clone(),
            synced: store.is_synced(),
            unlisted: store.unlisted().collect(),
            kept,
            away: self.failures.away(),
            refused: self.failures.refused(),
            no_such_node: store.has(Kind::Node, &node) == Some(false),
        };
        self.health.send_if_modified(|latest| {
            let other = **latest != health;
            if other {
                *latest = Arc::new(health);
            }
            other
        });
    }
}

impl Parts {
    /// Takes over a batch.
    fn apply(mut self, batch: Batch) -> Applied {
        let Self { store, sandboxes } = &mut self;
        store.hold(batch.jwks);
        store.lacks(batch.refused);
        for (kind, version) in batch.decided {
            match version {
                Some(version) => store.expect(kind, Resource::optional(kind, version)),
                None => store.withdraw(kind),
            }
        }
        if let Some(there) = batch.there {
            store.know_kinds(&there);
        }
        let now = std::time::Instant::now();
        for (kind, told) in batch.told {
            store.take(kind, told, now);
        }
        for called in batch.called {
            match called {
                Called::Add(network) => sandboxes.announce(network),
                Called::Remove(sandbox) => sandboxes.withdraw(&sandbox),
                Called::Keep(those) => sandboxes.keep(&those),
            }
        }
        if batch.scan {
            store.place(sandboxes.scan(&store.sandboxes()));
        }
        // What is half told is not told on, unless all that is known is what was kept.
        let fit = !store.is_synced() || store.is_settled(now);
        let snapshot = if fit { store.snapshot() } else { None };
        let judgement = snapshot.as_ref().zip(batch.judged);
        let judgement = judgement.and_then(|(snapshot, before)| store.judgement(snapshot, &before));
        Applied { parts: self, snapshot, judgement }
    }
}

/// The calls that have come by now, once there is one. A source that nobody can call any more waits for other things.
async fn next_of(calls: &mut mpsc::Receiver<Call>) -> Vec<Call> {
    let mut batch = Vec::new();
    if calls.recv_many(&mut batch, CALLS).await == 0 {
        std::future::pending::<()>().await;
    }
    batch
}

/// How many calls are taken over together.
const CALLS: usize = 64;
/// How often pods' namespaces are looked for: while an enrolled pod has none, and else.
const SCAN_SOON: Duration = Duration::from_millis(250);
const SCAN: Duration = Duration::from_secs(2);
/// The kind of kinds.
const DEFINITION: &str = "CustomResourceDefinition";
