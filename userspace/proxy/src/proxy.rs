//! The proxy as the rest of the process holds it.

use std::{
    io,
    net::TcpListener,
    num::NonZeroUsize,
    pin::Pin,
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use arc_swap::ArcSwap;
use tokio::sync::{oneshot, watch};
use weft_identity::{Clock as TimeOfDay, Endpoint, Held, SvidError};
use weft_model::{ObjectName, ServiceAccount, Snapshot};
use weft_transport::{Netns, Origins, Transparent};

use crate::{
    Limits,
    account::{Account, Usage},
    clock::Clock,
    identities::Identities,
    inbound::Deaf,
    observe::{self, Reader},
    route::table::CompileError,
    tables::{Compiler, Tables},
    worker::{Listeners, Message, Reach, Shared},
};

/// How a proxy is set up.
#[derive(Debug, Clone, Default)]
pub struct Settings {
    /// Threads that serve connections; `None` is one for each core.
    pub workers: Option<NonZeroUsize>,
    /// What is bounded.
    pub limits: Limits,
}

/// Tells the connect hook that this proxy serves.
pub trait Lease: Send + Sync {
    /// Renews it; it holds for five seconds.
    fn renew(&self) -> Result<(), weft_transport::Error>;
}

/// A pod whose outbound connections are served.
#[derive(Debug)]
pub struct PodSockets {
    /// Its name.
    pub name: ObjectName,
    /// Whose certificate it shows; without one it proves nobody's identity.
    pub service_account: Option<ServiceAccount>,
    /// The cookie of its namespace, by which it is known.
    pub cookie: u64,
    /// Its namespace, where upstream connections are made.
    pub netns: Netns,
    /// Where its connections are accepted.
    pub listeners: Vec<TcpListener>,
    /// Where those that others make to it are accepted.
    pub inbound: Vec<TcpListener>,
    /// In which families its app may be connected to from its clients' addresses.
    pub transparent: Transparent,
}

/// A pod, as all workers share it.
#[derive(Debug)]
pub(crate) struct Pod {
    pub name: ObjectName,
    pub service_account: Option<ServiceAccount>,
    pub cookie: u64,
    pub netns: Netns,
    pub transparent: Transparent,
    pub deaf: Deaf,
    pub account: Arc<Account>,
}

impl Pod {
    /// Whether connections of this one may be gone on with as `other`'s.
    pub(crate) fn is_the_same(&self, other: &Self) -> bool {
        self.name == other.name && self.service_account == other.service_account
    }
}

/// A running proxy. Dropped, it ends with everything that it carries.
pub struct Handle {
    shared: Arc<Shared>,
    workers: Vec<Reach>,
    lease: ArcSwap<Arc<dyn Lease>>,
    compiler: Mutex<Compiler>,
    pods: Mutex<Vec<Arc<Pod>>>,
    draining: AtomicBool,
    applied: AtomicU64,
}

/// Why a proxy cannot start or take something.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A worker's thread or runtime.
    #[error("cannot start worker {number}: {source}; are there threads and descriptors left?")]
    Worker {
        /// Which one.
        number: usize,
        /// The kernel's answer.
        source: io::Error,
    },
    /// A pod's listener.
    #[error("cannot accept connections of {pod}: {source}; are there descriptors left?")]
    Listener {
        /// The pod.
        pod: ObjectName,
        /// The kernel's answer.
        source: io::Error,
    },
    /// A worker that should be there.
    #[error("a worker has ended; its panic is in the log above, and the proxy has to be restarted")]
    WorkerGone,
    /// The routes of some ports, which keep those that they had.
    #[error("routes of {count} ports did not compile, those from before stay in force; the first: {first}")]
    Routes {
        /// How many.
        count: usize,
        /// The first of them.
        first: Box<CompileError>,
    },
    /// A pod after the proxy was told to finish.
    #[error("the proxy is draining and takes no pods; the next generation does")]
    Draining,
}

/// How a proxy is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// The version of the snapshot in force; `None` before the first.
    pub snapshot: Option<u64>,
    /// Whether it was told to finish.
    pub draining: bool,
    /// Identities of which it has a valid certificate.
    pub certificates: usize,
    /// What each pod has used so far.
    pub pods: Vec<(ObjectName, Usage)>,
}

