//! One worker: a thread with its own runtime, on which everything of the connections that it accepts runs.
//!
//! Workers share immutable tables and counters, and nothing that has to be locked. Each has its own descriptor of
//! every pod's listener; the kernel gives a connection to whoever asks first.

pub(crate) mod delivery;
mod rechecks;
mod served;
mod tasks;
mod turns;
mod watch;

use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
    io,
    net::TcpListener,
    rc::Rc,
    sync::{Arc, OnceLock, atomic::AtomicU64},
    thread::{self, JoinHandle},
    time::Duration,
};

use arc_swap::ArcSwap;
use tokio::{
    sync::{mpsc, oneshot, watch::Sender},
    task::LocalSet,
    time::{MissedTickBehavior, interval},
};
use tokio_util::sync::CancellationToken;
use weft_transport::{Origins, memory};

pub(crate) use self::watch::Watch;
use crate::{
    Limits,
    account::Account,
    clock::{Clock, Moment},
    draw::Dice,
    identities::Identities,
    live,
    observe::Records,
    pool::Queue,
    proxy::Pod,
    tables::Tables,
};
pub(crate) use delivery::Streams;
pub(crate) use rechecks::Decided;
use rechecks::Rechecks;
pub(crate) use served::Served;
pub(crate) use tasks::Tasks;
pub(crate) use turns::{Share, Turns};

/// What all workers share.
pub(crate) struct Shared {
    pub tables: ArcSwap<Tables>,
    pub origins: ArcSwap<Arc<dyn Origins>>,
    pub identities: Identities,
    pub limits: Limits,
    pub clock: Clock,
    /// Changes with `tables`: whoever has decided by those before looks again.
    pub changes: Sender<u64>,
    /// The number of the next connection that is told while it goes on.
    pub connections: AtomicU64,
    /// Changes with whoever reads the records.
    pub audience: AtomicU64,
    /// How workers reach each other, and themselves. Does not keep them alive.
    pub workers: OnceLock<Vec<mpsc::WeakSender<Message>>>,
}

/// What a worker is told.
pub(crate) enum Message {
    /// Accept this pod's connections. Answered once they are accepted.
    Add { pod: Arc<Pod>, listeners: Listeners, done: oneshot::Sender<io::Result<()>> },
    /// Let go of a pod: its listeners, its connections, its namespace.
    Remove { cookie: u64, done: oneshot::Sender<()> },
    /// Endpoints have left.
    Left,
    /// Somebody waits for a connection of this backend: close one that nobody uses.
    MakeRoom(Arc<Queue>),
    /// Accept nothing more. Answered when that is so, and once the last connection has ended, within this time.
    Drain { within: Duration, begun: oneshot::Sender<()>, done: oneshot::Sender<()> },
}

/// Where a pod's connections are accepted.
pub(crate) struct Listeners {
    /// Those that it makes.
    pub outbound: Vec<TcpListener>,
    /// Those that are made to it.
    pub inbound: Vec<TcpListener>,
}

/// A worker, on its own thread.
pub(crate) struct Worker {
    pub shared: Arc<Shared>,
    pub records: Records,
    pub dice: RefCell<Dice>,
    pub turns: Rc<Turns>,
    /// Cancelled once nothing more is accepted.
    pub draining: CancellationToken,
    /// What is decided again when the tables change.
    pub rechecks: Rechecks,
    /// Connections that were parked since their memory was given back last.
    pub parked: Cell<usize>,
    pods: RefCell<HashMap<u64, Rc<Served>>>,
    /// Pods of which only connections are left: another one has their namespace now.
    renamed: RefCell<Vec<Rc<Served>>>,
    own: Tasks,
}

/// How the rest of the process reaches a worker. It ends when this is dropped.
#[derive(Debug)]
pub(crate) struct Reach {
    messages: mpsc::Sender<Message>,
    thread: Option<JoinHandle<()>>,
}

impl Reach {
    /// Starts a worker.
    pub(crate) fn start(number: usize, shared: Arc<Shared>, records: Records) -> io::Result<Self> {
        let (messages, received) = mpsc::channel(MESSAGES);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .on_thread_park(turns::rests)
            .build()?;
        let run = move || {
            let turns = Rc::<Turns>::default();
            let worker = Rc::new(Worker {
                shared,
                records,
                dice: RefCell::new(Dice::new()),
                draining: CancellationToken::new(),
                rechecks: Rechecks::default(),
                parked: Cell::new(0),
                pods: RefCell::default(),
                renamed: RefCell::default(),
                own: Tasks::of(Arc::<Account>::default(), Share::new(&turns)),
                turns,
            });
            LocalSet::new().block_on(&runtime, worker.run(received));
        };
        let thread = thread::Builder::new().name(format!("weft-worker-{number}")).spawn(run)?;
        Ok(Self { messages, thread: Some(thread) })
    }

    /// Tells the worker something; `false` once it is gone.
    pub(crate) async fn tell(&self, message: Message) -> bool {
        self.messages.send(message).await.is_ok()
    }

    /// As [`Reach::tell`], without waiting: a full queue is swept soon anyway.
    pub(crate) fn hint(&self, message: Message) {
        let _ = self.messages.try_send(message);
    }

    pub(crate) fn messages(&self) -> mpsc::WeakSender<Message> {
        self.messages.downgrade()
    }

    /// Ends the worker and everything on it.
    pub(crate) fn end(mut self) {
        let thread = self.thread.take();
        drop(self);
        if let Some(thread) = thread {
            // A panic of the loop itself has been printed by its hook.
            let _ = thread.join();
        }
    }
}

