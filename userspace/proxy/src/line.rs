//! A connection to another process: its socket, or a stream inside mutual TLS that shares one.
//!
//! What serves and what asks is written once, over a line. It can be looked at while somebody else reads it, so everything
//! takes `&self`; whoever reads, writes and waits for the break must be one task each.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use futures_util::FutureExt as _;
use tokio::{
    io::{AsyncRead, AsyncWrite, Interest, ReadBuf},
    net::TcpStream,
    time::timeout,
};
use weft_transport::{Progress, Relayed, mux, relay, relay_inside};

use crate::observe::Security;

/// A connection to a client, or to an endpoint.
#[derive(Debug)]
pub(crate) enum Line {
    /// Within the node, or to who is not in the mesh.
    Plain(TcpStream),
    /// To a pod of another node.
    Sealed(mux::Stream),
}

impl Line {
    /// The socket, where nobody else's bytes are on it.
    pub(crate) fn socket(&self) -> Option<&TcpStream> {
        match self {
            Self::Plain(socket) => Some(socket),
            Self::Sealed(_) => None,
        }
    }

    /// How it is secured.
    pub(crate) fn security(&self) -> Security {
        match self {
            Self::Plain(_) => Security::None,
            Self::Sealed(_) => Security::MutualTls,
        }
    }

    /// Waits until there is something to read, or an end.
    pub(crate) async fn readable(&self) {
        match self {
            // An error is read again by whoever carries the bytes.
            Self::Plain(socket) => drop(socket.readable().await),
            Self::Sealed(stream) => stream.readable().await,
        }
    }

    /// As [`Line::readable`].
    pub(crate) fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<()> {
        match self {
            Self::Plain(socket) => socket.poll_read_ready(cx).map(drop),
            Self::Sealed(stream) => stream.poll_readable(cx),
        }
    }

    /// Waits until it breaks, without reading from it.
    pub(crate) async fn broken(&self) {
        match self {
            Self::Plain(socket) => broken(socket).await,
            Self::Sealed(stream) => drop(stream.broken().await),
        }
    }

    /// Whether the other end of a socket has sent its end: the kernel has to be asked whether there is still somebody. A
    /// stream says so by itself.
    pub(crate) fn is_at_end(&self) -> bool {
        let ready = self.socket().and_then(|socket| socket.ready(Interest::READABLE).now_or_never());
        ready.and_then(Result::ok).is_some_and(tokio::io::Ready::is_read_closed)
    }

    /// Has its close be a reset, or resets it now: what was cut must not look complete.
    pub(crate) fn reset_on_close(&self) {
        match self {
            Self::Plain(socket) => reset_on_close(socket),
            Self::Sealed(stream) => stream.reset(),
        }
    }

    /// Reads into `buf`; nothing at the end.
    ///
    /// A socket is read until it has nothing, unless whoever reads [knows better](Self::found_all). tokio takes a read that does not fill its buffer for the last, and waits for
    /// the next edge. What was redirected to a socket comes by itself, and what TCP brought may lie behind it, told of by
    /// the same edge.
    pub(crate) fn poll_read(&self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Plain(socket) => loop {
                ready!(socket.poll_read_ready(cx))?;
                match socket.try_read_buf(buf) {
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                    read => return Poll::Ready(read.map(drop)),
                }
            },
            Self::Sealed(stream) => stream.poll_read(cx, buf),
        }
    }

    /// The last read has found all that there was: the next one waits for the next edge. An end that is here already is
    /// told of all the same.
    pub(crate) fn found_all(&self) {
        if let Self::Plain(socket) = self {
            // tokio forgets the edge that it knows of, and none that has come since.
            let _ = socket.try_io(Interest::READABLE, || Err::<(), _>(io::ErrorKind::WouldBlock.into()));
        }
    }

    /// Writes what there is room for.
    pub(crate) fn poll_write(&self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self {
            Self::Plain(socket) => poll_write(socket, cx, || socket.try_write(bytes)),
            Self::Sealed(stream) => stream.poll_write(cx, bytes),
        }
    }

    /// As [`Line::poll_write`], of several parts.
    pub(crate) fn poll_write_vectored(
        &self,
        cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self {
            Self::Plain(socket) => poll_write(socket, cx, || socket.try_write_vectored(parts)),
            Self::Sealed(stream) => {
                let first = parts.iter().find(|part| !part.is_empty());
                stream.poll_write(cx, first.map_or(&[], |part| part))
            }
        }
    }

    /// Says that nothing more comes.
    pub(crate) fn finish(&self) -> io::Result<()> {
        match self {
            Self::Plain(socket) => match rustix::net::shutdown(socket, rustix::net::Shutdown::Write) {
                // Whoever is gone needs not be told.
                Err(rustix::io::Errno::NOTCONN) | Ok(()) => Ok(()),
                Err(error) => Err(error.into()),
            },
            Self::Sealed(stream) => {
                stream.finish();
                Ok(())
            }
        }
    }

    /// Carries its bytes to and from `left`, as [`relay`] does.
    pub(crate) async fn relay(self, left: TcpStream, idle: Duration, progress: &Progress) -> Relayed {
        match self {
            Self::Plain(socket) => relay(left, socket, idle, progress).await,
            Self::Sealed(stream) => relay_inside(left, stream, idle, progress).await,
        }
    }
}

/// Waits until a socket breaks, without reading from it.
async fn broken(socket: &TcpStream) {
    let error = socket.async_io(Interest::ERROR, || {
        let pending = socket.take_error()?;
        pending.ok_or_else(|| io::ErrorKind::WouldBlock.into())
    });
    drop(error.await);
}

/// Whether a socket broke before it was looked at. Its client's next connection may have its addresses, and what the kernel has
/// written for these is that one's by now.
pub(crate) fn is_broken(socket: &TcpStream) -> bool {
    !matches!(socket.take_error(), Ok(None))
}

/// As [`is_broken`], where the reset may be on its way.
pub(crate) async fn breaks(socket: &TcpStream) -> bool {
    is_broken(socket) || timeout(ON_ITS_WAY, broken(socket)).await.is_ok()
}

/// How long a reset may take from a pod to a socket in the same pod.
const ON_ITS_WAY: Duration = Duration::from_millis(20);

/// Has the close of `socket` be a reset.
pub(crate) fn reset_on_close(socket: &TcpStream) {
    // It cannot fail on a TCP socket; if it did, the close would be an ordinary one.
    let _ = rustix::net::sockopt::set_socket_linger(socket, Some(Duration::ZERO));
}

/// Writes when the socket takes bytes.
fn poll_write(
    socket: &TcpStream,
    cx: &mut Context<'_>,
    mut write: impl FnMut() -> io::Result<usize>,
) -> Poll<io::Result<usize>> {
    loop {
        ready!(socket.poll_write_ready(cx))?;
        match write() {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            written => return Poll::Ready(written),
        }
    }
}

impl AsyncRead for Line {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Self::poll_read(&self, cx, buf)
    }
}

impl AsyncWrite for Line {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Self::poll_write(&self, cx, bytes)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Self::poll_write_vectored(&self, cx, parts)
    }

    /// A stream takes one part at a time: whoever asks puts small ones together.
    fn is_write_vectored(&self) -> bool {
        self.socket().is_some()
    }

    /// Both send by themselves what was written.
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(self.finish())
    }
}
