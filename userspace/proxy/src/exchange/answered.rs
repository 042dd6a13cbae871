//! The body of an answer on its way to the client, and everything that lasts as long as it does.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::time::Sleep;

use super::{
    Ledger, RequestBody,
    body::{BodyError, Part},
};
use crate::{
    Reason,
    balance::Serving,
    http1::Malformed,
    http2::is_calmed,
    limits::Held,
    observe::Protocol,
    pool::{Http1, Http2},
    worker::delivery,
};

/// See the module.
pub(crate) struct AnswerBody {
    kind: Kind,
    ledger: Option<Ledger>,
    /// Whether the last byte of a large piece comes for itself. In HTTP/2 hyper lets h2 have a piece as soon as the client's window has room
    /// for one byte of it; so the task of a stream ends once there is room for all of it, and can be told before that it
    /// takes too long.
    last_apart: bool,
}

enum Kind {
    /// The proxy's own.
    Own(Option<Bytes>),
    /// A server's.
    Carried(Carried),
    /// What is left of a server's that has ended.
    Last(Bytes),
    /// Nothing; whether the client takes it is seen when this is dropped.
    Handed,
}

/// A server's body and what is held for it.
pub(super) struct Carried {
    pub incoming: Incoming,
    pub carrier: Carrier,
    _permits: Permits,
    /// The request, whose bytes are counted until the answer is over.
    pub asked: RequestBody,
    /// Rings when it has to be over.
    timer: Option<Pin<Box<Sleep>>>,
}

/// A piece of a body, or why there is none and what the client is told.
type Piece = Result<Frame<Bytes>, (BodyError, Reason)>;

/// The connection that an answer comes from.
pub(super) enum Carrier {
    Http1(Http1),
    /// Held: the stream counts as long as the answer lasts.
    Http2(Http2),
}

impl Carrier {
    /// What is spoken on it.
    pub(super) fn version(&self) -> Protocol {
        match self {
            Self::Http1(_) => Protocol::Http1,
            Self::Http2(_) => Protocol::Http2,
        }
    }

    /// Has its close be a reset. Of HTTP/2 the stream is reset when what was made of it is dropped.
    pub(super) fn reset_on_close(&self) {
        if let Self::Http1(connection) = self {
            connection.reset_on_close();
        }
    }

    /// Why an answer broke off in the middle.
    fn why_broken(&self, error: &hyper::Error) -> Reason {
        match self {
            Self::Http2(connection) if connection.is_flooded() => Reason::FLOOD,
            _ if is_calmed(error) => Reason::FLOOD,
            _ if Malformed::of(error).is_some() => Reason::UPSTREAM_MALFORMED,
            _ => Reason::ANSWER_BROKEN,
        }
    }
}

/// What counts a try as under way.
pub(super) struct Permits {
    pub serving: Serving,
    pub _request: Option<Held>,
    pub _retry: Option<Held>,
}

impl AnswerBody {
    pub(super) fn empty() -> Self {
        Self::of(Kind::Own(None))
    }

    pub(super) fn text(text: Bytes) -> Self {
        Self::of(Kind::Own(Some(text).filter(|text| !text.is_empty())))
    }

    pub(super) fn carried(carried: Carried) -> Self {
        Self::of(Kind::Carried(carried))
    }

    fn of(kind: Kind) -> Self {
        Self { kind, ledger: None, last_apart: false }
    }

    /// From now on the ledger is this body's to close, once a client of `spoken` has it.
    pub(super) fn enter(&mut self, ledger: Ledger, spoken: Protocol) {
        self.ledger = Some(ledger);
        self.last_apart = spoken == Protocol::Http2;
    }

    /// The answer is over, and so is the request.
    fn finish(&mut self) {
        self.let_go();
        if let Some(ledger) = self.ledger.take() {
            ledger.close();
        }
    }

    /// The server has said all: its connection is free.
    fn let_go(&mut self) {
        let kind = std::mem::replace(&mut self.kind, Kind::Own(None));
        if let Kind::Carried(mut carried) = kind {
            if let Carrier::Http1(connection) = &mut carried.carrier {
                connection.done();
            }
            if let Some(ledger) = &mut self.ledger {
                ledger.received(&carried.asked);
            }
        }
    }