/// Ends with the last connection.
pub(crate) type Draining = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Starts proxies.
#[derive(Debug)]
pub struct Proxy;

impl Proxy {
    /// Starts a proxy with no pods and no snapshot. What it has to tell comes out of the [`Reader`].
    pub fn start(
        settings: Settings,
        origins: Arc<dyn Origins>,
        lease: Arc<dyn Lease>,
    ) -> Result<(Handle, Reader), Error> {
        let cores = || std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
        let workers = settings.workers.map_or_else(cores, NonZeroUsize::get);
        let (records, reader) = observe::queues(settings.limits.records, workers);
        let shared = Arc::new(Shared {
            tables: ArcSwap::from_pointee(Tables::default()),
            origins: ArcSwap::from_pointee(origins),
            identities: Identities::new(TimeOfDay::system()),
            limits: settings.limits,
            clock: Clock::start(),
            changes: watch::Sender::new(0),
            connections: AtomicU64::new(1),
            audience: AtomicU64::new(0),
            workers: OnceLock::new(),
        });
        let start = |(number, records)| {
            let reach = Reach::start(number, Arc::clone(&shared), records);
            reach.map_err(|source| Error::Worker { number, source })
        };
        let workers = records.into_iter().enumerate().map(start).collect::<Result<Vec<_>, _>>()?;
        let reach = workers.iter().map(Reach::messages).collect();
        shared.workers.set(reach).expect("a proxy is started once");
        let handle = Handle {
            shared,
            workers,
            lease: ArcSwap::from_pointee(lease),
            compiler: Mutex::default(),
            pods: Mutex::default(),
            draining: AtomicBool::new(false),
            applied: AtomicU64::new(NONE),
        };
        Ok((handle, reader))
    }
}

impl Handle {
    /// Decides by `snapshot` from now on. Compiles on the calling thread.
    ///
    /// # Errors
    /// [`Error::Routes`]: everything else of the snapshot is in force.
    pub fn apply(&self, snapshot: &Snapshot) -> Result<(), Error> {
        let mut compiler = self.compiler.lock().unwrap_or_else(PoisonError::into_inner);
        let version = compiler.compile(snapshot, self.shared.clock.now());
        self.shared.tables.store(Arc::new(version.tables));
        self.applied.store(snapshot.version, Relaxed);
        self.shared.changes.send_modify(|changes| *changes += 1);
        drop(compiler);
        if !version.left.is_empty() {
            self.workers.iter().for_each(|worker| worker.hint(Message::Left));
        }
        let count = version.errors.len();
        let first = version.errors.into_iter().next();
        first.map_or(Ok(()), |first| Err(Error::Routes { count, first: Box::new(first) }))
    }

    /// Takes origins from here and renews this lease from now on.
    pub fn use_maps(&self, origins: Arc<dyn Origins>, lease: Arc<dyn Lease>) {
        self.shared.origins.store(Arc::new(origins));
        self.lease.store(Arc::new(lease));
    }

    /// Shows these certificates and trusts these roots from now on. Connections keep what they were opened with.
    ///
    /// # Errors
    /// The first certificate that cannot be used; all others are in force.
    pub fn use_identities(&self, held: Held) -> Result<(), SvidError> {
        self.shared.identities.take(held)
    }

    /// The end of mutual TLS of the pods of `account`, if there is a certificate.
    pub fn endpoint_of(&self, account: &ServiceAccount) -> Option<Arc<Endpoint>> {
        self.shared.identities.endpoint_of(account)
    }

    /// Tells the hook that this proxy serves; call it each second. Does nothing once it is draining.
    pub fn renew_lease(&self) -> Result<(), weft_transport::Error> {
        if self.draining.load(Relaxed) { Ok(()) } else { self.lease.load().renew() }
    }

