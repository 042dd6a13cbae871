//! A connection to another process's socket: bytes as they are, or inside mutual TLS.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};
use weft_identity::TlsStream;
use weft_transport::Inside;

use crate::observe::Security;

/// A connection to an endpoint.
#[derive(Debug)]
pub(crate) enum Line {
    /// Within the node, or to who is not in the mesh.
    Plain(TcpStream),
    /// To a pod of another node. Boxed: most are plain.
    Sealed(Box<Sealed<TcpStream>>),
}

/// Mutual TLS over a socket.
#[derive(Debug)]
pub(crate) struct Sealed<IO>(pub TlsStream<IO>);

/// A socket of which the first bytes were read already.
#[derive(Debug)]
pub(crate) struct Rewound {
    first: Bytes,
    pub socket: TcpStream,
}

/// Something over a socket.
pub(crate) trait Carried: AsyncRead + AsyncWrite + Unpin {
    fn socket(&self) -> &TcpStream;
}

impl Line {
    /// The socket.
    pub(crate) fn socket(&self) -> &TcpStream {
        match self {
            Self::Plain(socket) => socket,
            Self::Sealed(sealed) => sealed.carrier(),
        }
    }

    /// How it is secured.
    pub(crate) fn security(&self) -> Security {
        match self {
            Self::Plain(_) => Security::None,
            Self::Sealed(_) => Security::MutualTls,
        }
    }
}

impl Rewound {
    pub(crate) fn new(first: Bytes, socket: TcpStream) -> Self {
        Self { first, socket }
    }
}

impl Carried for TcpStream {
    fn socket(&self) -> &TcpStream {
        self
    }
}

impl Carried for Rewound {
    fn socket(&self) -> &TcpStream {
        &self.socket
    }
}

impl<IO: Carried> Inside for Sealed<IO> {
    fn carrier(&self) -> &TcpStream {
        self.0.carrier().socket()
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
            Self::Sealed(sealed) => Pin::new(&mut sealed.0).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Line {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(socket) => Pin::new(socket).poll_write(cx, bytes),
            Self::Sealed(sealed) => Pin::new(&mut sealed.0).poll_write(cx, bytes),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(socket) => Pin::new(socket).poll_write_vectored(cx, parts),
            Self::Sealed(sealed) => Pin::new(&mut sealed.0).poll_write_vectored(cx, parts),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Plain(socket) => socket.is_write_vectored(),
            Self::Sealed(sealed) => sealed.0.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(socket) => Pin::new(socket).poll_flush(cx),
            Self::Sealed(sealed) => Pin::new(&mut sealed.0).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(socket) => Pin::new(socket).poll_shutdown(cx),
            Self::Sealed(sealed) => Pin::new(&mut sealed.0).poll_shutdown(cx),
        }
    }
}

impl<IO: Carried> AsyncRead for Sealed<IO> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl<IO: Carried> AsyncWrite for Sealed<IO> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

impl AsyncRead for Rewound {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.first.is_empty() {
            return Pin::new(&mut self.socket).poll_read(cx, buf);
        }
        let part = self.first.len().min(buf.remaining());
        buf.put_slice(&self.first.split_to(part));
        if self.first.is_empty() {
            // Also an empty one holds the buffer that it is a part of.
            self.first = Bytes::new();
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Rewound {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.socket).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.socket).poll_write_vectored(cx, parts)
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(cx)
    }
}
