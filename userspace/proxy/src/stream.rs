//! A client's connection as hyper sees it: what was read before comes first, bytes are counted, and it can be watched
//! while somebody else reads it.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::{account::Account, clock::Clock, http2::Frames, line::Line, observe::Protocol, short};

/// The reading and writing end.
#[derive(Debug)]
pub(crate) struct Stream {
    first: Bytes,
    wire: Arc<Wire>,
    /// Bytes that were read since there was nothing.
    found: usize,
    /// Of HTTP/2.
    frames: Option<Frames>,
}

/// What can be seen of a connection from outside.
#[derive(Debug)]
pub(crate) struct Wire {
    line: Line,
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
    /// Since when the client takes no bytes, though there are some; 0 where it does.
    stuck_since: AtomicU64,
    /// Whether what is carried has become a tunnel.
    is_tunnel: AtomicBool,
    /// Whether the client sends too much that asks for nothing.
    is_flooded: AtomicBool,
    /// Whether the client is sent messages that are not short, or something else.
    is_long: AtomicBool,
}

impl Stream {
    /// `first` was read from `line` before. A client of HTTP/2 may send so many `frames` that ask for nothing.
    pub(crate) fn new(
        line: Line,
        first: Bytes,
        spoken: Protocol,
        frames: u32,
        account: Arc<Account>,
        clock: Clock,
    ) -> Self {
        let now = clock.now().nanos();
        account.received(first.len());
        if let Some(socket) = line.socket().filter(|_| spoken == Protocol::Http1) {
            short::are_short(socket);
        }
        let wire = Wire {
            line,
            account,
            clock,
            moved: AtomicU64::new(now),
            has_heads: spoken == Protocol::Http1,
            head_since: AtomicU64::new(if first.is_empty() { 0 } else { now }),
            awaits_head: AtomicBool::new(true),
            stuck_since: AtomicU64::new(0),
            is_tunnel: AtomicBool::new(false),
            is_flooded: AtomicBool::new(false),
            is_long: AtomicBool::new(spoken != Protocol::Http1),
        };
        let frames = (spoken == Protocol::Http2).then(|| Frames::new(frames, now));
        Self { first, wire: Arc::new(wire), found: 0, frames }
    }

    /// What is read and written of `wire` from now on, where nobody else does and nothing is under way.
    pub(crate) fn again(wire: &Arc<Wire>) -> Self {
        Self { first: Bytes::new(), wire: Arc::clone(wire), found: 0, frames: None }
    }

    pub(crate) fn wire(&self) -> &Arc<Wire> {
        &self.wire
    }

    /// Enters bytes that go to the reader.
    fn enter(&mut self, bytes: &[u8]) -> io::Result<()> {
        let Some(frames) = &mut self.frames else { return Ok(()) };
        if frames.read(bytes, self.wire.moved()) {
            return Ok(());
        }
        self.wire.is_flooded.store(true, Relaxed);
        Err(io::ErrorKind::ConnectionAborted.into())
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

    /// Since when the client takes no bytes of an answer, in nanoseconds of the clock.
    pub(crate) fn stuck_since(&self) -> Option<u64> {
        match self.stuck_since.load(Relaxed) {
            since if since > 0 && !self.is_tunnel.load(Relaxed) => Some(since),
            _ => None,
        }
    }

    /// What is carried from now on is not HTTP/1's.
    pub(crate) fn becomes_tunnel(&self) {
        self.is_tunnel.store(self.has_heads, Relaxed);
    }

    /// Whether the client was cut off for what it sends and asks for nothing.
    pub(crate) fn is_flooded(&self) -> bool {
        self.is_flooded.load(Relaxed)
    }

    /// A message comes that is not short; said before its first byte is written.
    pub(crate) fn becomes_long(&self) {
        if let Some(socket) = self.line.socket().filter(|_| !self.is_long.swap(true, Relaxed)) {
            short::are_long(socket);
        }
    }

    /// A part of a head is here already, and its turn has come.
    pub(crate) fn head_begins(&self) {
        self.head_since.store(self.clock.now().nanos(), Relaxed);
    }

    /// No head is awaited while requests are under way.
    pub(crate) fn awaits_head(&self, awaits: bool) {
        self.awaits_head.store(awaits, Relaxed);
        self.head_since.store(0, Relaxed);
    }

    /// Whether the client has sent its end while it awaits an answer.
    pub(crate) fn awaits_answer_at_end(&self) -> bool {
        self.has_heads && !self.awaits_head.load(Relaxed) && self.line.is_at_end()
    }

    /// Ready when there is something to read, be it the end.
    pub(crate) fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<()> {
        // What is wrong is told to whoever reads.
        self.line.poll_readable(cx)
    }

    /// Waits until the connection breaks, without reading from it.
    pub(crate) async fn broken(&self) {
        self.line.broken().await;
    }

    /// Has the close be a reset: what was cut must not look complete.
    pub(crate) fn reset_on_close(&self) {
        self.line.reset_on_close();
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
        self.stuck_since.store(0, Relaxed);
    }

    /// Notes what became of a write.
    fn noted(&self, wrote: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        match &wrote {
            Poll::Pending if self.stuck_since.load(Relaxed) == 0 => {
                self.stuck_since.store(self.clock.now().nanos(), Relaxed);
            }
            Poll::Ready(Ok(bytes)) => self.written(*bytes),
            Poll::Pending | Poll::Ready(Err(_)) => {}
        }
        wrote
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if !self.first.is_empty() {
            let part = self.first.len().min(buf.remaining());
            let part = self.first.split_to(part);
            buf.put_slice(&part);
            if self.first.is_empty() {
                // Also an empty one holds the buffer that it is a part of.
                self.first = Bytes::new();
            }
            return Poll::Ready(self.enter(&part));
        }
        let (before, room) = (buf.filled().len(), buf.remaining());
        let Poll::Ready(read) = self.wire.line.poll_read(cx, buf) else {
            self.found = 0;
            return Poll::Pending;
        };
        read?;
        let read = &buf.filled()[before..];
        self.found += read.len();
        if (1..room).contains(&read.len()) && self.found <= SURE && !self.wire.is_tunnel.load(Relaxed) {
            self.wire.line.found_all();
        }
        self.wire.read(read.len());
        Poll::Ready(self.enter(read))
    }
}

impl AsyncWrite for Stream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let written = ready!(self.wire.noted(self.wire.line.poll_write(cx, buf)))?;
        if let Some(frames) = &mut self.frames {
            frames.wrote(&buf[..written]);
        }
        Poll::Ready(Ok(written))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = ready!(self.wire.noted(self.wire.line.poll_write_vectored(cx, bufs)))?;
        if let Some(frames) = &mut self.frames {
            frames.wrote_vectored(bufs, written);
        }
        Poll::Ready(Ok(written))
    }

    fn is_write_vectored(&self) -> bool {
        self.wire.line.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(self.wire.line.finish())
    }
}

/// Behind so few bytes that were read since there was nothing, and that did not fill the reader's room, there are no others that
/// the same edge has told of: what is redirected to a socket and what TCP brings lie behind each other only once a megabyte
/// waits, each message counted as a kilobyte (`weft_ebpf_logic::latch`). Half of all reads would find nothing.
const SURE: usize = 512;

#[cfg(test)]
mod tests;
