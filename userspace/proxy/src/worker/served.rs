//! A pod on one worker.

use std::{
    cell::{Cell, RefCell},
    collections::HashSet,
    io,
    net::SocketAddr,
    rc::{Rc, Weak},
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use tokio::net::{TcpListener, TcpStream};
use weft_transport::{Diag, Progress, Query, States};

use super::{Share, Tasks, Watch, Worker};
use crate::{
    Reason,
    carriers::Carriers,
    inbound,
    live::{Facts, Live, Relaying},
    outbound,
    pool::Pools,
    proxy::Pod,
};

/// A pod whose connections this worker accepts.
pub(crate) struct Served {
    pub pod: Arc<Pod>,
    pub worker: Rc<Worker>,
    /// Its connections to endpoints: they are made in its namespace, so no other pod may use them.
    pub pools: Rc<Pools>,
    /// Its connections of mutual TLS, which its streams to pods of other nodes share.
    pub carriers: Carriers,
    /// Its connections, and what goes on because of them.
    pub clients: Tasks,
    /// The upstream connections' own tasks.
    pub upstreams: Tasks,
    /// Copies for mirrors that are under way.
    pub mirrors: Cell<usize>,
    /// Its connections whose bytes are relayed.
    pub live: Live,
    /// Those that its apps' clients seem to come from.
    pub ports: RefCell<inbound::Ports>,
    accepting: RefCell<Tasks>,
    share: Rc<Share>,
    watched: RefCell<Vec<Weak<Watch>>>,
}

impl Served {
    pub(super) fn new(pod: Arc<Pod>, worker: Rc<Worker>) -> Self {
        let share = Share::new(&worker.turns);
        let tasks = || Tasks::of(Arc::clone(&pod.account), Rc::clone(&share));
        Self {
            pools: Rc::default(),
            carriers: Carriers::default(),
            ports: RefCell::default(),
            clients: tasks(),
            upstreams: tasks(),
            accepting: RefCell::new(tasks()),
            share: Rc::clone(&share),
            mirrors: Cell::new(0),
            live: Live::default(),
            watched: RefCell::default(),
            pod,
            worker,
        }
    }

    /// Accepts on these listeners, and no more on those from before.
    pub(super) fn accept_on(self: &Rc<Self>, outbound: Vec<TcpListener>, inbound: Vec<TcpListener>) {
        let accepting = Tasks::of(Arc::clone(&self.pod.account), Rc::clone(&self.share));
        for listener in outbound {
            accepting.spawn("accept", accept(Rc::clone(self), listener, outbound::serve));
        }
        for listener in inbound {
            accepting.spawn("accept inbound", accept(Rc::clone(self), listener, inbound::serve));
        }
        self.accepting.replace(accepting).stop();
    }

    /// Has a connection watched for silence, slowness and clients that left.
    pub(crate) fn watch(&self, watch: &Rc<Watch>) {
        self.watched.borrow_mut().push(Rc::downgrade(watch));
    }

    /// Has a connection told while it goes on and what is returned is held; and its number.
    pub(crate) fn relays(&self, progress: &Rc<Progress>, facts: Facts) -> (u64, Rc<Relaying>) {
        let shared = &self.worker.shared;
        let connection = shared.connections.fetch_add(1, Ordering::Relaxed);
        (connection, self.live.add(shared, connection, progress, facts))
    }

    /// Tells connections that go on for no good.
    pub(super) fn check_connections(&self) {
        let (now, limits) = (self.worker.now(), &self.worker.shared.limits);
        let mut at_end = Vec::new();
        self.watched.borrow_mut().retain(|watch| {
            let Some(watch) = watch.upgrade() else { return false };
            watch.check(now, limits);
            if let Some(client) = watch.may_have_left() {
                at_end.push((client, watch));
            }
            true
        });
        if at_end.is_empty() {
            return;
        }
        // A FIN does not tell a client that closed from one that only has no more to send. The kernel does: nobody
        // holds the socket of the one that closed. Both are in this pod's namespace.
        match self.half_open() {
            Ok(half_open) => {
                let left = at_end.iter().filter(|(client, _)| !half_open.contains(client));
                left.for_each(|(_, watch)| watch.ends(Reason::CLIENT_GONE));
            }
            Err(error) => tracing::debug!(pod = %self.pod.name, %error, "cannot list who waits"),
        }
    }

    /// Addresses of the pod's sockets that have sent their end and still have a process behind them.
    fn half_open(&self) -> Result<HashSet<SocketAddr>, weft_transport::Error> {
        let sockets = Diag::open(&self.pod.netns)?.sockets(&Query::tcp(States::SENT_END))?;
        Ok(sockets.iter().filter(|socket| socket.inode != 0).map(|socket| socket.local).collect())
    }

    pub(super) fn accept_nothing_more(&self) {
        self.accepting.borrow().stop();
    }

    /// Waits until nothing of the pod runs here any more.
    pub(super) async fn ended(&self) {
        let accepting = self.accepting.borrow().clone();
        for tasks in [&accepting, &self.clients, &self.upstreams] {
            tasks.ended().await;
        }
    }

    /// Ends everything of the pod here.
    pub(super) fn stop(&self) {
        self.accepting.borrow().stop();
        self.clients.stop();
        self.pools.clear();
        self.carriers.clear();
        self.upstreams.stop();
    }
}

async fn accept<F: Future<Output = ()> + 'static>(
    served: Rc<Served>,
    listener: TcpListener,
    serve: fn(Rc<Served>, TcpStream, SocketAddr) -> F,
) {
    loop {
        match listener.accept().await {
            Ok((socket, peer)) => {
                served.clients.spawn("connection", serve(Rc::clone(&served), socket, peer));
            }
            Err(error) if is_of_one_connection(&error) => {}
            Err(error) => {
                tracing::warn!(pod = %served.pod.name, %error, "cannot accept; are there descriptors left?");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

/// Errors of a connection that is gone before it was accepted (accept(2)).
fn is_of_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionReset, HostUnreachable, NetworkUnreachable, TimedOut};
    let kind = error.kind();
    matches!(kind, ConnectionAborted | ConnectionReset | HostUnreachable | NetworkUnreachable | TimedOut)
}

/// Between two tries to accept, when there are no descriptors or no memory.
const PAUSE: Duration = Duration::from_millis(50);
