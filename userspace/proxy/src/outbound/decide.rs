//! What is spoken on a connection, and so what becomes of it.

use std::{
    future::Future,
    io,
    net::SocketAddr,
    pin::{Pin, pin},
    rc::Rc,
    sync::Arc,
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use tokio::{
    net::TcpStream,
    time::{Instant, Sleep, sleep},
};
use weft_model::{AppProtocol, BackendTarget, ObjectName};

use super::{Connected, Early, connect::connect_any, limit};
use crate::{
    Reason,
    draw::Draw as _,
    observe::Protocol,
    route::{
        Routes,
        detect::{self, Spoken},
        tls::{self, ServerName, TlsTable},
    },
    tables::Port,
    worker::Served,
};

/// What becomes of a connection.
pub(super) enum Next {
    /// Its bytes are carried; `first` was read already. `route` is the TLSRoute that it takes.
    Relay { first: Bytes, to: Connected, tls: bool, route: Option<ObjectName> },
    /// Its requests are answered. `early` is a connection that may be used for the first of them.
    Http { first: Bytes, version: Protocol, early: Option<Early> },
    /// It is over before anything was said: nobody refused it anything.
    Silence,
}

/// One connection that is being decided.
struct Arrival<'a> {
    served: &'a Rc<Served>,
    socket: &'a TcpStream,
    port: &'a Arc<Port>,
    dialled: SocketAddr,
    client: SocketAddr,
    first: BytesMut,
}

/// Decides by `appProtocol`, else by the first bytes.
pub(super) async fn next(
    served: &Rc<Served>,
    socket: &TcpStream,
    port: &Arc<Port>,
    dialled: SocketAddr,
    client: SocketAddr,
) -> Result<Next, Reason> {
    let arrival = Arrival { served, socket, port, dialled, client, first: BytesMut::new() };
    match port.protocol {
        AppProtocol::Http | AppProtocol::Http2 => arrival.http().await,
        AppProtocol::Tls => arrival.tls().await,
        AppProtocol::Tcp => arrival.relay(None, false).await,
        AppProtocol::Detect => arrival.undecided().await,
    }
}

