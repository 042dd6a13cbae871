//! A connection that is made to a pod from elsewhere, top to bottom: what it is, who makes it, and whether it may.
//!
//! ```text
//! sk_lookup ──► accept ──► first bytes ──┬─ mutual TLS ──► who is it? ──► each stream ──► decide ──► the app, in clear
//!                                        └─ anything else ──► the mode, decide ──────────────────► the app, as it is
//! ```
//! The accepted socket has the address that was dialled: the pod's own, and the app's port. The kernel has sent here
//! whoever may speak mutual TLS, and refused what an address is enough to refuse; all the rest is decided here.

mod next;
mod streams;

use std::{net::SocketAddr, rc::Rc, sync::Arc, time::SystemTime};

use bytes::Bytes;
use tokio::{io::AsyncWriteExt as _, net::TcpStream, sync::watch};
use weft_identity::{Endpoint, HANDSHAKE_TIME, TlsStream};
use weft_model::{ServiceAccount, Timeouts};
use weft_transport::{Progress, ReadAhead, relay};

use crate::{
    Reason,
    clock::Moment,
    observe::{ConnectionRecord, Inbound, Protocol, Record, Security},
    outbound::ended,
    stream::reset_on_close,
    worker::Served,
};
use next::Next;
use streams::Sealed;

/// What is known of a connection so far.
struct Seen {
    local: Option<SocketAddr>,
    client: SocketAddr,
    /// Who has proven to be the client.
    account: Option<ServiceAccount>,
    progress: Progress,
}

/// Carries a connection to the pod from accept to close.
pub(crate) async fn serve(served: Rc<Served>, socket: TcpStream, peer: SocketAddr) {
    let client = SocketAddr::new(peer.ip().to_canonical(), peer.port());
    let began = served.worker.now();
    let mut seen = Seen::new(client);
    match Box::pin(carry(&served, socket, &mut seen)).await {
        // Its streams have told of themselves.
        Ok(Carried::Streams) => {}
        Ok(Carried::Plain) => record(&served, began, seen, Ok(())),
        Err(why) => record(&served, began, seen, Err(why)),
    }
}

/// How a connection went to its end.
enum Carried {
    Plain,
    Streams,
}

impl Seen {
    fn new(client: SocketAddr) -> Self {
        Self { local: None, client, account: None, progress: Progress::default() }
    }
}

/// Tells of a connection, or of a stream, that has ended.
fn record(served: &Served, began: Moment, seen: Seen, ended: Result<(), Reason>) {
    if ended.is_err() {
        served.pod.account.refused();
    }
    let records = &served.worker.shared.records;
    if records.wanted() {
        records.put(Record::Connection(Box::new(ConnectionRecord {
            ended: SystemTime::now(),
            pod: served.pod.name.clone(),
            client: seen.client,
            dialled: seen.local,
            service: None,
            route: None,
            spoken: Protocol::Tcp,
            endpoint: seen.local,
            security: if seen.account.is_some() { Security::MutualTls } else { Security::None },
            inbound: Some(Inbound { account: seen.account }),
            lasted: served.worker.now().since(began),
            received: seen.progress.right_to_left(),
            sent: seen.progress.left_to_right(),
            reason: ended.err(),
        })));
    }
}

async fn carry(served: &Rc<Served>, socket: TcpStream, seen: &mut Seen) -> Result<Carried, Reason> {
    let shared = &served.worker.shared;
    let refuse = |socket: TcpStream, why| {
        reset_on_close(&socket);
        drop(socket);
        Err(why)
    };
    let Some(_open) = served.pod.account.connection(shared.limits.pod_connections) else {
        return refuse(socket, Reason::POD_CONNECTIONS);
    };
    let Ok(local) = socket.local_addr() else { return refuse(socket, Reason::PROXY_FAILED) };
    let local = SocketAddr::new(local.ip().to_canonical(), local.port());
    seen.local = Some(local);
    // Both sides write what they have and wait for the answer: small writes must not wait for an ACK.
    let _ = socket.set_nodelay(true);
    // Before anything is decided: a change that is not seen by the decision is seen by the watch.
    let changes = shared.changes.subscribe();
    match next::next(served, &socket, local, seen.client).await {
        Ok(Next::Sealed { first, app }) => {
            let (tls, endpoint) = sealed(served, ReadAhead::new(socket, &first), seen).await?;
            let client = seen.client;
            streams::carry(served, Sealed { tls, endpoint, local, client, app }).await;
            Ok(Carried::Streams)
        }
        Ok(Next::Plain { first, app }) => {
            if let Err(why) = plain_may(served, local, seen.client) {
                return refuse(socket, why);
            }
            plain(served, socket, &first, app, local, seen, changes).await?;
            Ok(Carried::Plain)
        }
        Err(why) => refuse(socket, why),
    }
}

/// Mutual TLS: proves who the client is before the app hears of it.
async fn sealed(
    served: &Served,
    socket: ReadAhead,
    seen: &mut Seen,
) -> Result<(TlsStream<ReadAhead>, Arc<Endpoint>), Reason> {
    let account = served.pod.service_account.as_ref();
    let Some(endpoint) = account.and_then(|account| served.worker.shared.identities.endpoint_of(account))
    else {
        reset_on_close(socket.socket());
        return Err(Reason::NO_CERTIFICATE);
    };
    let client = seen.client;
    let tls = endpoint.accept(socket, HANDSHAKE_TIME).await.map_err(|refused| {
        tracing::info!(pod = %served.pod.name, %client, %refused, "a TLS handshake is refused");
        refused.reason()
    })?;
    served.pod.account.handshake();
    Ok((tls, endpoint))
}

/// Anything else: the app's own protocol, untouched.
async fn plain(
    served: &Rc<Served>,
    socket: TcpStream,
    first: &Bytes,
    mut app: TcpStream,
    local: SocketAddr,
    seen: &mut Seen,
    mut changes: watch::Receiver<u64>,
) -> Result<(), Reason> {
    if app.write_all(first).await.is_err() {
        reset_on_close(&socket);
        return Err(Reason::UPSTREAM_RESET);
    }
    let client = seen.client;
    let relayed = relay(app, socket, Timeouts::IDLE, &seen.progress);
    tokio::select! {
        relayed = relayed => ended(&relayed),
        // Its mode is asked when it comes in: a stricter one is for those that come after.
        why = forbidden(&mut changes, || served.worker.shared.tables.load().may_come_in(local, client.ip(), None)) => Err(why),
    }
}

/// Whether what is no mutual TLS may come in now.
fn plain_may(served: &Served, local: SocketAddr, client: SocketAddr) -> Result<(), Reason> {
    let tables = served.worker.shared.tables.load();
    if tables.is_strict(&served.pod.name, local.port()) {
        return Err(Reason::PLAINTEXT);
    }
    tables.may_come_in(local, client.ip(), None)
}

/// Waits until a change of the configuration forbids what was allowed.
async fn forbidden(changes: &mut watch::Receiver<u64>, may: impl Fn() -> Result<(), Reason>) -> Reason {
    loop {
        if changes.changed().await.is_err() {
            return std::future::pending().await;
        }
        if let Err(why) = may() {
            return why;
        }
    }
}
