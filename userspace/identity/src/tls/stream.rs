//! An authenticated connection.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
};

use tokio::io::{AsyncBufRead, AsyncRead, AsyncWrite, ReadBuf};

use super::Proof;
use crate::Peer;

/// A byte stream inside mutual TLS. Reading to the end without the peer's closing word is an error: a cut connection
/// cannot be taken for a finished one. Shutting it down says that word and closes the one direction.
#[derive(Debug)]
pub struct TlsStream<IO> {
    pub(super) tls: tokio_rustls::TlsStream<IO>,
    pub(super) proof: Proof,
}

impl<IO> TlsStream<IO> {
    /// Who is at the other end. What its policies are is asked of this, for as long as the connection lives.
    pub fn peer(&self) -> &Peer {
        self.proof.peer()
    }

    /// What it was opened with.
    pub fn proof(&self) -> &Proof {
        &self.proof
    }

    /// The stream that carries the TLS, for looking at.
    pub fn carrier(&self) -> &IO {
        self.tls.get_ref().0
    }

    /// The key exchange and the cipher suite, as IANA names them.
    pub fn cryptography(&self) -> (String, String) {
        let state = self.tls.get_ref().1;
        let group = state.negotiated_key_exchange_group().map(|group| format!("{:?}", group.name()));
        let suite = state.negotiated_cipher_suite().map(|suite| format!("{:?}", suite.suite()));
        (group.unwrap_or_default(), suite.unwrap_or_default())
    }
}

impl<IO: AsyncRead + AsyncWrite + Unpin> AsyncRead for TlsStream<IO> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tls).poll_read(context, buffer)
    }
}

/// What one record has brought, without a copy of it.
impl<IO: AsyncRead + AsyncWrite + Unpin> AsyncBufRead for TlsStream<IO> {
    fn poll_fill_buf(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<&[u8]>> {
        Pin::new(&mut self.get_mut().tls).poll_fill_buf(context)
    }

    fn consume(mut self: Pin<&mut Self>, bytes: usize) {
        Pin::new(&mut self.tls).consume(bytes);
    }
}

impl<IO: AsyncRead + AsyncWrite + Unpin> AsyncWrite for TlsStream<IO> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.tls).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.tls).poll_write_vectored(context, parts)
    }

    fn is_write_vectored(&self) -> bool {
        self.tls.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tls).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tls).poll_shutdown(context)
    }
}