impl Shared {
    /// Asks all workers to close a connection of a backend that nobody uses. Does not wait: where a queue is full, the
    /// sweep does it.
    pub(crate) fn make_room(&self, queue: &Arc<Queue>) {
        for worker in self.workers.get().into_iter().flatten() {
            if let Some(worker) = worker.upgrade() {
                let _ = worker.try_send(Message::MakeRoom(Arc::clone(queue)));
            }
        }
    }
}

impl Worker {
    /// Now.
    pub(crate) fn now(&self) -> Moment {
        self.shared.clock.now()
    }

    async fn run(self: Rc<Self>, mut messages: mpsc::Receiver<Message>) {
        let mut sweeps = interval(SWEEP);
        sweeps.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut changes = self.shared.changes.subscribe();
        loop {
            tokio::select! {
                message = messages.recv() => match message {
                    Some(message) => self.take(message),
                    None => break,
                },
                // Its sender is in `shared`.
                Ok(()) = changes.changed() => self.rechecks.decide(),
                _ = sweeps.tick() => self.sweep(),
            }
        }
        self.all().iter().for_each(|served| served.stop());
        self.own.stop();
    }

    fn take(self: &Rc<Self>, message: Message) {
        match message {
            Message::Add { pod, listeners, done } => {
                let added = self.add(pod, listeners);
                // Whoever asked may have gone.
                let _ = done.send(added);
            }
            Message::Remove { cookie, done } => {
                let mut removed = Vec::from_iter(self.pods.borrow_mut().remove(&cookie));
                removed
                    .extend(self.renamed.borrow_mut().extract_if(.., |served| served.pod.cookie == cookie));
                self.own.spawn("remove", async move {
                    for served in removed {
                        served.stop();
                        served.ended().await;
                    }
                    let _ = done.send(());
                });
            }
            Message::Left => self.close_idle(),
            Message::MakeRoom(queue) => {
                let _ = self.all().iter().any(|served| served.pools.make_room(&queue));
            }
            Message::Drain { within, begun, done } => {
                self.drain(within, done);
                let _ = begun.send(());
            }
        }
    }

    fn add(self: &Rc<Self>, pod: Arc<Pod>, listeners: Listeners) -> io::Result<()> {
        let registered = |listeners: Vec<TcpListener>| {
            listeners.into_iter().map(tokio::net::TcpListener::from_std).collect::<io::Result<Vec<_>>>()
        };
        let (outbound, inbound) = (registered(listeners.outbound)?, registered(listeners.inbound)?);
        let before = self.pods.borrow_mut().remove(&pod.cookie);
        let same = before.filter(|before| {
            let same = before.pod.is_the_same(&pod);
            if !same {
                before.accept_nothing_more();
                self.renamed.borrow_mut().push(Rc::clone(before));
            }
            same
        });
        let served = same.unwrap_or_else(|| Rc::new(Served::new(pod, Rc::clone(self))));
        if !self.draining.is_cancelled() {
            served.accept_on(outbound, inbound);
        }
        self.pods.borrow_mut().insert(served.pod.cookie, served);
        Ok(())
    }

    fn all(&self) -> Vec<Rc<Served>> {
        let (pods, renamed) = (self.pods.borrow(), self.renamed.borrow());
        pods.values().chain(renamed.iter()).cloned().collect()
    }

    fn drain(self: &Rc<Self>, within: Duration, done: oneshot::Sender<()>) {
        self.draining.cancel();
        let pods = self.all();
        for served in &pods {
            served.accept_nothing_more();
        }
        self.own.spawn("drain", async move {
            let all = async {
                for served in &pods {
                    served.clients.ended().await;
                }
            };
            let in_time = tokio::time::timeout(within, all).await.is_ok();
            for served in &pods {
                served.stop();
            }
            if !in_time {
                // Whatever is cut tells of it, before the process that hands it on may end.
                let cut = async {
                    for served in &pods {
                        served.ended().await;
                    }
                };
                let _ = tokio::time::timeout(CUT, cut).await;
            }
            let _ = done.send(());
        });
    }

    fn close_idle(&self) {
        let now = self.now();
        for served in self.all() {
            served.pools.sweep(now, &self.shared.limits);
            served.carriers.sweep(&served);
        }
    }

    /// What parked connections had is given back once it is a good part of what the others have, so that the look at
    /// the heap costs each of them as much, however many there are. So is the code that has served them.
    fn give_memory_back(&self) {
        let all: usize = self.all().iter().map(|served| served.clients.count()).sum();
        if self.parked.get() >= PARKED.max(all / 4) {
            self.parked.set(0);
            memory::give_back();
            // They wait, and what it took to serve them is not needed for that.
            if let Err(error) = memory::forget_code() {
                tracing::debug!(%error, "the proxy's code stays resident");
            }
        }
    }

    fn sweep(&self) {
        self.close_idle();
        let mut most = live::AT_ONCE;
        for served in self.all() {
            served.check_connections();
            if self.records.wanted() {
                most = served.live.tell(self, &served.pod.name, most);
            }
        }
        self.give_memory_back();
        self.renamed.borrow_mut().retain(|served| served.clients.count() > 0);
    }
}

/// So many parked connections are worth the look at the whole heap: 1 MiB.
const PARKED: usize = 64;
/// Messages that wait for a worker.
const MESSAGES: usize = 64;
/// How long connections may take to end once they are cut: they wait for nobody but each other.
const CUT: Duration = Duration::from_secs(5);
/// Between two looks at what is idle or slow.
const SWEEP: Duration = Duration::from_secs(1);