impl Arrival<'_> {
    /// HTTP of either version. What is neither is the framing guard's to refuse.
    async fn http(mut self) -> Result<Next, Reason> {
        let mut wait = self.patience(self.served.worker.shared.limits.head_time);
        loop {
            let preface = PREFACE.len().min(self.first.len());
            if !self.first.is_empty() && self.first[..preface] != PREFACE[..preface] {
                return Ok(self.answer(Protocol::Http1, None));
            }
            if preface == PREFACE.len() {
                return Ok(self.answer(Protocol::Http2, None));
            }
            tokio::select! {
                read = self.read() => match read {
                    Ok(read) if wait.heard(read) > 0 => {}
                    Ok(_) if !self.first.is_empty() => return Ok(self.answer(Protocol::Http1, None)),
                    _ => return self.gone(),
                },
                why = wait.over() => return Err(why),
            }
        }
    }

    /// Whoever speaks first decides. A server that does must not wait for a client that does not, so it is connected to
    /// at once.
    async fn undecided(mut self) -> Result<Next, Reason> {
        let (served, dialled, client) = (self.served, self.dialled, self.client);
        let upstream = self.port.plain(&mut *served.worker.dice.borrow_mut()).cloned();
        let connecting = async move {
            match upstream {
                Some(upstream) => connect_any(served, &upstream, dialled, client).await,
                None => Err(Reason::NO_ENDPOINTS),
            }
        };
        let (mut connecting, mut connected) = (pin!(connecting), None);
        let mut wait = self.patience(served.worker.shared.limits.detect_time);
        // What is there already may do without a connection.
        let mut ended = false;
        wait.heard(self.read_now());
        loop {
            match detect::spoken(&self.first) {
                Spoken::NeedMore if !ended => {}
                Spoken::Http1 => return Ok(self.answer(Protocol::Http1, connected)),
                Spoken::Http2 => return Ok(self.answer(Protocol::Http2, connected)),
                Spoken::Tls if matches!(self.routes(), Routes::Tls(_)) => return self.tls().await,
                Spoken::NeedMore | Spoken::Tls | Spoken::Other => break,
            }
            tokio::select! {
                biased;
                // Who is to blame is told to whoever turns out not to speak HTTP.
                early = &mut connecting, if connected.is_none() => {
                    // No server speaks first. Nor need one where requests are led elsewhere.
                    if early.is_err() && matches!(self.routes(), Routes::Plain) {
                        wait.not_long();
                    }
                    connected = Some(early);
                },
                read = self.read() => match read {
                    Ok(read) => ended = wait.heard(read) == 0,
                    Err(_) => return self.gone(),
                },
                () = speaks(connected.as_ref()) => break,
                why = wait.over() => match why {
                    Reason::IDLE => return Err(why),
                    _ => break,
                },
            }
        }
        let to = match connected {
            Some(early) => early,
            None => connecting.await,
        };
        Ok(Next::Relay { first: self.first.freeze(), to: to?, tls: false, route: None })
    }

    /// By the name in the ClientHello, where a TLSRoute holds; else as it is.
    async fn tls(mut self) -> Result<Next, Reason> {
        let port = Arc::clone(self.port);
        let Routes::Tls(table) = port.routes.for_client(&self.served.pod.name.namespace) else {
            return self.relay(None, true).await;
        };
        let mut wait = self.patience(self.served.worker.shared.limits.head_time);
        loop {
            let name = match tls::server_name(&self.first) {
                ServerName::NeedMore => None,
                ServerName::NotTls | ServerName::Broken => return Err(Reason::NO_TLS_ROUTE),
                ServerName::Unnamed => Some(None),
                ServerName::Name(name) => Some(Some(name)),
            };
            if let Some(name) = name {
                return self.relay(Some((table, name)), true).await;
            }
            tokio::select! {
                read = self.read() => match read {
                    Ok(read) if wait.heard(read) > 0 => {}
                    _ => return self.gone(),
                },
                why = wait.over() => return Err(why),
            }
        }
    }

    async fn relay(self, by_name: Option<(&TlsTable, Option<String>)>, tls: bool) -> Result<Next, Reason> {
        let worker = &self.served.worker;
        let (upstream, taken) = match by_name {
            None => {
                (self.port.plain(&mut *worker.dice.borrow_mut()).cloned().ok_or(Reason::NO_ENDPOINTS)?, None)
            }
            Some((table, name)) => {
                let route = table.find(name.as_deref()).ok_or(Reason::NO_TLS_ROUTE)?;
                let drawn = route.backends.draw(worker.dice.borrow_mut().number());
                let Some(BackendTarget::Service { name, port }) = drawn.map(|backend| &backend.target) else {
                    return Err(Reason::INVALID_BACKEND);
                };
                let tables = worker.shared.tables.load();
                let upstream = tables.upstream(name, *port).cloned().ok_or(Reason::NO_ENDPOINTS)?;
                (upstream, Some(route.route.name.clone()))
            }
        };
        let to = connect_any(self.served, &upstream, self.dialled, self.client).await?;
        Ok(Next::Relay { first: self.first.freeze(), to, tls, route: taken })
    }

    fn answer(self, version: Protocol, early: Option<Result<Connected, Reason>>) -> Next {
        let early = early.and_then(Result::ok).map(Early::from);
        Next::Http { first: self.first.freeze(), version, early }
    }

    fn routes(&self) -> &Routes {
        self.port.routes.for_client(&self.served.pod.name.namespace)
    }

    /// A client may say nothing for as long as a connection may be silent, and then take `most` for the rest.
    fn patience(&self, most: Duration) -> Patience {
        let idle = limit(self.port.traffic.timeouts.idle, self.served.worker.shared.limits.idle);
        Patience::new(idle, most, !self.first.is_empty())
    }

    /// The client is gone, perhaps in the middle of what it was about to say.
    fn gone(&self) -> Result<Next, Reason> {
        if self.first.is_empty() { Ok(Next::Silence) } else { Err(Reason::CLIENT_GONE) }
    }

    /// Reads what there is now, if there is anything, and says how much. What goes wrong is found by the next read.
    fn read_now(&mut self) -> usize {
        self.first.reserve(READ);
        self.socket.try_read_buf(&mut self.first).unwrap_or(0)
    }

    /// Reads what there is, once there is something.
    fn read(&mut self) -> impl Future<Output = Result<usize, Reason>> {
        let (socket, first) = (self.socket, &mut self.first);
        async move {
            loop {
                socket.readable().await.map_err(|_| Reason::CLIENT_GONE)?;
                first.reserve(READ);
                match socket.try_read_buf(first) {
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                    read => return read.map_err(|_| Reason::CLIENT_GONE),
                }
            }
        }
    }
}

/// How long a client is waited for: up to its first byte, and from that on.
struct Patience {
    timer: Pin<Box<Sleep>>,
    /// For what follows the first byte; `None` once it runs.
    rest: Option<Duration>,
}

impl Patience {
    fn new(silence: Duration, rest: Duration, began: bool) -> Self {
        let mut patience = Self { timer: Box::pin(sleep(silence)), rest: Some(rest) };
        if began {
            patience.not_long();
        }
        patience
    }

    /// So many bytes came.
    fn heard(&mut self, bytes: usize) -> usize {
        if bytes > 0 {
            self.not_long();
        }
        bytes
    }

    /// As if the first byte were here.
    fn not_long(&mut self) {
        if let Some(rest) = self.rest.take() {
            self.timer.as_mut().reset(Instant::now() + rest);
        }
    }

    /// Waits until it is over, and says for what.
    async fn over(&mut self) -> Reason {
        self.timer.as_mut().await;
        if self.rest.is_some() { Reason::IDLE } else { Reason::SLOW_HEAD }
    }
}

/// Waits until the server has sent something, or has closed.
async fn speaks(connected: Option<&Result<Connected, Reason>>) {
    match connected {
        Some(Ok(connected)) => {
            connected.stream.readable().await;
        }
        _ => std::future::pending().await,
    }
}

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// Room for one read. What follows is read by whoever gets the connection.
const READ: usize = 4096;
