//! What carries the bytes of a connection.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncBufRead, AsyncWrite};

use super::shared::Handle;

/// Reads and writes a connection until it has ended: its peer's end, ours once nobody uses it, or an error. Dropped, it
/// cuts all streams.
#[derive(Debug)]
#[must_use = "nothing moves unless it is polled"]
pub struct Driver<IO> {
    io: IO,
    shared: Handle,
    /// Something was written since it was flushed last.
    unflushed: bool,
}

impl<IO: AsyncBufRead + AsyncWrite + Unpin> Driver<IO> {
    pub(super) fn new(io: IO, shared: Handle) -> Self {
        Self { io, shared, unflushed: false }
    }

    /// The connection, for looking at.
    pub fn io(&self) -> &IO {
        &self.io
    }

    /// Takes what has come; ready at the connection's end.
    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        for _ in 0..PIECES {
            let bytes = ready!(Pin::new(&mut self.io).poll_fill_buf(cx))?;
            if bytes.is_empty() {
                return Poll::Ready(Ok(()));
            }
            let length = bytes.len();
            let taken = self.shared.lock().take(bytes);
            taken.map_err(|violation| io::Error::new(io::ErrorKind::InvalidData, violation))?;
            Pin::new(&mut self.io).consume(length);
        }
        // Others have their turn, and what was read may be answered.
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Writes what there is.
    fn poll_write(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            let mut shared = self.shared.lock();
            let bytes = shared.behind();
            if bytes.is_empty() {
                break;
            }
            let written = ready!(Pin::new(&mut self.io).poll_write(cx, bytes))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            shared.wrote(written);
            self.unflushed = true;
        }
        if self.unflushed {
            ready!(Pin::new(&mut self.io).poll_flush(cx))?;
            self.unflushed = false;
        }
        Poll::Ready(Ok(()))
    }

    fn poll_carry(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let read = self.poll_read(cx)?;
        let written = self.poll_write(cx)?;
        if read.is_ready() {
            return Poll::Ready(Ok(()));
        }
        let mut shared = self.shared.lock();
        if written.is_ready() && shared.is_over() {
            drop(shared);
            return Pin::new(&mut self.io).poll_shutdown(cx);
        }
        shared.wait(cx);
        Poll::Pending
    }
}

impl<IO: AsyncBufRead + AsyncWrite + Unpin> Future for Driver<IO> {
    type Output = io::Result<()>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        let carried = ready!(this.poll_carry(cx));
        this.shared.lock().end();
        Poll::Ready(carried)
    }
}

impl<IO> Drop for Driver<IO> {
    fn drop(&mut self) {
        self.shared.lock().end();
    }
}

/// Pieces that are read before others have their turn: 128 KiB of full records, so that they are in the cache still.
const PIECES: usize = 8;
