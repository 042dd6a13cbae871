//! A connection that is made to a pod from elsewhere, top to bottom: what it is, who makes it, and whether it may.
//!
//! ```text
//! sk_lookup ──► accept ──► first bytes ──┬─ mutual TLS ──► who is it? ──► decide ──► the app, in clear
//!                                        └─ anything else ──► the mode, decide ────► the app, as it is
//! ```
//! The accepted socket has the address that was dialled: the pod's own, and the app's port. The kernel has sent here
//! whoever may speak mutual TLS, and refused what an address is enough to refuse; all the rest is decided here.

mod next;

use std::{net::SocketAddr, rc::Rc, time::SystemTime};

use bytes::Bytes;
use tokio::{io::AsyncWriteExt as _, net::TcpStream, sync::watch};
use weft_identity::HANDSHAKE_TIME;
use weft_model::{ServiceAccount, Timeouts};
use weft_transport::{Inside as _, Progress, relay, relay_inside};

use crate::{
    Reason,
    line::{Rewound, Sealed},
    live::{Facts, Relaying},
    observe::{ConnectionRecord, Inbound, Protocol, Record, Security},
    outbound::ended,
    stream::reset_on_close,
    worker::Served,
};
use next::Next;

/// What is known of a connection so far.
struct Seen {
    local: Option<SocketAddr>,
    client: SocketAddr,
    /// Who has proven to be the client.
    account: Option<ServiceAccount>,
    /// Its number, once it is told while it goes on.
    connection: u64,
    progress: Rc<Progress>,
}

impl Seen {
    /// Has it told from now on, for as long as what is returned is held.
    fn goes_on(&mut self, served: &Served, local: SocketAddr) -> Rc<Relaying> {
        let facts = Facts {
            client: self.client,
            dialled: Some(local),
            service: None,
            endpoint: local,
            security: self.security(),
            inbound: Some(weft_telemetry::records::Inbound { account: self.account.clone() }),
        };
        let (connection, relaying) = served.relays(&self.progress, facts);
        self.connection = connection;
        relaying
    }

    fn security(&self) -> Security {
        if self.account.is_some() { Security::MutualTls } else { Security::None }
    }
}

/// Carries a connection to the pod from accept to close.
pub(crate) async fn serve(served: Rc<Served>, socket: TcpStream, peer: SocketAddr) {
    let client = SocketAddr::new(peer.ip().to_canonical(), peer.port());
    let began = served.worker.now();
    let mut seen = Seen { local: None, client, account: None, connection: 0, progress: Rc::default() };
    let ended = Box::pin(carry(&served, socket, &mut seen)).await;
    if ended.is_err() {
        served.pod.account.refused();
    }
    let records = &served.worker.shared.records;
    if records.wanted() {
        records.put(Record::Connection(Box::new(ConnectionRecord {
            connection: seen.connection,
            ended: SystemTime::now(),
            pod: served.pod.name.clone(),
            client,
            dialled: seen.local,
            service: None,
            route: None,
            spoken: Protocol::Tcp,
            endpoint: seen.local,
            security: seen.security(),
            inbound: Some(Inbound { account: seen.account }),
            lasted: served.worker.now().since(began),
            received: seen.progress.right_to_left(),
            sent: seen.progress.left_to_right(),
            reason: ended.err(),
        })));
    }
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
    let Ok(local) = socket.local_addr() else { return refuse(socket, Reason::PROXY_FAILED) };
    let local = SocketAddr::new(local.ip().to_canonical(), local.port());
    seen.local = Some(local);
    // Both sides write what they have and wait for the answer: small writes must not wait for an ACK.
    let _ = socket.set_nodelay(true);
    // Before anything is decided: a change that is not seen by the decision is seen by the watch.
    let changes = shared.changes.subscribe();
    match next::next(served, &socket, local, seen.client, changes.clone()).await {
        Ok(Next::Sealed { first, app }) => {
            let socket = Rewound::new(first, socket);
            sealed(served, socket, app, local, seen, changes).await
        }
        Ok(Next::Plain { first, app }) => {
            if let Err(why) = plain_may(served, local, seen.client) {
                return refuse(socket, why);
            }
            plain(served, socket, &first, app, local, seen, changes).await
        }
        Err(why) => refuse(socket, why),
    }
}

/// Mutual TLS: proves who the client is before the app hears of it.
async fn sealed(
    served: &Rc<Served>,
    socket: Rewound,
    app: Option<TcpStream>,
    local: SocketAddr,
    seen: &mut Seen,
    mut changes: watch::Receiver<u64>,
) -> Result<(), Reason> {
    let shared = &served.worker.shared;
    let account = served.pod.service_account.as_ref();
    let Some(endpoint) = account.and_then(|account| shared.identities.endpoint_of(account)) else {
        reset_on_close(&socket.socket);
        return Err(Reason::NO_CERTIFICATE);
    };
    let client = seen.client;
    let stream = endpoint.accept(socket, HANDSHAKE_TIME).await.map_err(|refused| {
        tracing::info!(pod = %served.pod.name, %client, %refused, "a TLS handshake is refused");
        refused.reason()
    })?;
    let stream = Sealed(stream);
    let account = stream.0.peer().account.clone();
    seen.account = Some(account.clone());
    let may = || shared.tables.load().may_come_in(local, client.ip(), Some(&account));
    let app = match (may(), app) {
        (Ok(()), Some(app)) => Ok(app),
        (Ok(()), None) => next::to_app(served, local).await,
        (Err(why), _) => Err(why),
    };
    let app = app.inspect_err(|_| reset_on_close(stream.carrier()))?;
    let _told = seen.goes_on(served, local);
    let relayed = relay_inside(app, stream, Timeouts::IDLE, &seen.progress);
    tokio::select! {
        relayed = relayed => ended(&relayed),
        why = forbidden(&mut changes, may) => Err(why),
    }
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
    let _told = seen.goes_on(served, local);
    let relayed = relay(app, socket, Timeouts::IDLE, &seen.progress);
    tokio::select! {
        relayed = relayed => ended(&relayed),
        why = forbidden(&mut changes, || plain_may(served, local, client)) => Err(why),
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