    fn breaks(&mut self, why: Reason) {
        if let Some(ledger) = &mut self.ledger {
            ledger.refused(why);
        }
    }
}

impl Carried {
    pub(super) fn new(
        incoming: Incoming,
        carrier: Carrier,
        permits: Permits,
        asked: RequestBody,
        timer: Option<Pin<Box<Sleep>>>,
    ) -> Self {
        let timer = timer.filter(|_| !incoming.is_end_stream());
        Self { incoming, carrier, _permits: permits, asked, timer }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Piece>> {
        if let Some(timer) = &mut self.timer
            && timer.as_mut().poll(cx).is_ready()
        {
            return Poll::Ready(Some(Err((BodyError::Timeout, Reason::REQUEST_TIMEOUT))));
        }
        let frame = ready!(Pin::new(&mut self.incoming).poll_frame(cx));
        Poll::Ready(frame.map(|frame| {
            frame.map_err(|error| {
                let why = self.carrier.why_broken(&error);
                (BodyError::Server(error), why)
            })
        }))
    }
}

impl Body for AnswerBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = self.get_mut();
        let carried = match &mut this.kind {
            Kind::Own(text) => {
                let text = text.take();
                if let (Some(ledger), Some(text)) = (&mut this.ledger, &text) {
                    ledger.sent(text);
                }
                return Poll::Ready(text.map(|text| Ok(Frame::data(text))));
            }
            Kind::Last(last) => {
                let last = std::mem::take(last);
                this.kind = Kind::Handed;
                delivery::handed();
                return Poll::Ready(Some(Ok(Frame::data(last))));
            }
            Kind::Handed => return Poll::Ready(None),
            Kind::Carried(carried) => carried,
        };
        let Poll::Ready(piece) = carried.poll(cx) else {
            delivery::awaits_server();
            return Poll::Pending;
        };
        delivery::handed();
        Poll::Ready(match piece {
            None => {
                this.finish();
                None
            }
            Some(Err((error, why))) => {
                this.breaks(why);
                Some(Err(error))
            }
            Some(Ok(frame)) => {
                let last = carried.incoming.is_end_stream();
                let mut part = Part::of(frame);
                if let Some(ledger) = &mut this.ledger {
                    match &part {
                        Part::Data(data) => ledger.sent(data),
                        Part::Trailers(trailers) => ledger.trailers(trailers),
                    }
                }
                match &mut part {
                    Part::Data(data) if last && this.last_apart && data.len() >= LARGE => {
                        this.let_go();
                        this.kind = Kind::Last(data.split_off(data.len() - 1));
                    }
                    _ if last => this.finish(),
                    _ => {}
                }
                Some(Ok(part.into_frame()))
            }
        })
    }

    fn is_end_stream(&self) -> bool {
        match &self.kind {
            Kind::Own(text) => text.is_none(),
            Kind::Last(_) => false,
            Kind::Handed => true,
            Kind::Carried(carried) => carried.incoming.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.kind {
            Kind::Own(text) => SizeHint::with_exact(text.as_ref().map_or(0, |text| text.len() as u64)),
            Kind::Last(last) => SizeHint::with_exact(last.len() as u64),
            Kind::Handed => SizeHint::with_exact(0),
            Kind::Carried(carried) => carried.incoming.size_hint(),
        }
    }
}

impl Drop for AnswerBody {
    /// What has no body is never read to its end.
    fn drop(&mut self) {
        let over = match &self.kind {
            Kind::Own(_) => true,
            Kind::Last(_) => false,
            Kind::Handed => delivery::why_cut().is_none(),
            Kind::Carried(carried) => carried.incoming.is_end_stream(),
        };
        if over {
            self.finish();
        } else if let Some(why) = delivery::why_cut() {
            self.breaks(why);
        }
    }
}

/// Bytes of a last piece that are not left to h2 for as long as the client likes. All streams of a connection together may
/// have as much in smaller ones as each of them may have anyway.
const LARGE: usize = 4 << 10;
