//! A connection to an endpoint, made in the client's namespace: the server sees the pod's own address, and the kernel
//! attests and judges it as the pod's.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use tokio::net::TcpStream;
use weft_model::Timeouts;
use weft_transport::Netns;

use super::limit;
use crate::{
    Reason,
    balance::{Ask, EndpointState, Serving},
    limits::{Held, Limit},
    tables::Upstream,
    worker::Served,
};

/// A connection that plain balancing chose, and what counts it.
pub(crate) struct Connected {
    pub stream: TcpStream,
    pub serving: Serving,
    pub held: Option<Held>,
}

/// A connection that was made before anybody knew that HTTP is spoken. Not counted until a request uses it.
pub(crate) struct Early {
    pub stream: TcpStream,
    pub endpoint: Arc<EndpointState>,
    pub held: Option<Held>,
}

impl From<Connected> for Early {
    fn from(connected: Connected) -> Self {
        let Connected { stream, serving, held } = connected;
        Self { stream, endpoint: Arc::clone(serving.endpoint()), held }
    }
}

/// Connects to an endpoint of `upstream`, and to another where the first does not answer.
pub(super) async fn connect_any(
    served: &Served,
    upstream: &Arc<Upstream>,
    dialled: SocketAddr,
    client: SocketAddr,
) -> Result<Connected, Reason> {
    let mut tried = Vec::new();
    let mut why = Reason::NO_ENDPOINTS;
    for _ in 0..TRIES {
        let now = served.worker.now();
        let Some(endpoint) = pick(served, upstream, dialled, client, &tried) else { return Err(why) };
        let address = endpoint.address();
        let held = match &upstream.traffic.circuit_breaker {
            Some(limits) => {
                let held = upstream.breaker.hold(Limit::Connections, limits);
                Some(held.map_err(|_| Reason::BREAKER_CONNECTIONS)?)
            }
            None => None,
        };
        let serving = endpoint.serve(now);
        let time = limit(upstream.traffic.timeouts.connect, Timeouts::CONNECT);
        match connect(&served.pod.netns, address, time).await {
            Ok(stream) => return Ok(Connected { stream, serving, held }),
            Err(failed) => {
                serving.failed(served.worker.now());
                why = failed;
                tried.push(address);
            }
        }
    }
    Err(why)
}

fn pick(
    served: &Served,
    upstream: &Upstream,
    dialled: SocketAddr,
    client: SocketAddr,
    tried: &[SocketAddr],
) -> Option<Arc<EndpointState>> {
    let now = served.worker.now();
    let endpoints = upstream.endpoints(dialled).endpoints();
    let hash = Some(crate::balance::hash::ip(client.ip()));
    let ask = Ask { now, hash, tried };
    let affinity = upstream.affinity.as_ref();
    let stuck = affinity.and_then(|affinity| affinity.endpoint(client.ip(), now));
    let stuck = stuck.and_then(|id| endpoints.sticky(id, &ask));
    let picked = stuck.or_else(|| endpoints.pick(&ask, &mut *served.worker.dice.borrow_mut()))?;
    if let Some(affinity) = affinity {
        affinity.used(client.ip(), picked.id(), now);
    }
    Some(Arc::clone(picked))
}

/// Connects to `to` from inside `netns`.
pub(crate) async fn connect(netns: &Netns, to: SocketAddr, time: Duration) -> Result<TcpStream, Reason> {
    let socket = netns.outgoing(to, None).map_err(|error| {
        tracing::warn!(%to, %error, "cannot open a socket in a pod's namespace");
        Reason::PROXY_FAILED
    })?;
    match tokio::time::timeout(time, socket.connect(to)).await {
        Err(_) => Err(Reason::CONNECT_TIMEOUT),
        Ok(Ok(stream)) => Ok(stream),
        Ok(Err(error)) => Err(refused(&error)),
    }
}

/// What the connect hook says is the policy's; the rest is the network's.
fn refused(error: &io::Error) -> Reason {
    match error.kind() {
        io::ErrorKind::PermissionDenied => Reason::NOT_ALLOWED,
        _ => Reason::CONNECT_FAILED,
    }
}

/// The first and one more, as for requests without a policy.
const TRIES: usize = 2;
