//! What a connection to a pod is, told by whoever speaks first.
//!
//! A client of the mesh always speaks first, so a server that does speaks to no such client. For it not to have to wait
//! for a client that waits for it, the app is connected to at once, where what is no mutual TLS may come in. Of an address
//! that is known to be a client of the mesh its word is waited for: it may be late, and the app's would go out in clear. Of one that
//! nobody knows it is waited for a moment: a pod that has just been started speaks before other nodes have heard of it.

use std::{cell::Cell, io, net::SocketAddr, pin::pin};

use bytes::{Bytes, BytesMut};
use tokio::{
    net::TcpStream,
    sync::watch,
    time::{Duration, Instant, sleep, sleep_until},
};
use weft_identity::ALPN;
use weft_model::Passage;

use super::{app::to_app, forbidden, mode_lets_in, plain_may, reads};
use crate::{
    Reason,
    route::tls::{Asked, asks_for},
    tables::Caller,
    worker::Served,
};

/// What it is. `first` was read already.
pub(super) enum Next {
    /// The mesh's own TLS. `app` is a connection that nobody has used.
    Sealed { first: Bytes, app: Option<TcpStream> },
    /// Anything else. `app` is there where bytes that are no request may come in.
    Plain { first: Bytes, app: Option<TcpStream> },
}

/// Finds out. What may not come in as it is has to be mutual TLS, and soon; the same holds from the moment at which
/// `changes` forbid it.
pub(super) async fn next(
    served: &Served,
    socket: &TcpStream,
    local: SocketAddr,
    client: SocketAddr,
    caller: &Caller,
    mut changes: watch::Receiver<u64>,
) -> Result<Next, Reason> {
    let limits = &served.worker.shared.limits;
    let mut plain = plain_may(served, local, caller);
    // Then it may turn out to be a request that may come in.
    let may_ask = reads(served, local) && mode_lets_in(served, local, caller).is_ok();
    // What is attested is no other node's, whoever has that address.
    let (member, passing, unknown) = {
        let tables = served.worker.shared.tables.load();
        (
            tables.elsewhere(client.ip()).filter(|_| caller.proven.is_none()),
            tables.is_passing(&served.pod.name),
            caller.proven.is_none()
                && tables.may_be_a_new_client(client.ip(), &served.pod.name, local.port()),
        )
    };
    let app_may_speak = Instant::now() + if unknown { NEWCOMER } else { Duration::ZERO };
    let is_member = member.is_some();
    let waits = plain.is_err() || is_member;
    let begun = Cell::new(false);
    let connecting = async {
        if waits {
            std::future::pending::<()>().await;
        }
        begun.set(true);
        to_app(served, local, client).await
    };
    let (mut connecting, mut app) = (pin!(connecting), None);
    let patience = match member {
        _ if plain.is_err() => limits.head_time,
        // Whoever is on his way may speak either: a client of the mesh does so at once.
        Some(passage) if passing || passage != Passage::Done => ON_THEIR_WAY.min(limits.detect_time),
        _ => limits.detect_time,
    };
    let mut patience = pin!(sleep(patience));
    let mut first = BytesMut::new();
    loop {
        let is_other = match asks_for(&first, ALPN) {
            Asked::Yes => {
                // What has begun is not broken off: the app would see a client that comes and goes.
                if app.is_none() && begun.get() {
                    app = Some(connecting.await?);
                }
                return Ok(Next::Sealed { first: first.freeze(), app });
            }
            Asked::No => true,
            Asked::NeedMore => tokio::select! {
                biased;
                // An end before there is enough: whoever carries the bytes finds it again.
                read = read(socket, &mut first) => read? == 0,
                made = &mut connecting, if app.is_none() => {
                    app = Some(made?);
                    false
                }
                () = speaks_from(app_may_speak, app.as_ref()) => true,
                // Of who is silent nothing is asked, unless he has to be somebody.
                () = &mut patience, if plain.is_err() || is_member || !first.is_empty() => true,
                why = forbidden(&mut changes, || plain_may(served, local, caller)), if plain.is_ok() => {
                    plain = Err(why);
                    // A client of the mesh has sent its first bytes already.
                    patience.as_mut().reset(Instant::now() + ON_THEIR_WAY);
                    false
                }
            },
        };
        if is_other {
            let app = match app {
                Some(app) => Some(app),
                None if begun.get() => Some(connecting.await?),
                None if plain.is_ok() => Some(to_app(served, local, client).await?),
                None if may_ask => None,
                None => return Err(plain.err().unwrap_or(Reason::NOT_ALLOWED)),
            };
            return Ok(Next::Plain { first: first.freeze(), app });
        }
    }
}

async fn read(socket: &TcpStream, first: &mut BytesMut) -> Result<usize, Reason> {
    loop {
        socket.readable().await.map_err(|_| Reason::CLIENT_GONE)?;
        first.reserve(READ);
        match socket.try_read_buf(first) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            read => return read.map_err(|_| Reason::CLIENT_GONE),
        }
    }
}

async fn speaks_from(moment: Instant, app: Option<&TcpStream>) {
    sleep_until(moment).await;
    speaks(app).await;
}

/// Waits until the app has sent something, or has closed.
pub(super) async fn speaks(app: Option<&TcpStream>) {
    match app {
        // An error is read again by whoever carries the bytes.
        Some(app) => drop(app.readable().await),
        None => std::future::pending().await,
    }
}

/// How long the first bytes of mutual TLS may be on their way.
const ON_THEIR_WAY: Duration = Duration::from_millis(500);
/// How long an app's first word is kept for a client that may be new to the mesh. Its proxy sends the first bytes of mutual TLS once
/// it is connected: a round trip, and what a busy node takes.
const NEWCOMER: Duration = Duration::from_millis(200);
/// Room for one read: a ClientHello with post-quantum key shares is smaller.
const READ: usize = 4096;
