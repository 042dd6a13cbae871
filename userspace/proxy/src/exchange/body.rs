//! The body of a request on its way to a server, kept as far as another try may need it.

use std::{
    cell::RefCell,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::time::{Instant, Sleep, sleep_until};

use super::{messages::Messages, mirror::Copy};
use crate::{Reason, http1::Malformed, limits::retry::KEPT_BODY};

/// What one try sends.
pub(crate) enum RequestBody {
    /// Nothing, as most requests.
    Empty,
    /// What the client sends, from its beginning.
    Streamed(Turn),
    /// A copy of it, for a mirror.
    Copied(Copy),
}

/// One try's reading of a body.
pub(crate) struct Turn {
    source: Rc<RefCell<Source>>,
    /// Which try: when the next one reads, this one's reading is over.
    number: u32,
    /// How much of what is kept it has read.
    at: usize,
}

/// What the tries of one request share.
struct Source {
    incoming: Incoming,
    size: SizeHint,
    kept: Vec<Part>,
    kept_bytes: usize,
    /// Whether `kept` is everything so far.
    whole: bool,
    ended: bool,
    /// Whether somebody reads, and the client has sent nothing.
    awaited: bool,
    turn: u32,
    received: u64,
    /// Of a gRPC call.
    messages: Option<Messages>,
    /// Why the client's own sending failed.
    failed: Option<Reason>,
    copies: Vec<Copy>,
    patience: Option<Patience>,
}

/// How long a client may let the proxy wait for the next piece.
struct Patience {
    time: Duration,
    since: Option<Instant>,
    timer: Option<Pin<Box<Sleep>>>,
}

/// A piece of a body.
#[derive(Debug, Clone)]
pub(super) enum Part {
    Data(Bytes),
    Trailers(HeaderMap),
}

/// A body cannot go on.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BodyError {
    /// Another try reads it now.
    #[error("another try of the request has taken its place")]
    Superseded,
    /// The client broke off.
    #[error("the client's body broke off: {0}")]
    Client(#[source] hyper::Error),
    /// The client does not go on.
    #[error("the client's body stood still for too long")]
    Slow,
    /// A mirror that does not keep up.
    #[error("the mirror is too far behind")]
    Behind,
    /// The server broke off.
    #[error("the server's body broke off: {0}")]
    Server(#[source] hyper::Error),
    /// The request's time is over.
    #[error("the request took longer than its timeout")]
    Timeout,
}

impl RequestBody {
    /// The client may take `patience` for each piece; that of a gRPC call, as long as it likes.
    pub(super) fn of(incoming: Incoming, is_grpc: bool, patience: Duration) -> Self {
        if incoming.is_end_stream() {
            return Self::Empty;
        }
        let size = incoming.size_hint();
        let source = Source {
            incoming,
            size,
            kept: Vec::new(),
            kept_bytes: 0,
            whole: true,
            ended: false,
            awaited: false,
            turn: 0,
            received: 0,
            messages: is_grpc.then(Messages::default),
            failed: None,
            copies: Vec::new(),
            patience: (!is_grpc).then_some(Patience { time: patience, since: None, timer: None }),
        };
        Self::Streamed(Turn { source: Rc::new(RefCell::new(source)), number: 0, at: 0 })
    }

    /// The body for one more try.
    pub(super) fn turn(&self) -> Self {
        let Self::Streamed(turn) = self else { return Self::Empty };
        let number = turn.source.borrow().turn + 1;
        turn.source.borrow_mut().turn = number;
        Self::Streamed(Turn { source: Rc::clone(&turn.source), number, at: 0 })
    }

    /// For counting, not for reading.
    pub(super) fn handle(&self) -> Self {
        let Self::Streamed(turn) = self else { return Self::Empty };
        Self::Streamed(Turn { source: Rc::clone(&turn.source), number: 0, at: 0 })
    }

    /// Whether it can be sent from its beginning.
    pub(super) fn is_whole(&self) -> bool {
        self.source().is_none_or(|source| source.borrow().whole)
    }

    /// Whether the client is awaited: the server has read all that there is.
    pub(super) fn is_awaited(&self) -> bool {
        self.source().is_some_and(|source| source.borrow().awaited)
    }

    /// Bytes that the client has sent of it.
    pub(super) fn received(&self) -> u64 {
        self.source().map_or(0, |source| source.borrow().received)
    }

    /// Messages that the client has sent of it, where it is a gRPC call's.
    pub(super) fn messages(&self) -> u64 {
        let messages = |source: &Source| source.messages.as_ref().map_or(0, Messages::count);
        self.source().map_or(0, |source| messages(&source.borrow()))
    }

    /// Why the client's sending failed, if it did.
    pub(super) fn failed(&self) -> Option<Reason> {
        self.source().and_then(|source| source.borrow().failed)
    }

    /// There is an answer: what else the client has to say may take its time.
    pub(super) fn answered(&self) {
        if let Some(source) = self.source() {
            source.borrow_mut().patience = None;
        }
    }

    /// Has whatever comes copied.
    pub(super) fn copy_to(&self, copy: Copy) {
        if let Some(source) = self.source() {
            source.borrow_mut().copies.push(copy);
        }
    }

    fn source(&self) -> Option<&Rc<RefCell<Source>>> {
        match self {
            Self::Streamed(turn) => Some(&turn.source),
            Self::Empty | Self::Copied(_) => None,
        }
    }
}

impl Source {
    /// The next piece that nobody has read yet.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Part, BodyError>>> {
        if self.ended {
            return Poll::Ready(None);
        }
        let polled = Pin::new(&mut self.incoming).poll_frame(cx);
        self.awaited = polled.is_pending();
        let Poll::Ready(frame) = polled else {
            if self.patience.as_mut().is_none_or(|patience| patience.poll(cx).is_pending()) {
                return Poll::Pending;
            }
            self.breaks(Reason::SLOW_BODY);
            return Poll::Ready(Some(Err(BodyError::Slow)));
        };
        if let Some(patience) = &mut self.patience {
            patience.since = None;
        }
        let part = match frame {
            None => {
                self.ended = true;
                self.copies.drain(..).for_each(Copy::end);
                return Poll::Ready(None);
            }
            Some(Err(error)) => {
                self.breaks(Malformed::of(&error).map_or(Reason::CLIENT_GONE, Malformed::reason));
                return Poll::Ready(Some(Err(BodyError::Client(error))));
            }
            Some(Ok(frame)) => Part::of(frame),
        };
        if let Part::Data(data) = &part {
            self.received += data.len() as u64;
            if let Some(messages) = &mut self.messages {
                messages.read(data);
            }
        }
        self.copies.retain(|copy| copy.push(&part));
        Poll::Ready(Some(Ok(part)))
    }

    /// It ends here, and no try can send it.
    fn breaks(&mut self, why: Reason) {
        self.ended = true;
        self.whole = false;
        self.failed = Some(why);
        self.copies.drain(..).for_each(Copy::cut);
    }

    /// Keeps a piece, or gives up keeping. Returns whether it is kept.
    fn keep(&mut self, part: &Part) -> bool {
        self.whole = self.whole && self.kept_bytes + part.len() <= KEPT_BODY;
        if self.whole {
            self.kept_bytes += part.len();
            self.kept.push(part.clone());
        } else {
            self.kept = Vec::new();
        }
        self.whole
    }
}

impl Patience {
    /// Ready when there was no piece for too long.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let until = *self.since.get_or_insert_with(Instant::now) + self.time;
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep_until(until)));
        // It is not set anew with each piece: it may ring for an earlier one.
        loop {
            ready!(timer.as_mut().poll(cx));
            if Instant::now() >= until {
                return Poll::Ready(());
            }
            timer.as_mut().reset(until);
        }
    }
}

