//! A connection whose reader gets judged bytes only.
//!
//! ```text
//! socket ──read──► reader's buffer ──judge──► what passed stays there
//!                                      └────► the rest is withheld: half a head, or what waits for an answer
//! socket ◄─write── writer's bytes ───judge──► Exchange: which request is answered, whether it is a tunnel by now
//! ```

mod closing;
mod withheld;

use std::{
    io::{self, IoSlice},
    pin::Pin,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    task::{Context, Poll, Waker, ready},
};

use closing::Closing;
use pin_project_lite::pin_project;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use withheld::Withheld;

use super::{
    Limits, Malformed,
    guard::{Exchange, Guard, Judged, Rest},
};

pin_project! {
    /// A socket with a [`Guard`] on either direction, for hyper to read from and write to.
    ///
    /// - A head reaches the reader when the whole of it is good; at most [`Limits::head`] and one read are withheld.
    /// - A malformed message is an `io::Error` that carries its [`Malformed`], after all that was good before it. Where
    ///   requests are read it comes when the earlier ones are answered: hyper gives up on an answer when a read fails.
    /// - The client of a malformed head is [answered](Malformed::answer) before the reader is told. A malformed body is
    ///   the writer's to answer: it has the request.
    /// - What such a client goes on to send is read and dropped for at most a second: a reset would take the answer with
    ///   it.
    #[derive(Debug)]
    #[project = Parts]
    pub struct Guarded<IO> {
        #[pin]
        io: IO,
        side: Side,
        reads: Guard,
        writes: Guard,
        exchange: Exchange,
        withheld: Withheld,
        // Of the writer's bytes: the line that they end in the middle of.
        unfinished: Vec<u8>,
        waiting: Option<Waker>,
        holding: Holding,
        resting: Resting,
        refusal: Refusal,
        closing: Closing,
    }
}

/// Tells what a [`Guarded`] refused, also when it belongs to hyper.
#[derive(Debug, Clone, Default)]
pub struct Refusal(Arc<OnceLock<Malformed>>);

/// Tells whether a [`Guarded`] withholds bytes: a part of a head, or what waits for its turn.
#[derive(Debug, Clone, Default)]
pub struct Holding(Arc<AtomicBool>);

/// Tells whether nothing is under way on a [`Guarded`]: all that came is answered to the last byte, and no byte of
/// anything else is here.
#[derive(Debug, Clone, Default)]
pub struct Resting(Arc<AtomicBool>);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Side {
    /// Requests are read.
    Server,
    /// Responses are read.
    Client,
}

impl<IO> Guarded<IO> {
    /// Guards the connection of a client, which sends requests.
    pub fn server(io: IO, limits: Limits) -> Self {
        Self::new(io, Side::Server, Guard::requests(limits), Guard::responses(OWN))
    }

    /// Guards the connection to an upstream, which sends responses.
    pub fn client(io: IO, limits: Limits) -> Self {
        Self::new(io, Side::Client, Guard::responses(limits), Guard::requests(OWN))
    }

    /// The same, where `resting` is known before.
    pub fn told_by(self, resting: Resting) -> Self {
        Self { resting, ..self }
    }

    /// What this connection is refused for, when it is.
    pub fn refusal(&self) -> Refusal {
        self.refusal.clone()
    }

    /// Whether there are bytes that the reader does not have.
    pub fn holding(&self) -> Holding {
        self.holding.clone()
    }

    /// Whether nothing is under way.
    pub fn resting(&self) -> Resting {
        self.resting.clone()
    }

    fn new(io: IO, side: Side, reads: Guard, writes: Guard) -> Self {
        Self {
            io,
            side,
            reads,
            writes,
            exchange: Exchange::default(),
            withheld: Withheld::default(),
            unfinished: Vec::new(),
            waiting: None,
            holding: Holding::default(),
            resting: Resting::default(),
            refusal: Refusal::default(),
            closing: Closing::default(),
        }
    }
}

impl Refusal {
    /// What was malformed. It is there once the reader has been told.
    pub fn malformed(&self) -> Option<Malformed> {
        self.0.get().copied()
    }
}

impl Holding {
    /// Whether there are any.
    pub fn is_some(&self) -> bool {
        self.0.load(Relaxed)
    }
}

impl Resting {
    /// Whether that is so. Who reads and writes may be replaced then: it has nothing that it could lose.
    pub fn is_so(&self) -> bool {
        self.0.load(Relaxed)
    }

    pub(crate) fn set(&self, so: bool) {
        self.0.store(so, Relaxed);
    }
}

impl<IO: AsyncRead + AsyncWrite> AsyncRead for Guarded<IO> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let mut this = self.project();
        let polled = this.read_judged(cx, buf);
        this.holding.0.store(!this.withheld.is_empty(), Relaxed);
        this.tell_rest();
        polled
    }
}

