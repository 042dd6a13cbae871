//! A client's socket as hyper and the relay see it: what was read before comes first, bytes are counted, and the
//! connection can be watched while somebody else reads it.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    task::{Context, Poll, ready},
};

use bytes::{Buf as _, Bytes};
use futures_util::FutureExt as _;
use tokio::{
    io::{AsyncRead, AsyncWrite, Interest, ReadBuf},
    net::TcpStream,
};

use crate::{account::Account, clock::Clock, observe::Protocol};

/// The reading and writing end.
#[derive(Debug)]
pub(crate) struct Stream {
    first: Bytes,
    wire: Arc<Wire>,
}

/// What can be seen of a connection from outside.
#[derive(Debug)]
pub(crate) struct Wire {
    socket: TcpStream,
    account: Arc<Account>,
    clock: Clock,
    /// When a byte moved last.
    moved: AtomicU64,
    /// Whether bytes without a request under way are a head. HTTP/2 has other frames.
    has_heads: bool,
    /// When the first byte of a head came that is not whole; 0 where none is awaited or none came.
    head_since: AtomicU64,
    /// Whether a head is awaited.
    awaits_head: AtomicBool,
}

impl Stream {
    /// `first` was read from `socket` before.
    pub(crate) fn new(
        socket: TcpStream,
        first: Bytes,
        spoken: Protocol,
        account: Arc<Account>,
        clock: Clock,
    ) -> Self {
        let now = clock.now().nanos();
        account.received(first.len());
        let wire = Wire {
            socket,
            account,
            clock,
            moved: AtomicU64::new(now),
            has_heads: spoken == Protocol::Http1,
            head_since: AtomicU64::new(if first.is_empty() { 0 } else { now }),
            awaits_head: AtomicBool::new(true),
        };
        Self { first, wire: Arc::new(wire) }
    }

    pub(crate) fn wire(&self) -> &Arc<Wire> {
        &self.wire
    }
}

impl Wire {
    /// When a byte moved last, in nanoseconds of the clock.
    pub(crate) fn moved(&self) -> u64 {
        self.moved.load(Relaxed)
    }

    /// Since when a head is on its way, in nanoseconds of the clock.
    pub(crate) fn head_since(&self) -> Option<u64> {
        match self.head_since.load(Relaxed) {
            since if since > 0 && self.has_heads => Some(since),
            _ => None,
        }
    }

    /// No head is awaited while requests are under way.
    pub(crate) fn awaits_head(&self, awaits: bool) {
        self.awaits_head.store(awaits, Relaxed);
        self.head_since.store(0, Relaxed);
    }

    /// Whether the client has sent its end while it awaits an answer.
    pub(crate) fn awaits_answer_at_end(&self) -> bool {
        if !self.has_heads || self.awaits_head.load(Relaxed) {
            return false;
        }
        let ready = self.socket.ready(Interest::READABLE).now_or_never();
        ready.and_then(Result::ok).is_some_and(tokio::io::Ready::is_read_closed)
    }

    /// Waits until the connection breaks, without reading from it.
    pub(crate) async fn broken(&self) {
        let error = self.socket.async_io(Interest::ERROR, || {
            let pending = self.socket.take_error()?;
            pending.ok_or_else(|| io::ErrorKind::WouldBlock.into())
        });
        let _ = error.await;
    }

    /// Has the close be a reset: what was cut must not look complete.
    pub(crate) fn reset_on_close(&self) {
        reset_on_close(&self.socket);
    }

    fn read(&self, bytes: usize) {
        if bytes == 0 {
            return;
        }
        let now = self.clock.now().nanos();
        self.account.received(bytes);
        self.moved.store(now, Relaxed);
        if self.awaits_head.load(Relaxed) && self.head_since.load(Relaxed) == 0 {
            self.head_since.store(now, Relaxed);
        }
    }

    fn written(&self, bytes: usize) {
        self.account.sent(bytes);
        self.moved.store(self.clock.now().nanos(), Relaxed);
    }

    /// Writes when the socket takes bytes.
    fn poll_write(
        &self,
        cx: &mut Context<'_>,
        mut write: impl FnMut(&TcpStream) -> io::Result<usize>,
    ) -> Poll<io::Result<usize>> {
        loop {
            ready!(self.socket.poll_write_ready(cx))?;
            match write(&self.socket) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Ok(bytes) => {
                    self.written(bytes);
                    return Poll::Ready(Ok(bytes));
                }
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }
}

/// Has the close of `socket` be a reset.
pub(crate) fn reset_on_close(socket: &TcpStream) {
    // It cannot fail on a TCP socket; if it did, the close would be an ordinary one.
    let _ = rustix::net::sockopt::set_socket_linger(socket, Some(std::time::Duration::ZERO));
}

impl AsyncRead for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if !self.first.is_empty() {
            let part = self.first.len().min(buf.remaining());
            buf.put_slice(&self.first[..part]);
            self.first.advance(part);
            if self.first.is_empty() {
                // Also an empty one holds the buffer that it is a part of.
                self.first = Bytes::new();
            }
            return Poll::Ready(Ok(()));
        }
        loop {
            ready!(self.wire.socket.poll_read_ready(cx))?;
            match self.wire.socket.try_read_buf(buf) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Ok(bytes) => {
                    self.wire.read(bytes);
                    return Poll::Ready(Ok(()));
                }
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.wire.poll_write(cx, |socket| socket.try_write(buf))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.wire.poll_write(cx, |socket| socket.try_write_vectored(bufs))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        let done = rustix::net::shutdown(&self.wire.socket, rustix::net::Shutdown::Write);
        Poll::Ready(match done {
            // Whoever is gone needs not be told.
            Err(rustix::io::Errno::NOTCONN) | Ok(()) => Ok(()),
            Err(error) => Err(error.into()),
        })
    }
}
