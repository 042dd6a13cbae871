//! One stream, as whoever uses it sees it.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::shared::Handle;
use crate::relay::{Buffer, Inside};

/// A stream. Its end is shutting it down; dropped before that, or with bytes that nobody has read, it is reset.
///
/// Whoever reads, writes, or waits for its reset is remembered once each: the last one that was told to wait is woken.
#[derive(Debug)]
pub struct Stream {
    shared: Handle,
    number: u32,
}

impl Stream {
    pub(super) fn new(shared: Handle, number: u32) -> Self {
        Self { shared, number }
    }

    /// Of the client: waits until the server has somebody behind it.
    ///
    /// # Errors
    /// The server has nobody, or the connection is gone.
    pub async fn opened(&self) -> io::Result<()> {
        poll_fn(|cx| self.shared.lock().poll_opened(self.number, cx)).await
    }

    /// Waits until there is something to read, or an end.
    pub async fn readable(&self) {
        poll_fn(|cx| self.poll_readable(cx)).await;
    }

    /// As [`Stream::readable`].
    pub fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.shared.lock().poll_readable(self.number, cx)
    }

    /// Reads into `buf`; nothing at the end.
    pub fn poll_read(&self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.shared.lock().poll_read(self.number, cx, |received| {
            let part = received.len().min(buf.remaining());
            buf.put_slice(&received[..part]);
            part
        })
    }

    /// Writes as many of `bytes` as there is room for. The driver sends them as soon as it can.
    pub fn poll_write(&self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.shared.lock().poll_write(self.number, cx, bytes)
    }

    /// Nothing more is written.
    pub fn finish(&self) {
        self.shared.lock().finish(self.number);
    }

    /// Ends it so that the other end sees that it was cut, behind what was written.
    pub fn reset(&self) {
        self.shared.lock().reset(self.number);
    }

    /// Waits until the other end has cut it, or the connection is gone.
    pub async fn broken(&self) -> io::Error {
        poll_fn(|cx| self.shared.lock().poll_reset(self.number, cx)).await
    }

    /// Of the server: tells the client that somebody is behind it.
    pub fn is_open(&self) {
        self.shared.lock().opened(self.number);
    }
}

impl Inside for Stream {
    fn reset(&mut self) {
        Self::reset(self);
    }

    fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Buffer>> {
        self.shared.lock().poll_piece(self.number, cx)
    }

    fn poll_reset(&mut self, cx: &mut Context<'_>) -> Poll<io::Error> {
        self.shared.lock().poll_reset(self.number, cx)
    }
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Self::poll_read(&self, cx, buf)
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Self::poll_write(&self, cx, bytes)
    }

    /// The driver writes as soon as it can, asked or not.
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.finish();
        Poll::Ready(Ok(()))
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.shared.lock().let_go(self.number);
    }
}