impl<IO: AsyncRead + AsyncWrite> Parts<'_, IO> {
    /// Reads until there is something that passes.
    fn read_judged(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        loop {
            if buf.remaining() == 0 || self.withheld.deliver(buf) {
                return Poll::Ready(Ok(()));
            }
            let rest = self.withheld.judge(self.reads, self.exchange);
            if self.withheld.has_judged() {
                continue;
            }
            match rest {
                Rest::More => {}
                Rest::Malformed(why) => return self.refuse(why, cx).map(Err),
                Rest::Held => {
                    *self.waiting = Some(cx.waker().clone());
                    // One read on: a client that leaves is noticed while its request is under way.
                    if !self.withheld.is_empty() {
                        return Poll::Pending;
                    }
                }
            }
            let before = buf.filled().len();
            let read = if self.withheld.is_empty() {
                ready!(self.read_in_place(buf, cx))?
            } else {
                ready!(self.withheld.read_on(self.io.as_mut(), cx))?
            };
            if read == 0 || buf.filled().len() > before {
                return Poll::Ready(Ok(()));
            }
        }
    }

    /// Reads into the reader's own buffer and leaves there what passes. Returns how much was read.
    fn read_in_place(&mut self, buf: &mut ReadBuf<'_>, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let before = buf.filled().len();
        ready!(self.io.as_mut().poll_read(cx, buf))?;
        let new = &buf.filled()[before..];
        let read = new.len();
        let Judged { pass, .. } = self.reads.judge(new, self.exchange);
        self.withheld.keep(&new[pass..]);
        buf.set_filled(before + pass);
        Poll::Ready(Ok(read))
    }

    /// Answers the client of a malformed head, once its earlier requests are answered. Returns the reader's error.
    fn refuse(&mut self, why: Malformed, cx: &mut Context<'_>) -> Poll<io::Error> {
        let in_body = self.reads.is_broken_in_body();
        if *self.side == Side::Server {
            if self.exchange.unanswered() > usize::from(in_body) {
                *self.waiting = Some(cx.waker().clone());
                return Poll::Pending;
            }
            if !in_body {
                if let Closing::Open = self.closing {
                    *self.closing = Closing::with(why.answer());
                }
                // The client may be gone; the reader is told the same.
                let _ = ready!(self.closing.poll(self.io.as_mut(), cx));
            }
        }
        self.refusal.0.get_or_init(|| why);
        Poll::Ready(why.into())
    }

    fn tell_rest(&self) {
        let nothing_is_kept = self.withheld.is_empty() && self.unfinished.is_empty();
        let all_is_answered = self.exchange.unanswered() == 0 && !self.exchange.is_tunnel();
        let between = self.reads.is_between_messages() && self.writes.is_between_messages();
        let is_open = matches!(self.closing, Closing::Open) && self.refusal.malformed().is_none();
        self.resting.set(nothing_is_kept && all_is_answered && between && is_open);
    }

    /// Judges what the writer has written, after the fact: hyper writes no malformed message, and if it did, the
    /// connection would end here.
    fn enter(&mut self, written: &[u8]) -> Result<(), Malformed> {
        let Judged { pass, rest } = if self.unfinished.is_empty() {
            let judged = self.writes.judge(written, self.exchange);
            self.unfinished.extend_from_slice(&written[judged.pass..]);
            judged
        } else {
            self.unfinished.extend_from_slice(written);
            let judged = self.writes.judge(self.unfinished, self.exchange);
            self.unfinished.drain(..judged.pass);
            judged
        };
        // The reader may wait for the answer that this ends.
        if pass > 0
            && let Some(waker) = self.waiting.take()
        {
            waker.wake();
        }
        match rest {
            Rest::Held if !self.unfinished.is_empty() => Err(Malformed::OutOfTurn),
            Rest::Malformed(why) => Err(why),
            Rest::More | Rest::Held => Ok(()),
        }
    }
}

impl<IO: AsyncRead + AsyncWrite> AsyncWrite for Guarded<IO> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let mut this = self.project();
        let written = ready!(this.io.as_mut().poll_write(cx, buf))?;
        this.enter(&buf[..written])?;
        this.tell_rest();
        Poll::Ready(Ok(written))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let mut this = self.project();
        let written = ready!(this.io.as_mut().poll_write_vectored(cx, bufs))?;
        let mut left = written;
        for buf in bufs {
            let here = left.min(buf.len());
            this.enter(&buf[..here])?;
            left -= here;
        }
        this.tell_rest();
        Poll::Ready(Ok(written))
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.project().io.poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.project();
        this.resting.set(false);
        if let (Closing::Open, Side::Server, Some(_)) = (&this.closing, *this.side, this.refusal.malformed())
        {
            *this.closing = Closing::Shutting;
        }
        this.closing.poll(this.io, cx)
    }
}

/// What weft itself writes came in within the limits; routes and policies may have added to it.
const OWN: Limits = Limits { line: 64 << 10, fields: 1_000, head: 1 << 20, empty_lines: 0 };
