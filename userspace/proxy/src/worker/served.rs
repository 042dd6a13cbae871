//! A pod on one worker.

use std::{cell::Cell, io, rc::Rc, sync::Arc, time::Duration};

use tokio::net::TcpListener;

use super::{Tasks, Worker};
use crate::{outbound, pool::Pools, proxy::Pod};

/// A pod whose connections this worker accepts.
pub(crate) struct Served {
    pub pod: Arc<Pod>,
    pub worker: Rc<Worker>,
    /// Its connections to endpoints: they are made in its namespace, so no other pod may use them.
    pub pools: Pools,
    /// Its connections, and what goes on because of them.
    pub clients: Tasks,
    /// The upstream connections' own tasks.
    pub upstreams: Tasks,
    /// Copies for mirrors that are under way.
    pub mirrors: Cell<usize>,
    accepting: Tasks,
}

impl Served {
    pub(super) fn new(pod: Arc<Pod>, worker: Rc<Worker>) -> Self {
        let tasks = || Tasks::of(Arc::clone(&pod.account));
        Self {
            pools: Pools::default(),
            clients: tasks(),
            upstreams: tasks(),
            accepting: tasks(),
            mirrors: Cell::new(0),
            pod,
            worker,
        }
    }

    /// The same namespace with other listeners or another name.
    pub(super) fn replaced(&self, pod: Arc<Pod>) -> Rc<Self> {
        self.accept_nothing_more();
        let next = Self::new(pod, Rc::clone(&self.worker));
        Rc::new(Self { clients: self.clients.clone(), upstreams: self.upstreams.clone(), ..next })
    }

    pub(super) fn accept_on(self: &Rc<Self>, listener: TcpListener) {
        self.accepting.spawn("accept", accept(Rc::clone(self), listener));
    }

    pub(super) fn accept_nothing_more(&self) {
        self.accepting.stop();
    }

    /// Ends everything of the pod here.
    pub(super) fn stop(&self) {
        self.accepting.stop();
        self.clients.stop();
        self.pools.clear();
        self.upstreams.stop();
    }
}

async fn accept(served: Rc<Served>, listener: TcpListener) {
    loop {
        match listener.accept().await {
            Ok((socket, peer)) => {
                served.clients.spawn("connection", outbound::serve(Rc::clone(&served), socket, peer));
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
