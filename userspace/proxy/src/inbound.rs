//! A connection that is made to a pod from elsewhere, top to bottom: what it is, who makes it, and whether it may.
//!
//! ```text
//! sk_lookup ──► accept ──► first bytes ──┬─ mutual TLS ──► who is it? ──► each stream ──► decide ──► the app, in clear
//!                                        └─ anything else ──► the mode, decide ──────────────────► the app, as it is
//!                          where policies read requests: HTTP, in either of them ──► exchange for each request
//! ```
//! The accepted socket has the address that was dialled: the pod's own, and the app's port. The kernel has sent here
//! whoever may speak mutual TLS, and refused what an address is enough to refuse; all the rest is decided here.

mod app;
mod next;
mod ports;
mod requests;
mod streams;

use std::{
    net::SocketAddr,
    rc::Rc,
    sync::Arc,
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use tokio::{io::AsyncWriteExt as _, net::TcpStream, sync::watch};
use weft_identity::{Endpoint, HANDSHAKE_TIME, TlsStream};
use weft_model::{ServiceAccount, Timeouts};
use weft_policy::Requests;
use weft_transport::{Progress, ReadAhead, relay};

use crate::{
    Reason,
    clock::Moment,
    line::{Line, is_broken, reset_on_close},
    live::{Facts, Relaying},
    observe::{ConnectionRecord, Inbound, Protocol, Record, Security},
    outbound::ended,
    tables::Caller,
    worker::Served,
};
pub(crate) use app::{Deaf, to_app};
use next::Next;
pub(crate) use ports::Ports;
use streams::Sealed;

/// What is known of a connection so far.
struct Seen {
    local: Option<SocketAddr>,
    client: SocketAddr,
    /// Who has proven to be the client.
    account: Option<ServiceAccount>,
    /// SHA-256 of the certificate that proves it, where there is one.
    certificate: Option<Arc<str>>,
    /// The client's own proxy tells of it, too.
    told: bool,
    security: Security,
    spoken: Protocol,
    /// Its number, once it is told while it goes on.
    connection: u64,
    progress: Rc<Progress>,
    /// Its streams tell of themselves, so it does not.
    has_streams: bool,
}

/// Tells of a connection, or of a stream, when it is dropped. Before its end that is a cut.
struct Recorded {
    served: Rc<Served>,
    began: Moment,
    seen: Seen,
    reason: Option<Reason>,
}

impl Recorded {
    fn begin(served: &Rc<Served>, seen: Seen) -> Self {
        let (served, began) = (Rc::clone(served), served.worker.now());
        Self { served, began, seen, reason: Some(Reason::CUT) }
    }
}

impl Drop for Recorded {
    fn drop(&mut self) {
        let Self { served, began, seen, reason } = self;
        if seen.has_streams {
            return;
        }
        if reason.is_some() {
            served.pod.account.refused();
        }
        let records = &served.worker.records;
        // Of one that was gone before it was looked at there is nothing to tell.
        if !records.wanted() || reason.is_none() && seen.local.is_none() {
            return;
        }
        records.put(Record::Connection(Box::new(ConnectionRecord {
            connection: seen.connection,
            ended: SystemTime::now(),
            pod: served.pod.name.clone(),
            client: seen.client,
            dialled: seen.local,
            service: None,
            route: None,
            spoken: seen.spoken,
            endpoint: seen.local,
            security: seen.security,
            inbound: Some(Inbound { account: seen.account.take(), told: seen.told }),
            lasted: served.worker.now().since(*began),
            received: seen.progress.right_to_left(),
            sent: seen.progress.left_to_right(),
            reason: *reason,
        })));
    }
}

impl Seen {
    fn new(client: SocketAddr) -> Self {
        Self {
            local: None,
            client,
            account: None,
            certificate: None,
            told: false,
            security: Security::None,
            spoken: Protocol::Tcp,
            connection: 0,
            progress: Rc::default(),
            has_streams: false,
        }
    }

    /// Has it told from now on, for as long as what is returned is held.
    /// The app's `peer` is said of a stream, which has no connection of its own between the nodes.
    fn goes_on(&mut self, served: &Served, local: SocketAddr, peer: Option<SocketAddr>) -> Rc<Relaying> {
        let facts = Facts {
            client: self.client,
            dialled: Some(local),
            service: None,
            endpoint: local,
            peer,
            security: self.security,
            inbound: Some(weft_telemetry::records::Inbound {
                account: self.account.clone(),
                told: self.told,
            }),
        };
        let (connection, relaying) = served.relays(&self.progress, facts);
        self.connection = connection;
        relaying
    }
}

/// Carries a connection to the pod from accept to close.
pub(crate) async fn serve(served: Rc<Served>, socket: TcpStream, peer: SocketAddr) {
    let client = SocketAddr::new(peer.ip().to_canonical(), peer.port());
    let mut recorded = Recorded::begin(&served, Seen::new(client));
    recorded.reason = Box::pin(carry(&served, socket, &mut recorded.seen)).await.err();
}

async fn carry(served: &Rc<Served>, socket: TcpStream, seen: &mut Seen) -> Result<(), Reason> {
    let shared = &served.worker.shared;
    let refuse = |socket: TcpStream, why| {
        reset_on_close(&socket);
        drop(socket);
        Err(why)
    };
    let Some(_open) = served.pod.account.connection(shared.limits.pod_connections) else {
        return refuse(socket, Reason::POD_CONNECTIONS);
    };
    if is_broken(&socket) {
        return Ok(());
    }
    let Ok(local) = socket.local_addr() else { return refuse(socket, Reason::PROXY_FAILED) };
    let local = SocketAddr::new(local.ip().to_canonical(), local.port());
    seen.local = Some(local);
    // Both sides write what they have and wait for the answer: small writes must not wait for an ACK.
    let _ = socket.set_nodelay(true);
    // Before anything is decided: a change that is not seen by the decision is seen by the watch.
    let changes = shared.changes.subscribe();
    if let Err(why) = attested(served, local, seen).await {
        return refuse(socket, why);
    }
    match next::next(served, &socket, local, seen.client, &seen.caller(), changes.clone()).await {
        Ok(Next::Sealed { first, app }) => {
            let (tls, endpoint) = sealed(served, ReadAhead::new(socket, &first), seen).await?;
            let client = seen.client;
            seen.has_streams = true;
            streams::carry(served, Sealed { tls, endpoint, local, client, app }).await;
            Ok(())
        }
        Ok(Next::Plain { first, app: Some(app) }) if !reads(served, local) => {
            if let Err(why) = plain_may(served, local, &seen.caller()) {
                return refuse(socket, why);
            }
            plain(served, socket, &first, app, local, seen, changes).await
        }
        Ok(Next::Plain { first, app }) => {
            requests::serve(served, Line::Plain(socket), first, app, local, seen, changes).await
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
    let caller = seen.caller();
    let _told = seen.goes_on(served, local, None);
    let relayed = relay(app, socket, Timeouts::IDLE, &seen.progress);
    tokio::select! {
        relayed = relayed => ended(&relayed),
        why = forbidden(&mut changes, || plain_may(served, local, &caller)) => Err(why),
    }
}

/// Whether what is no mutual TLS may come in now.
fn plain_may(served: &Served, local: SocketAddr, caller: &Caller) -> Result<(), Reason> {
    mode_lets_in(served, local, caller)?;
    served.worker.shared.tables.load().may_come_in(local, caller)
}

/// Whether the mode takes what is no mutual TLS: of who is attested always.
fn mode_lets_in(served: &Served, local: SocketAddr, caller: &Caller) -> Result<(), Reason> {
    let is_strict = served.worker.shared.tables.load().is_strict(&served.pod.name, local.port());
    if is_strict && caller.proven.is_none() { Err(Reason::PLAINTEXT) } else { Ok(()) }
}

/// Whether policies read the requests that come to a port of the pod.
fn reads(served: &Served, local: SocketAddr) -> bool {
    served.worker.shared.tables.load().requests(local) != Requests::Unread
}

/// Learns whom the kernel attests, which may have heard of that pod a moment before this process.
async fn attested(served: &Served, local: SocketAddr, seen: &mut Seen) -> Result<(), Reason> {
    let shared = &served.worker.shared;
    let attested = shared.origins.load().attested(served.pod.cookie, seen.client, local.port());
    let attested = attested.map_err(|error| {
        tracing::warn!(pod = %served.pod.name, %error, "cannot read who is attested");
        Reason::PROXY_FAILED
    })?;
    let Some(attested) = attested else { return Ok(()) };
    let mut changes = shared.changes.subscribe();
    let known = async {
        loop {
            if let Some(account) = shared.tables.load().attested(&attested, seen.client.ip()).cloned() {
                return Some(account);
            }
            changes.changed().await.ok()?;
        }
    };
    seen.account = tokio::time::timeout(NEWS, known).await.ok().flatten();
    seen.told = attested.by_proxy();
    Ok(())
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

impl Seen {
    fn caller(&self) -> Caller {
        Caller { ip: self.client.ip(), proven: self.account.clone() }
    }
}

/// How long the news of a pod may take from the kernel to here.
const NEWS: Duration = Duration::from_secs(5);
