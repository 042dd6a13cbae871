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

use crate::{line::Line, short};

/// A connection that tells when its server speaks, and the kernel whether its messages are short.
#[derive(Debug)]
pub(super) struct Socket {
    stream: Line,
    /// Who waits for its server's first word.
    greeting: Option<oneshot::Sender<()>>,
    /// Whether a message comes that is not short; `None` once that is told, and where nothing else is sent.
    long: Option<Long>,
}

/// Says of a socket, before it is written, that a message comes that is not short.
#[derive(Clone, Debug, Default)]
pub(super) struct Long(Arc<AtomicBool>);

impl Long {
    pub(super) fn comes(&self) {
        self.0.store(true, Relaxed);
    }
}

impl From<Line> for Socket {
    fn from(stream: Line) -> Self {
        Self { stream, greeting: None, long: None }
    }
}

impl Socket {
    /// What is sent are short messages until it is said otherwise.
    pub(super) fn are_short(&mut self) -> Long {
        if let Some(socket) = self.stream.socket() {
            short::are_short(socket);
        }
        self.long.insert(Long::default()).clone()
    }

    /// What is about to be written may belong to a message that is not short.
    fn tell(&mut self) {
        if self.long.as_ref().is_some_and(|long| long.0.load(Relaxed)) {
            self.long = None;
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
        let read = ready!(Pin::new(&mut self.stream).poll_read(cx, buf));
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