impl Part {
    pub(super) fn of(frame: Frame<Bytes>) -> Self {
        match frame.into_data() {
            Ok(data) => Self::Data(data),
            Err(frame) => Self::Trailers(frame.into_trailers().unwrap_or_default()),
        }
    }

    pub(super) fn len(&self) -> usize {
        match self {
            Self::Data(data) => data.len(),
            Self::Trailers(trailers) => {
                trailers.iter().map(|(name, value)| name.as_str().len() + value.len()).sum()
            }
        }
    }

    pub(super) fn into_frame(self) -> Frame<Bytes> {
        match self {
            Self::Data(data) => Frame::data(data),
            Self::Trailers(trailers) => Frame::trailers(trailers),
        }
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let turn = match self.get_mut() {
            Self::Empty => return Poll::Ready(None),
            Self::Copied(copy) => return copy.poll(cx),
            Self::Streamed(turn) => turn,
        };
        let mut source = turn.source.borrow_mut();
        if source.turn != turn.number {
            return Poll::Ready(Some(Err(BodyError::Superseded)));
        }
        if let Some(part) = source.kept.get(turn.at) {
            turn.at += 1;
            return Poll::Ready(Some(Ok(part.clone().into_frame())));
        }
        Poll::Ready(match ready!(source.poll(cx)) {
            None => None,
            Some(Err(error)) => Some(Err(error)),
            Some(Ok(part)) => {
                turn.at = if source.keep(&part) { turn.at + 1 } else { 0 };
                Some(Ok(part.into_frame()))
            }
        })
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Copied(_) => false,
            Self::Streamed(turn) => {
                let source = turn.source.borrow();
                source.turn == turn.number
                    && turn.at == source.kept.len()
                    && (source.ended || source.incoming.is_end_stream())
            }
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Empty => SizeHint::with_exact(0),
            Self::Copied(_) => SizeHint::default(),
            // Asked for before the first piece is read.
            Self::Streamed(turn) => turn.source.borrow().size,
        }
    }
}
