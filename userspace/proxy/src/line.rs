//! A connection to another process's socket: bytes as they are, or a stream inside mutual TLS.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll, ready},
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};
use weft_transport::mux;

use crate::observe::Security;

/// A connection to an endpoint.
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
}

/// A plain socket is read until it has nothing.
///
/// tokio takes a read that does not fill its buffer for the last, and waits for the next edge. What was redirected to a
/// socket comes by itself, and what TCP brought may lie behind it, told of by the same edge.
impl AsyncRead for Line {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(socket) => loop {
                ready!(socket.poll_read_ready(cx))?;
                match socket.try_read_buf(buf) {
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                    read => return Poll::Ready(read.map(drop)),
                }
            },
            Self::Sealed(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Line {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(socket) => Pin::new(socket).poll_write(cx, bytes),
            Self::Sealed(stream) => Pin::new(stream).poll_write(cx, bytes),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(socket) => Pin::new(socket).poll_write_vectored(cx, parts),
            Self::Sealed(stream) => Pin::new(stream).poll_write_vectored(cx, parts),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Plain(socket) => socket.is_write_vectored(),
            Self::Sealed(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(socket) => Pin::new(socket).poll_flush(cx),
            Self::Sealed(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(socket) => Pin::new(socket).poll_shutdown(cx),
            Self::Sealed(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}
