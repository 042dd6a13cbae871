//! A connection to a pod whose policies read requests: each of them is judged, and what is none is judged as bytes.

use std::{net::SocketAddr, pin::pin, rc::Rc, sync::Arc};

use bytes::{Bytes, BytesMut};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::TcpStream,
    sync::watch,
    time::{Instant, sleep},
};
use weft_model::Timeouts;
use weft_transport::{Progress, Relayed, relay, relay_inside};

use super::{Seen, app::to_app, forbidden};
use crate::{
    Reason,
    line::{Carried as _, Line, Rewound, Sealed},
    observe::Protocol,
    outbound::{Early, connect_plain, ended},
    route::detect::{self, Spoken},
    serve::{self, Client, Incoming},
    stream::{Stream, reset_on_close},
    tables::{Caller, Port},
    worker::Served,
};

/// A connection that was accepted, as its bytes are read.
pub(super) trait Arrived: AsyncRead + AsyncWrite + Unpin {
    fn socket(&self) -> &TcpStream;

    /// As hyper reads it; `first` was read already.
    fn into_stream(self, served: &Served, first: Bytes, spoken: Protocol) -> Result<Stream, Reason>;

    /// Carries bytes until both ends have ended.
    async fn relay(self, app: TcpStream, progress: &Progress) -> Relayed;
}

/// Serves a connection of which `first` was read. `app` is one to the app, where bytes may come in.
pub(super) async fn serve(
    served: &Rc<Served>,
    mut line: impl Arrived,
    first: Bytes,
    app: Option<TcpStream>,
    local: SocketAddr,
    seen: &mut Seen,
    mut changes: watch::Receiver<u64>,
) -> Result<(), Reason> {
    let (caller, shared) = (seen.caller(), &served.worker.shared);
    let opened = shared.tables.load().may_open(local, &caller);
    let (mut first, mut app) = (BytesMut::from(first), app);
    let spoken = match opened {
        Ok(()) => Box::pin(spoken(served, &mut line, &mut first, &mut app, local, &caller)).await,
        Err(why) => Err(why),
    };
    let first = first.freeze();
    let version = match spoken {
        Ok(Spoken::Http1) => Protocol::Http1,
        Ok(Spoken::Http2) => Protocol::Http2,
        // It has said nothing and gone.
        Ok(_) if first.is_empty() && app.is_none() => return Ok(()),
        Ok(_) => {
            let bytes = Box::pin(carry(served, line, &first, app, local, &caller, seen, &mut changes));
            return bytes.await;
        }
        Err(why) => {
            reset_on_close(line.socket());
            return Err(why);
        }
    };
    seen.spoken = version;
    let port = Arc::new(Port::of_pod(&served.pod.name, local, served.worker.now()));
    let early = app.and_then(|app| early(&port, local, app));
    let stream = line.into_stream(served, first, version)?;
    let incoming = Incoming { caller: caller.clone(), port, told: seen.told, security: seen.security };
    let client = Client::of_incoming(served, stream, (seen.client, local), version, early, incoming);
    tokio::select! {
        ended = serve::serve(Rc::clone(&client)) => ended,
        why = forbidden(&mut changes, || shared.tables.load().may_open(local, &caller)) => {
            client.reset_on_close(why);
            Err(why)
        }
    }
}

/// Bytes that are no request.
async fn carry(
    served: &Rc<Served>,
    mut line: impl Arrived,
    first: &Bytes,
    app: Option<TcpStream>,
    local: SocketAddr,
    caller: &Caller,
    seen: &Seen,
    changes: &mut watch::Receiver<u64>,
) -> Result<(), Reason> {
    let may = || served.worker.shared.tables.load().may_come_in(local, caller);
    let app = async {
        may()?;
        let mut app = match app {
            Some(app) => app,
            None => to_app(served, local, seen.client).await?,
        };
        app.write_all(first).await.map_err(|_| Reason::UPSTREAM_RESET)?;
        Ok(app)
    };
    let app = match app.await {
        Ok(app) => app,
        Err(why) => {
            reset_on_close(line.socket());
            let _ = line.flush().await;
            return Err(why);
        }
    };
    tokio::select! {
        relayed = line.relay(app, &seen.progress) => ended(&relayed),
        why = forbidden(changes, may) => Err(why),
    }
}

