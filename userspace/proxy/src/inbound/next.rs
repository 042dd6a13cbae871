//! What a connection to a pod is, told by whoever speaks first.
//!
//! A client of the mesh always speaks first. For a server that does not to have to wait for a client that waits for it,
//! the app is connected to at once, where what is no mutual TLS may come in. Not for a client that is known to be of the
//! mesh: the app may be faster than the client's first byte, and what it says would go out in clear.

use std::{cell::Cell, io, net::SocketAddr, pin::pin, time::Duration};

use bytes::{Bytes, BytesMut};
use tokio::{net::TcpStream, time::sleep};
use weft_identity::ALPN;
use weft_model::Timeouts;

use super::plain_may;
use crate::{
    Reason,
    outbound::connect_plain,
    route::tls::{Asked, asks_for},
    worker::Served,
};

/// What it is. `first` was read already.
pub(super) enum Next {
    /// The mesh's own TLS. `app` is a connection that nobody has used.
    Sealed { first: Bytes, app: Option<TcpStream> },
    /// Anything else.
    Plain { first: Bytes, app: TcpStream },
}

/// Finds out. What may not come in as it is has to be mutual TLS, and soon.
pub(super) async fn next(
    served: &Served,
    socket: &TcpStream,
    local: SocketAddr,
    client: SocketAddr,
) -> Result<Next, Reason> {
    let limits = &served.worker.shared.limits;
    let plain = plain_may(served, local, client);
    let begun = Cell::new(false);
    let is_of_mesh = served.worker.shared.tables.load().is_of_mesh(client.ip());
    let connecting = async {
        if plain.is_err() {
            std::future::pending::<()>().await;
        }
        if is_of_mesh {
            sleep(FIRST_WORD).await;
        }
        begun.set(true);
        to_app(served, local).await
    };
    let (mut connecting, mut app) = (pin!(connecting), None);
    let patience = if plain.is_ok() { limits.detect_time } else { limits.head_time };
    let mut patience = pin!(sleep(patience));
    let mut first = BytesMut::new();
    loop {
        let is_other = match asks_for(&first, ALPN) {
            Asked::Yes => {
                // What has begun is not broken off: the app would see a client that comes and goes.
                if app.is_none() && begun.get() && plain.is_ok() {
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
                () = speaks(app.as_ref()) => true,
                // Of who is silent nothing is asked, unless he has to be somebody.
                () = &mut patience, if plain.is_err() || !first.is_empty() => true,
            },
        };
        if is_other {
            plain?;
            let app = match app {
                Some(app) => app,
                None if begun.get() => connecting.await?,
                None => to_app(served, local).await?,
            };
            return Ok(Next::Plain { first: first.freeze(), app });
        }
    }
}

/// Connects to the app, in the pod's own namespace.
pub(super) async fn to_app(served: &Served, local: SocketAddr) -> Result<TcpStream, Reason> {
    connect_plain(served, local, Timeouts::CONNECT).await
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

/// Waits until the app has sent something, or has closed.
async fn speaks(app: Option<&TcpStream>) {
    match app {
        // An error is read again by whoever carries the bytes.
        Some(app) => drop(app.readable().await),
        None => std::future::pending().await,
    }
}

/// How long a client of the mesh has to say its first word, before it is taken for one whose node has no mutual TLS (yet)
/// and who may wait for the server's.
const FIRST_WORD: Duration = Duration::from_secs(2);
/// Room for one read: a ClientHello with post-quantum key shares is smaller.
const READ: usize = 4096;
