//! A connection that a pod makes, top to bottom: who was dialled, what is spoken, and where it goes.
//!
//! ```text
//! accept ──► origin ──► port ──► appProtocol ──┬─ tcp ───────────────────────► relay
//!                                              ├─ tls ──► SNI ──► TLSRoute ──► relay
//!                                              ├─ http ──────────────────────► serve ──► exchange for each request
//!                                              └─ nobody says: whoever speaks first does
//! ```
//! Every way out has a [`Reason`] or is an end that client or server asked for.

mod connect;
mod decide;
mod sealed;

use std::{net::SocketAddr, rc::Rc, sync::Arc, time::SystemTime};

use bytes::Bytes;
use tokio::net::TcpStream;
use weft_model::{ObjectName, Timeouts};
use weft_transport::{End, Origin, Progress, Relayed};

use crate::{
    Reason,
    clock::Moment,
    limits::Observed,
    line::{Line, breaks, is_broken, reset_on_close},
    live::{Facts, Relaying},
    observe::{ConnectionRecord, Protocol, Record, Security},
    serve::{self, Client},
    tables::Port,
    worker::Served,
};
pub(crate) use connect::{Connected, Early, connect, connect_plain, connect_sealed};
use decide::Next;

/// What is known of a connection so far, for its record.
struct Seen {
    dialled: Option<SocketAddr>,
    port: Option<Arc<Port>>,
    spoken: Protocol,
    route: Option<ObjectName>,
    endpoint: Option<SocketAddr>,
    security: Security,
    /// Its number, once it is told while it goes on.
    connection: u64,
    progress: Rc<Progress>,
}

/// Tells of a connection when it is dropped. Before its end that is a cut.
struct Recorded {
    served: Rc<Served>,
    client: SocketAddr,
    began: Moment,
    seen: Seen,
    reason: Option<Reason>,
}

impl Recorded {
    fn begin(served: &Rc<Served>, client: SocketAddr) -> Self {
        let seen = Seen {
            dialled: None,
            port: None,
            spoken: Protocol::Tcp,
            route: None,
            endpoint: None,
            security: Security::None,
            connection: 0,
            progress: Rc::default(),
        };
        let (served, began) = (Rc::clone(served), served.worker.now());
        Self { served, client, began, seen, reason: Some(Reason::CUT) }
    }
}

impl Drop for Recorded {
    fn drop(&mut self) {
        let Self { served, client, began, seen, reason } = self;
        if reason.is_some() {
            served.pod.account.refused();
        }
        let records = &served.worker.records;
        // Whoever was gone before anybody knew whom he had dialled was refused nothing, and there is nothing to tell.
        if !records.wanted() || reason.is_none() && seen.dialled.is_none() {
            return;
        }
        records.put(Record::Connection(Box::new(ConnectionRecord {
            connection: seen.connection,
            ended: SystemTime::now(),
            pod: served.pod.name.clone(),
            client: *client,
            dialled: seen.dialled,
            service: seen.port.as_ref().map(|port| (port.service.clone(), port.number)),
            route: seen.route.take(),
            spoken: seen.spoken,
            endpoint: seen.endpoint,
            security: seen.security,
            inbound: None,
            lasted: served.worker.now().since(*began),
            received: seen.progress.left_to_right(),
            sent: seen.progress.right_to_left(),
            reason: *reason,
        })));
    }
}

impl Seen {
    /// Has it told from now on, for as long as what is returned is held.
    fn goes_on(&mut self, served: &Served, client: SocketAddr, endpoint: SocketAddr) -> Rc<Relaying> {
        let facts = Facts {
            client,
            dialled: self.dialled,
            service: self.port.as_ref().map(|port| (port.service.clone(), port.number)),
            endpoint,
            peer: None,
            security: self.security,
            inbound: None,
        };
        let (connection, relaying) = served.relays(&self.progress, facts);
        self.connection = connection;
        relaying
    }
}

/// Carries a pod's connection from accept to close.
pub(crate) async fn serve(served: Rc<Served>, socket: TcpStream, peer: SocketAddr) {
    // A dual-stack listener calls an IPv4 client ::ffff:a.b.c.d.
    let client = SocketAddr::new(peer.ip().to_canonical(), peer.port());
    let mut recorded = Recorded::begin(&served, client);
    recorded.reason = carry(&served, socket, client, &mut recorded.seen).await.err();
}