/// What is spoken. A server that speaks first is no server of HTTP; it is connected to where bytes may come in.
async fn spoken(
    served: &Rc<Served>,
    line: &mut impl Arrived,
    first: &mut BytesMut,
    app: &mut Option<TcpStream>,
    local: SocketAddr,
    caller: &Caller,
) -> Result<Spoken, Reason> {
    let shared = &served.worker.shared;
    let bytes_may = shared.tables.load().may_come_in(local, caller).is_ok();
    let rest = if bytes_may { shared.limits.detect_time } else { shared.limits.head_time };
    // Requests of several clients share a connection.
    let mut connecting = pin!(connect_plain(served, local, Timeouts::CONNECT));
    let begins = if first.is_empty() { shared.limits.idle } else { rest };
    let mut patience = pin!(sleep(begins));
    loop {
        match detect::spoken(first) {
            Spoken::NeedMore => {}
            spoken => return Ok(spoken),
        }
        tokio::select! {
            biased;
            read = line.read_buf(first) => {
                let was_silent = first.len() == *read.as_ref().unwrap_or(&0);
                if read.map_err(|_| Reason::CLIENT_GONE)? == 0 {
                    return Ok(Spoken::Other);
                }
                if was_silent {
                    patience.as_mut().reset(Instant::now() + rest);
                }
            }
            made = &mut connecting, if app.is_none() && bytes_may => *app = Some(made?),
            () = speaks(app.as_ref()) => return Ok(Spoken::Other),
            () = &mut patience => {
                if first.is_empty() {
                    return Err(Reason::IDLE);
                }
                return if bytes_may { Ok(Spoken::Other) } else { Err(Reason::SLOW_HEAD) };
            }
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

/// A connection to the app for the first request.
fn early(port: &Port, local: SocketAddr, app: TcpStream) -> Option<Early> {
    let upstream = port.plain(&mut crate::draw::Dice::seeded(0))?;
    let endpoint = upstream.endpoints(local).endpoints().all().first().cloned()?;
    Some(Early { stream: Line::Plain(app), endpoint, slot: None })
}

impl Arrived for TcpStream {
    fn socket(&self) -> &TcpStream {
        self
    }

    fn into_stream(self, served: &Served, first: Bytes, spoken: Protocol) -> Result<Stream, Reason> {
        Ok(stream(served, self, first, spoken))
    }

    async fn relay(self, app: TcpStream, progress: &Progress) -> Relayed {
        relay(app, self, Timeouts::IDLE, progress).await
    }
}

impl Arrived for Sealed<Rewound> {
    fn socket(&self) -> &TcpStream {
        self.0.carrier().socket()
    }

    fn into_stream(self, served: &Served, first: Bytes, spoken: Protocol) -> Result<Stream, Reason> {
        // Watched by a descriptor of its own: the socket itself belongs to TLS.
        let watched = rustix::io::dup(Arrived::socket(&self)).map_err(|_| Reason::PROXY_FAILED)?;
        let watched = TcpStream::from_std(watched.into()).map_err(|_| Reason::PROXY_FAILED)?;
        Ok(stream(served, watched, first, spoken).inside(Box::new(self)))
    }

    async fn relay(self, app: TcpStream, progress: &Progress) -> Relayed {
        relay_inside(app, self, Timeouts::IDLE, progress).await
    }
}

fn stream(served: &Served, socket: TcpStream, first: Bytes, spoken: Protocol) -> Stream {
    let (account, shared) = (Arc::clone(&served.pod.account), &served.worker.shared);
    Stream::new(socket, first, spoken, shared.limits.h2_frames, account, shared.clock)
}
