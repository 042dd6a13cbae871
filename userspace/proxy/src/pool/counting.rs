//! A server's HTTP/2 with its frames counted, as those of clients are.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    task::{Context, Poll, ready},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::Socket;
use crate::{clock::Clock, http2::Frames};

/// A socket that fails once its server has sent too much that answers nothing.
pub(super) struct Counting {
    socket: Socket,
    frames: Frames,
    clock: Clock,
    flooded: Flooded,
}

/// Whether a server was cut off for that.
#[derive(Clone, Default)]
pub(super) struct Flooded(Arc<AtomicBool>);

impl Counting {
    /// The server may be so many `frames` ahead.
    pub(super) fn new(socket: Socket, frames: u32, clock: Clock) -> Self {
        let frames = Frames::of_server(frames, clock.now().nanos());
        Self { socket, frames, clock, flooded: Flooded::default() }
    }

    pub(super) fn flooded(&self) -> Flooded {
        self.flooded.clone()
    }
}

impl Flooded {
    pub(super) fn is_so(&self) -> bool {
        self.0.load(Relaxed)
    }
}

impl AsyncRead for Counting {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buf.filled().len();
        ready!(Pin::new(&mut this.socket).poll_read(cx, buf))?;
        let within = this.frames.read(&buf.filled()[before..], this.clock.now().nanos());
        if !within {
            this.flooded.0.store(true, Relaxed);
        }
        Poll::Ready(if within { Ok(()) } else { Err(io::ErrorKind::ConnectionAborted.into()) })
    }
}

impl AsyncWrite for Counting {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = ready!(Pin::new(&mut this.socket).poll_write(cx, buf))?;
        this.frames.wrote(&buf[..written]);
        Poll::Ready(Ok(written))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = ready!(Pin::new(&mut this.socket).poll_write_vectored(cx, bufs))?;
        this.frames.wrote_vectored(bufs, written);
        Poll::Ready(Ok(written))
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().socket).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().socket).poll_shutdown(cx)
    }
}