async fn carry(
    served: &Rc<Served>,
    socket: TcpStream,
    client: SocketAddr,
    seen: &mut Seen,
) -> Result<(), Reason> {
    let limits = &served.worker.shared.limits;
    let refuse = |socket: TcpStream, why| {
        reset_on_close(&socket);
        drop(socket);
        Err(why)
    };
    let Some(_open) = served.pod.account.connection(limits.pod_connections) else {
        return refuse(socket, Reason::POD_CONNECTIONS);
    };
    if is_broken(&socket) {
        return Ok(());
    }
    match arrive(served, client, seen) {
        Ok(()) => {}
        // The origin of a connection goes just before its client's reset comes.
        Err(Reason::NO_ORIGIN) if Box::pin(breaks(&socket)).await => return Ok(()),
        Err(why) => return refuse(socket, why),
    }
    if let Some(chosen) = seen.endpoint {
        let _ = socket.set_nodelay(true);
        let told = seen.goes_on(served, client, chosen);
        return Box::pin(told.hold(sealed::carry(served, socket, client, chosen, &seen.progress))).await;
    }
    let (Some(dialled), Some(port)) = (seen.dialled, seen.port.clone()) else {
        return refuse(socket, Reason::NO_SERVICE);
    };
    // The client writes what it has and waits for the answer: small writes must not wait for an ACK.
    let _ = socket.set_nodelay(true);
    // What is over soon, or carries bytes only, is boxed: a connection of HTTP would keep the room for it.
    let next = match Box::pin(decide::next(served, &socket, &port, dialled, client)).await {
        Ok(next) => next,
        // Nothing of it is cut: it has said nothing.
        Err(Reason::IDLE) => return Err(Reason::IDLE),
        Err(why) => return refuse(socket, why),
    };
    match next {
        Next::Silence => Ok(()),
        Next::Relay { first, to, tls, route } => {
            seen.route = route;
            seen.spoken = if tls { Protocol::Tls } else { Protocol::Tcp };
            let endpoint = to.serving.endpoint();
            seen.endpoint = Some(endpoint.address());
            seen.security = to.stream.security();
            // All that can be told of a server whose bytes nobody understands: it is there.
            to.upstream.observe(dialled, endpoint, Observed::Success, served.worker.now());
            let told = seen.goes_on(served, client, endpoint.address());
            Box::pin(told.hold(carry_bytes(served, socket, &first, to, &port, &seen.progress))).await
        }
        Next::Http { first, version, early } => {
            seen.spoken = version;
            let client = Client::new(served, (Line::Plain(socket), first), (client, dialled), version, early);
            serve::serve(client).await
        }
    }
}

/// Finds out who was dialled, and the endpoint where the kernel has chosen it.
fn arrive(served: &Served, client: SocketAddr, seen: &mut Seen) -> Result<(), Reason> {
    let shared = &served.worker.shared;
    let origin = shared.origins.load().take(served.pod.cookie, client).map_err(|error| {
        tracing::warn!(pod = %served.pod.name, %error, "cannot read who was dialled");
        Reason::PROXY_FAILED
    })?;
    let Origin { dialled, chosen, .. } = origin.ok_or(Reason::NO_ORIGIN)?;
    let canonical = |address: SocketAddr| SocketAddr::new(address.ip().to_canonical(), address.port());
    let dialled = canonical(dialled);
    seen.dialled = Some(dialled);
    if let Some(chosen) = chosen {
        (seen.endpoint, seen.security) = (Some(canonical(chosen)), Security::MutualTls);
        return Ok(());
    }
    seen.port = shared.tables.load().port(dialled).cloned();
    seen.port.is_some().then_some(()).ok_or(Reason::NO_SERVICE)
}

async fn carry_bytes(
    served: &Rc<Served>,
    socket: TcpStream,
    first: &Bytes,
    to: Connected,
    port: &Port,
    progress: &Progress,
) -> Result<(), Reason> {
    use tokio::io::AsyncWriteExt as _;
    let account = &served.pod.account;
    let mut upstream = to.stream;
    if !first.is_empty() {
        account.received(first.len());
        if upstream.write_all(first).await.is_err() || upstream.flush().await.is_err() {
            reset_on_close(&socket);
            return Err(Reason::UPSTREAM_RESET);
        }
    }
    let idle = limit(port.traffic.timeouts.idle, Timeouts::IDLE);
    let relayed = upstream.relay(socket, idle, progress).await;
    account.received(usize::try_from(progress.left_to_right()).unwrap_or(usize::MAX));
    account.sent(usize::try_from(progress.right_to_left()).unwrap_or(usize::MAX));
    drop((to.serving, to.slot));
    ended(&relayed)
}

/// Why a relay ended, where neither side ended it.
pub(crate) fn ended(relayed: &Relayed) -> Result<(), Reason> {
    match (&relayed.left, &relayed.right) {
        (End::Idle, _) | (_, End::Idle) => Err(Reason::IDLE),
        (End::Failed(_), _) | (_, End::Failed(_)) => Err(Reason::CUT),
        _ => Ok(()),
    }
}

/// A timeout of the configuration: zero is none, which is a century.
pub(crate) fn limit(said: Option<std::time::Duration>, default: std::time::Duration) -> std::time::Duration {
    match said.unwrap_or(default) {
        std::time::Duration::ZERO => std::time::Duration::from_hours(24 * 365 * 100),
        time => time,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn size_of_future<F>(_: impl Fn(Rc<Served>, TcpStream, SocketAddr) -> F) -> usize {
        size_of::<F>()
    }

    #[test]
    fn a_connection_is_not_larger_than_its_budget() {
        let size = size_of_future(serve);
        assert!(size <= BUDGET, "{size} bytes");
    }

    /// Bytes of the future that is a connection, for as long as it lives.
    const BUDGET: usize = 1936;
}
