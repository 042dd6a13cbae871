//! A connection to an endpoint, made in the client's namespace: the server sees the pod's own address, and the kernel
//! attests and judges it as the pod's.

use std::{io, net::SocketAddr, rc::Rc, sync::Arc, time::Duration};

use tokio::net::TcpStream;
use weft_identity::{HANDSHAKE_TIME, TlsStream};
use weft_model::{ServiceAccount, Timeouts};
use weft_transport::{ReadAhead, mux::Stream, send_unpaced};

use super::limit;
use crate::{
    Reason,
    balance::{Ask, EndpointState, Serving},
    carriers,
    limits::Observed,
    line::Line,
    pool::{Asking, May, Slot},
    tables::Upstream,
    worker::Served,
};

/// A connection that plain balancing chose, and what counts it.
pub(crate) struct Connected {
    pub stream: Line,
    pub upstream: Arc<Upstream>,
    pub serving: Serving,
    pub slot: Option<Slot>,
}

/// A connection that was made before anybody knew that HTTP is spoken. Not counted until a request uses it.
pub(crate) struct Early {
    pub stream: Line,
    pub endpoint: Arc<EndpointState>,
    pub slot: Option<Slot>,
}

impl From<Connected> for Early {
    fn from(connected: Connected) -> Self {
        let Connected { stream, serving, slot, .. } = connected;
        Self { stream, endpoint: Arc::clone(serving.endpoint()), slot }
    }
}

/// Connects to an endpoint of `upstream`, and to another where the first does not answer.
pub(super) async fn connect_any(
    served: &Rc<Served>,
    upstream: &Arc<Upstream>,
    dialled: SocketAddr,
    client: SocketAddr,
) -> Result<Connected, Reason> {
    let mut tried = Vec::new();
    let mut why = Reason::NO_ENDPOINTS;
    for _ in 0..TRIES {
        let Some(endpoint) = pick(served, upstream, dialled, client, &tried) else { return Err(why) };
        let address = endpoint.address();
        let time = limit(upstream.traffic.timeouts.connect, Timeouts::CONNECT);
        let slot = slot(served, upstream, time).await?;
        let serving = endpoint.serve(served.worker.now());
        match connect(served, address, time).await {
            Ok(stream) => return Ok(Connected { stream, upstream: Arc::clone(upstream), serving, slot }),
            // The policy's word, not this endpoint's: it is not asked for until one says yes.
            Err(refused) if is_of_policy(refused) => return Err(refused),
            Err(failed) => {
                let now = served.worker.now();
                serving.failed(now);
                // The proxy's own trouble is not the endpoint's.
                if let Reason::CONNECT_FAILED | Reason::CONNECT_TIMEOUT = failed {
                    upstream.observe(dialled, &endpoint, Observed::LocalFailure, now);
                }
                why = failed;
                tried.push(address);
            }
        }
    }
    Err(why)
}

/// What the circuit breaker wants held; waits for it like a request does.
async fn slot(served: &Served, upstream: &Upstream, patience: Duration) -> Result<Option<Slot>, Reason> {
    let mut asking = Asking::new(served, upstream, patience);
    loop {
        if let May::Open(slot) = asking.may_open().await? {
            return Ok(slot);
        }
    }
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

/// Connects to `to` from inside the pod's namespace: by mutual TLS where a pod of another node is there that takes it.
pub(crate) async fn connect(served: &Rc<Served>, to: SocketAddr, time: Duration) -> Result<Line, Reason> {
    let account = served.worker.shared.tables.load().sealed(&served.pod.name, to).cloned();
    match account {
        None => Ok(Line::Plain(connect_plain(served, to, time).await?)),
        // Rare, and large: every connection would carry the room for it.
        Some(account) => Box::pin(open_stream(served, to, &account, time)).await.map(Line::Sealed),
    }
}

/// A stream to `to` that has the app behind it.
async fn open_stream(
    served: &Rc<Served>,
    to: SocketAddr,
    account: &ServiceAccount,
    time: Duration,
) -> Result<Stream, Reason> {
    let stream = carriers::open(served, to, account, time, 0).await?;
    match tokio::time::timeout(time, stream.opened()).await {
        Err(_) => Err(Reason::CONNECT_TIMEOUT),
        Ok(Err(_)) => Err(Reason::CONNECT_FAILED),
        Ok(Ok(())) => Ok(stream),
    }
}

/// Connects to `to`, which has to prove that it is of `account`.
pub(crate) async fn connect_sealed(
    served: &Served,
    to: SocketAddr,
    account: &ServiceAccount,
    time: Duration,
) -> Result<TlsStream<ReadAhead>, Reason> {
    let own = served.pod.service_account.as_ref();
    let endpoint = own.and_then(|own| served.worker.shared.identities.endpoint_of(own));
    let endpoint = endpoint.ok_or(Reason::NO_CERTIFICATE)?;
    let socket = connect_plain(served, to, time).await?;
    let sealed =
        endpoint.connect(ReadAhead::new(socket, &[]), account, HANDSHAKE_TIME).await.map_err(|refused| {
            tracing::info!(pod = %served.pod.name, %to, %refused, "a TLS handshake is refused");
            refused.reason()
        })?;
    served.pod.account.handshake();
    Ok(sealed)
}

/// Connects to `to` from inside the pod's namespace, and leaves the bytes as they are.
pub(crate) async fn connect_plain(
    served: &Served,
    to: SocketAddr,
    time: Duration,
) -> Result<TcpStream, Reason> {
    let socket = served.pod.netns.outgoing(to, None).map_err(|error| {
        tracing::warn!(%to, %error, "cannot open a socket in a pod's namespace");
        Reason::PROXY_FAILED
    })?;
    if served.worker.shared.tables.load().is_here(to.ip()) {
        // If it failed, bytes would go as the machine has it.
        let _ = send_unpaced(&socket);
    }
    match tokio::time::timeout(time, socket.connect(to)).await {
        Err(_) => Err(Reason::CONNECT_TIMEOUT),
        Ok(Ok(stream)) => Ok(stream),
        // What the connect hook says is the policy's; the rest is the network's.
        Ok(Err(error)) if error.kind() == io::ErrorKind::PermissionDenied => {
            Err(served.worker.shared.tables.load().why_refused(&served.pod.name, to))
        }
        Ok(Err(_)) => Err(Reason::CONNECT_FAILED),
    }
}

/// Whether it was the L4 policy of the server that refused a connection.
fn is_of_policy(reason: Reason) -> bool {
    [Reason::POLICY_DENIED, Reason::NOT_ALLOWED, Reason::IDENTITY_UNPROVEN].contains(&reason)
}

/// The first and one more, as for requests without a policy.
const TRIES: usize = 2;
