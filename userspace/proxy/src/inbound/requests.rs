//! A connection to a pod whose policies read requests: each of them is judged, and what is none is judged as bytes.

use std::{net::SocketAddr, pin::pin, rc::Rc, sync::Arc};

use bytes::{Bytes, BytesMut};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    sync::watch,
    time::{Instant, sleep},
};
use weft_model::Timeouts;
use weft_transport::Progress;

use super::{Seen, app::to_app, forbidden, next::speaks};
use crate::{
    Reason,
    line::Line,
    observe::Protocol,
    outbound::{Early, ended},
    route::detect::{self, Spoken},
    serve::{self, Client, Incoming},
    tables::{Caller, Port},
    worker::Served,
};

/// A connection to a port whose requests are read.
struct Visit<'a> {
    served: &'a Rc<Served>,
    local: SocketAddr,
    client: SocketAddr,
    caller: Caller,
}

/// Serves a connection of which `first` was read. `app` is one to the app, where bytes may come in.
pub(super) async fn serve(
    served: &Rc<Served>,
    mut line: Line,
    first: Bytes,
    mut app: Option<TcpStream>,
    local: SocketAddr,
    seen: &mut Seen,
    mut changes: watch::Receiver<u64>,
) -> Result<(), Reason> {
    let visit = Visit { served, local, client: seen.client, caller: seen.caller() };
    let mut first = BytesMut::from(first);
    let spoken = match visit.may_open() {
        Ok(()) => Box::pin(visit.spoken(&mut line, &mut first, &mut app)).await,
        Err(why) => Err(why),
    };
    let first = first.freeze();
    let version = match spoken {
        Ok(Spoken::Http1) => Protocol::Http1,
        Ok(Spoken::Http2) => Protocol::Http2,
        // It has said nothing and gone.
        Ok(_) if first.is_empty() && app.is_none() => return Ok(()),
        Ok(_) => return Box::pin(visit.carry(line, &first, app, &seen.progress, &mut changes)).await,
        Err(why) => {
            line.reset_on_close();
            return Err(why);
        }
    };
    seen.spoken = version;
    let port = Arc::new(Port::of_pod(&served.pod.name, local, served.worker.now()));
    let early = app.and_then(|app| early(&port, local, app));
    let incoming = Incoming {
        caller: visit.caller.clone(),
        port,
        told: seen.told,
        security: seen.security,
        certificate: seen.certificate.take(),
    };
    let ends = (seen.client, local);
    let client = Client::of_incoming(served, (line, first), ends, version, early, incoming);
    tokio::select! {
        ended = serve::serve(Rc::clone(&client)) => ended,
        why = forbidden(&mut changes, || visit.may_open()) => {
            client.reset_on_close(why);
            Err(why)
        }
    }
}

impl Visit<'_> {
    fn may_open(&self) -> Result<(), Reason> {
        self.served.worker.shared.tables.load().may_open(self.local, &self.caller)
    }

    /// Whether bytes that are no request may come in.
    fn may_come_in(&self) -> Result<(), Reason> {
        self.served.worker.shared.tables.load().may_come_in(self.local, &self.caller)
    }

    /// Bytes that are no request.
    async fn carry(
        &self,
        line: Line,
        first: &Bytes,
        app: Option<TcpStream>,
        progress: &Progress,
        changes: &mut watch::Receiver<u64>,
    ) -> Result<(), Reason> {
        let app = async {
            self.may_come_in()?;
            let mut app = match app {
                Some(app) => app,
                None => to_app(self.served, self.local, self.client).await?,
            };
            app.write_all(first).await.map_err(|_| Reason::UPSTREAM_RESET)?;
            Ok::<_, Reason>(app)
        };
        let app = app.await.inspect_err(|_| line.reset_on_close())?;
        tokio::select! {
            relayed = line.relay(app, Timeouts::IDLE, progress) => ended(&relayed),
            why = forbidden(changes, || self.may_come_in()) => Err(why),
        }
    }

    /// What is spoken. A server that speaks first is no server of HTTP; it is connected to where bytes may come in.
    async fn spoken(
        &self,
        line: &mut Line,
        first: &mut BytesMut,
        app: &mut Option<TcpStream>,
    ) -> Result<Spoken, Reason> {
        let limits = &self.served.worker.shared.limits;
        let bytes_may = self.may_come_in().is_ok();
        let rest = if bytes_may { limits.detect_time } else { limits.head_time };
        let mut connecting = pin!(to_app(self.served, self.local, self.client));
        let begins = if first.is_empty() { limits.idle } else { rest };
        let mut patience = pin!(sleep(begins));
        loop {
            match detect::spoken(first) {
                Spoken::NeedMore => {}
                spoken => return Ok(spoken),
            }
            let was_silent = first.is_empty();
            tokio::select! {
                biased;
                read = line.read_buf(first) => {
                    match read {
                        Ok(1..) => {}
                        // Who says nothing is refused nothing, as a proxy that connected ahead and went elsewhere.
                        Err(_) if !was_silent => return Err(Reason::CLIENT_GONE),
                        Ok(0) | Err(_) => return Ok(Spoken::Other),
                    }
                    if was_silent {
                        patience.as_mut().reset(Instant::now() + rest);
                    }
                }
                made = &mut connecting, if app.is_none() && bytes_may => *app = Some(made?),
                () = speaks(app.as_ref()) => return Ok(Spoken::Other),
                () = &mut patience => return match bytes_may {
                    _ if first.is_empty() => Err(Reason::IDLE),
                    true => Ok(Spoken::Other),
                    false => Err(Reason::SLOW_HEAD),
                },
            }
        }
    }
}

/// A connection to the app for the first request.
fn early(port: &Port, local: SocketAddr, app: TcpStream) -> Option<Early> {
    let upstream = port.plain(&mut crate::draw::Dice::seeded(0))?;
    let endpoint = upstream.endpoints(local).endpoints().all().first().cloned()?;
    Some(Early { stream: Line::Plain(app), endpoint, slot: None })
}