    /// Serves a pod; returns once its connections are accepted. Replaces the pod with the same cookie, whose connections
    /// go on.
    pub async fn add_pod(&self, sockets: PodSockets) -> Result<(), Error> {
        if self.draining.load(Relaxed) {
            return Err(Error::Draining);
        }
        let PodSockets { name, service_account, cookie, netns, listeners, inbound, transparent } = sockets;
        let failed = |source| Error::Listener { pod: name.clone(), source };
        for listener in listeners.iter().chain(&inbound) {
            listener.set_nonblocking(true).map_err(failed)?;
        }
        let account = self.account(cookie);
        let (name_of, deaf) = (name.clone(), Deaf::default());
        let pod = Arc::new(Pod { name: name_of, service_account, cookie, netns, transparent, deaf, account });
        for worker in &self.workers {
            let all = |listeners: &[TcpListener]| {
                listeners.iter().map(TcpListener::try_clone).collect::<io::Result<_>>().map_err(failed)
            };
            let listeners = Listeners { outbound: all(&listeners)?, inbound: all(&inbound)? };
            let (done, added) = oneshot::channel();
            worker.tell(Message::Add { pod: Arc::clone(&pod), listeners, done }).await;
            added.await.map_err(|_| Error::WorkerGone)?.map_err(failed)?;
        }
        let mut pods = self.pods.lock().unwrap_or_else(PoisonError::into_inner);
        pods.retain(|pod| pod.cookie != cookie);
        pods.push(pod);
        Ok(())
    }

    /// Lets go of a pod: when this returns nothing of it is held any more.
    pub async fn remove_pod(&self, cookie: u64) -> Result<(), Error> {
        for worker in &self.workers {
            let (done, removed) = oneshot::channel();
            worker.tell(Message::Remove { cookie, done }).await;
            removed.await.map_err(|_| Error::WorkerGone)?;
        }
        self.pods.lock().unwrap_or_else(PoisonError::into_inner).retain(|pod| pod.cookie != cookie);
        Ok(())
    }

    /// Accepts nothing more and renews the lease no more; returns when the last connection has ended, at the latest
    /// `within` this time. A second call can bring the end forward, never back.
    pub async fn drain(&self, within: Duration) -> Result<(), Error> {
        self.begin_drain(within).await?.await;
        Ok(())
    }

    /// As [`Handle::drain`], but the wait for the end is the caller's.
    pub(crate) async fn begin_drain(&self, within: Duration) -> Result<Draining, Error> {
        self.draining.store(true, Relaxed);
        let mut all = Vec::new();
        for worker in &self.workers {
            let (begun, (done, drained)) = (oneshot::channel(), oneshot::channel());
            worker.tell(Message::Drain { within, begun: begun.0, done }).await;
            begun.1.await.map_err(|_| Error::WorkerGone)?;
            all.push(drained);
        }
        // A worker that is gone has drained, too.
        Ok(Box::pin(async move {
            for drained in all {
                let _ = drained.await;
            }
        }))
    }

    /// How the proxy is.
    pub fn report(&self) -> Status {
        let pods = self.pods.lock().unwrap_or_else(PoisonError::into_inner);
        let applied = self.applied.load(Relaxed);
        Status {
            snapshot: (applied != NONE).then_some(applied),
            draining: self.draining.load(Relaxed),
            certificates: self.shared.identities.valid(),
            pods: pods.iter().map(|pod| (pod.name.clone(), pod.account.usage())).collect(),
        }
    }

    /// Ports of pods, by cookie, where apps see the pod's own address though their namespaces are ready for more.
    pub(crate) fn unheard(&self) -> Vec<(u64, u16)> {
        let pods = self.pods.lock().unwrap_or_else(PoisonError::into_inner);
        pods.iter().flat_map(|pod| pod.deaf.ports().into_iter().map(|port| (pod.cookie, port))).collect()
    }

    /// Has all connections that go on told again: somebody listens who has heard of none.
    pub(crate) fn tell_anew(&self) {
        self.shared.audience.fetch_add(1, Relaxed);
    }

    /// The counters of a pod go on when it is replaced.
    fn account(&self, cookie: u64) -> Arc<Account> {
        let pods = self.pods.lock().unwrap_or_else(PoisonError::into_inner);
        let known = pods.iter().find(|pod| pod.cookie == cookie);
        known.map(|pod| Arc::clone(&pod.account)).unwrap_or_default()
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.workers.drain(..).for_each(Reach::end);
    }
}

/// No snapshot yet.
const NONE: u64 = u64::MAX;
