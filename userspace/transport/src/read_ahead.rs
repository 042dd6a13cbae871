//! A socket that is read in large pieces, for who takes small ones.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use crate::relay::Buffer;

/// A socket whose bytes come from a buffer that one system call has filled, which is only held while bytes are in it. TLS
/// asks for 4 KiB at a time, four times for a record.
#[derive(Debug)]
pub struct ReadAhead {
    socket: TcpStream,
    /// What was read, and how much of it is taken.
    held: Option<(Buffer, usize)>,
}

impl ReadAhead {
    /// Of a socket of which `first` was read already.
    pub fn new(socket: TcpStream, first: &[u8]) -> Self {
        let held = (!first.is_empty()).then(|| {
            let mut buffer = Buffer::take();
            buffer.space().extend_from_slice(first);
            (buffer, 0)
        });
        Self { socket, held }
    }

    /// The socket, for looking at.
    pub fn socket(&self) -> &TcpStream {
        &self.socket
    }
}

impl AsyncRead for ReadAhead {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if this.held.is_none() {
            let mut buffer = Buffer::take();
            let space = buffer.space();
            let read = {
                let mut read = std::pin::pin!(tokio::io::AsyncReadExt::read_buf(&mut this.socket, space));
                ready!(read.as_mut().poll(cx))?
            };
            if read == 0 {
                return Poll::Ready(Ok(()));
            }
            this.held = Some((buffer, 0));
        }
        let Some((buffer, taken)) = &mut this.held else { return Poll::Pending };
        let rest = &buffer.bytes()[*taken..];
        let part = rest.len().min(buf.remaining());
        buf.put_slice(&rest[..part]);
        *taken += part;
        if *taken == buffer.bytes().len() {
            this.held = None;
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for ReadAhead {
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
