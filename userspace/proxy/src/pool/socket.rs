//! A connection to an endpoint as hyper sees it.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    task::{Context, Poll, ready},
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    sync::oneshot,
};

use crate::{http1::Resting, line::Line, short};

/// A connection that tells when its server speaks, and the kernel whether its messages are short.
#[derive(Debug)]
pub(super) struct Socket {
    stream: Line,
    /// Who waits for its server's first word.
    greeting: Option<oneshot::Sender<()>>,
    /// The kernel takes its messages for short ones.
    short: bool,
    orders: Orders,
    resting: Resting,
    /// Whether the last read found less than there was room for.
    found_all: bool,
}

/// What is said of a socket by whoever uses it, while hyper has it.
#[derive(Clone, Debug, Default)]
pub(super) struct Orders(Arc<Given>);

#[derive(Debug, Default)]
struct Given {
    long: AtomicBool,
    cut: AtomicBool,
}

impl Orders {
    /// A message comes that is not short: to be said before it is written.
    pub(super) fn long_comes(&self) {
        self.0.long.store(true, Relaxed);
    }

    /// Its close is a reset from now on.
    pub(super) fn reset_on_close(&self) {
        self.0.cut.store(true, Relaxed);
    }
}

impl From<Line> for Socket {
    fn from(stream: Line) -> Self {
        let (orders, resting) = (Orders::default(), Resting::default());
        Self { stream, greeting: None, short: false, orders, resting, found_all: false }
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        if self.orders.0.cut.load(Relaxed) {
            self.stream.reset_on_close();
        }
    }
}

impl Socket {
    /// Whether bytes are sent as they are.
    pub(super) fn is_clear(&self) -> bool {
        self.stream.socket().is_some()
    }

    /// What is sent are short messages until it is said otherwise.
    pub(super) fn are_short(&mut self) -> Orders {
        if let Some(socket) = self.stream.socket() {
            short::are_short(socket);
        }
        self.short = true;
        self.orders.clone()
    }

    /// Tells whether nothing is under way, once whoever knows it says so.
    pub(super) fn resting(&self) -> Resting {
        self.resting.clone()
    }

    /// What is about to be written may belong to a message that is not short.
    fn tell(&mut self) {
        if self.short && self.orders.0.long.load(Relaxed) {
            self.short = false;
            if let Some(socket) = self.stream.socket() {
                short::are_long(socket);
            }
        }
    }

    /// Is ready once its server has said something.
    pub(super) fn greeting(&mut self) -> oneshot::Receiver<()> {
        let (sender, receiver) = oneshot::channel();
        self.greeting = Some(sender);
        receiver
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        // Half of all reads would find nothing. Behind an answer that is whole there is nothing to come: what did come would
        // be nobody's, and is found, or the end is, when the next edge tells of it.
        if self.found_all && self.resting.is_so() {
            self.found_all = false;
            self.stream.found_all();
        }
        let before = buf.remaining();
        let read = ready!(Pin::new(&mut self.stream).poll_read(cx, buf));
        self.found_all = (1..before).contains(&(before - buf.remaining()));
        if let Some(greeting) = self.greeting.take() {
            // Who waits no longer need not know.
            let _ = greeting.send(());
        }
        Poll::Ready(read)
    }
}

impl AsyncWrite for Socket {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.tell();
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.tell();
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests;
