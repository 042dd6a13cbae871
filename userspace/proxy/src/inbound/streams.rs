//! The streams on a connection of mutual TLS: each is a connection to the app, asked about anew.
//!
//! One whose requests are read is carried to a socket of this process first: what serves requests watches, parks and resets
//! a socket.

use std::{
    cell::RefCell,
    io,
    net::{Ipv4Addr, SocketAddr},
    rc::Rc,
    sync::Arc,
};

use bytes::Bytes;
use tokio::{
    net::{TcpListener, TcpSocket, TcpStream},
    sync::watch,
    time::interval,
};
use weft_identity::{Endpoint, Proof, TlsStream};
use weft_model::Timeouts;
use weft_transport::{Progress, ReadAhead, mux, relay_inside, send_unpaced};

use super::{Seen, app::to_app, forbidden, reads, record, requests};
use crate::{Reason, observe::Security, outbound::ended, stream::reset_on_close, worker::Served};

/// A connection whose client has proven who it is.
pub(super) struct Sealed {
    pub tls: TlsStream<ReadAhead>,
    pub endpoint: Arc<Endpoint>,
    pub local: SocketAddr,
    pub client: SocketAddr,
    /// A connection to the app that nobody has used.
    pub app: Option<TcpStream>,
}

/// What all streams have in common.
struct Common {
    endpoint: Arc<Endpoint>,
    proof: RefCell<Proof>,
    local: SocketAddr,
    client: SocketAddr,
}

/// Carries it to its end.
pub(super) async fn carry(served: &Rc<Served>, sealed: Sealed) {
    let Sealed { tls, endpoint, local, client, mut app } = sealed;
    let proof = RefCell::new(tls.proof().clone());
    let common = Rc::new(Common { endpoint, proof, local, client });
    let (incoming, driver) = mux::server(tls);
    let accepting = async {
        let mut quiet = interval(served.worker.shared.limits.pool_time);
        let (mut leaving, mut idle) = (false, 0);
        loop {
            tokio::select! {
                accepted = incoming.accept() => {
                    let Some((stream, port)) = accepted else { return };
                    idle = 0;
                    let client = SocketAddr::new(client.ip(), port);
                    let one = serve(Rc::clone(served), Rc::clone(&common), stream, client, app.take());
                    served.clients.spawn("stream", one);
                }
                () = served.worker.draining.cancelled(), if !leaving => {
                    leaving = true;
                    incoming.leave();
                }
                _ = quiet.tick() => {
                    idle = if incoming.streams() > 0 { 0 } else { idle + 1 };
                    // Its client closes it after one such time; this one does not, or is gone.
                    if idle > 3 {
                        return;
                    }
                }
            }
        }
    };
    tokio::select! {
        carried = driver => if let Err(error) = carried {
            tracing::debug!(pod = %served.pod.name, %client, %error, "a connection of mutual TLS broke");
        },
        () = accepting => {}
    }
}

async fn serve(
    served: Rc<Served>,
    common: Rc<Common>,
    stream: mux::Stream,
    client: SocketAddr,
    app: Option<TcpStream>,
) {
    let began = served.worker.now();
    let limit = served.worker.shared.limits.pod_connections;
    let counted = served.pod.account.connection(limit);
    let mut seen = Seen::new(client);
    seen.local = Some(common.local);
    seen.account = Some(common.proof.borrow().peer().account.clone());
    seen.security = Security::MutualTls;
    let ended = if counted.is_some() {
        one(&served, &common, stream, &mut seen, app).await
    } else {
        drop(stream);
        Err(Reason::POD_CONNECTIONS)
    };
    drop(counted);
    record(&served, began, seen, ended);
}

/// One stream: believed and allowed anew, then to the app.
async fn one(
    served: &Rc<Served>,
    common: &Common,
    stream: mux::Stream,
    seen: &mut Seen,
    app: Option<TcpStream>,
) -> Result<(), Reason> {
    let shared = &served.worker.shared;
    let (local, client) = (common.local, common.client);
    // Before anything is decided: a change that is not seen by the decision is seen by the watch.
    let mut changes = shared.changes.subscribe();
    let believed = common.endpoint.still_believes(&mut common.proof.borrow_mut());
    believed.map_err(|refused| {
        tracing::info!(pod = %served.pod.name, %client, %refused, "a stream of mutual TLS is refused");
        refused.reason()
    })?;
    if reads(served, local) {
        return requested(served, stream, app, local, seen, changes).await;
    }
    let caller = seen.caller();
    let may = || shared.tables.load().may_come_in(local, &caller);
    may()?;
    let app = match app {
        Some(app) => app,
        None => to_app(served, local, seen.client).await?,
    };
    if let Err(why) = may() {
        reset_on_close(&app);
        return Err(why);
    }
    stream.is_open();
    let canonical = |peer: SocketAddr| SocketAddr::new(peer.ip().to_canonical(), peer.port());
    let _told = seen.goes_on(served, local, app.local_addr().ok().map(canonical));
    let relayed = relay_inside(app, stream, Timeouts::IDLE, &seen.progress);
    tokio::select! {
        relayed = relayed => ended(&relayed),
        why = forbidden(&mut changes, may) => Err(why),
    }
}

/// A stream whose requests policies read.
async fn requested(
    served: &Rc<Served>,
    stream: mux::Stream,
    app: Option<TcpStream>,
    local: SocketAddr,
    seen: &mut Seen,
    changes: watch::Receiver<u64>,
) -> Result<(), Reason> {
    let (near, far) = pair().await.map_err(|error| {
        tracing::warn!(pod = %served.pod.name, %error, "cannot make a socket for the requests of a stream");
        Reason::PROXY_FAILED
    })?;
    stream.is_open();
    let progress = Progress::default();
    let carried = relay_inside(far, stream, Timeouts::IDLE, &progress);
    let serving = requests::serve(served, near, Bytes::new(), app, local, seen, changes);
    // What was served last is on its way when that is over.
    let (served, _) = tokio::join!(serving, carried);
    served
}

/// Two sockets of this process, connected to each other.
async fn pair() -> io::Result<(TcpStream, TcpStream)> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let near = TcpSocket::new_v4()?;
    send_unpaced(&listener)?;
    send_unpaced(&near)?;
    let near = near.connect(listener.local_addr()?).await?;
    let own = near.local_addr()?;
    // Anybody of this machine may have been faster.
    loop {
        let (far, peer) = listener.accept().await?;
        if peer == own {
            near.set_nodelay(true)?;
            far.set_nodelay(true)?;
            return Ok((near, far));
        }
    }
}
