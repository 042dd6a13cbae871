//! Bytes between the socket and the reader: judged and not fetched yet, or not judged.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use tokio::io::{AsyncRead, ReadBuf};

use super::super::guard::{Exchange, Guard, Judged, Rest};

/// Most of the time it is empty: whole heads and bodies are judged in the reader's own buffer.
#[derive(Debug, Default)]
pub(super) struct Withheld {
    bytes: Vec<u8>,
    /// So many of them the reader has.
    delivered: usize,
    /// So many of them it may have.
    judged: usize,
}

impl Withheld {
    pub(super) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    pub(super) fn has_judged(&self) -> bool {
        self.judged > self.delivered
    }

    /// Keeps what was read into the reader's buffer and is not its own yet.
    pub(super) fn keep(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// Gives the reader what fits of what is judged. Returns whether that was anything.
    pub(super) fn deliver(&mut self, buf: &mut ReadBuf<'_>) -> bool {
        let fits = (self.judged - self.delivered).min(buf.remaining());
        buf.put_slice(&self.bytes[self.delivered..self.delivered + fits]);
        self.delivered += fits;
        if self.delivered == self.judged && fits > 0 {
            self.bytes.drain(..self.judged);
            (self.delivered, self.judged) = (0, 0);
            if self.bytes.is_empty() && self.bytes.capacity() > KEPT {
                self.bytes = Vec::new();
            }
        }
        fits > 0
    }

    /// Judges what is not judged. With nothing there it says what is with the next byte.
    pub(super) fn judge(&mut self, guard: &mut Guard, exchange: &mut Exchange) -> Rest {
        let Judged { pass, rest } = guard.judge(&self.bytes[self.judged..], exchange);
        self.judged += pass;
        rest
    }

    /// Reads behind what is there. Returns how much.
    pub(super) fn read_on(
        &mut self,
        io: Pin<&mut impl AsyncRead>,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        let before = self.bytes.len();
        self.bytes.resize(before + READ, 0);
        let mut buf = ReadBuf::new(&mut self.bytes[before..]);
        let result = io.poll_read(cx, &mut buf);
        let read = buf.filled().len();
        self.bytes.truncate(before + read);
        ready!(result)?;
        Poll::Ready(Ok(read))
    }
}

/// Bytes of one read.
const READ: usize = 4 << 10;

/// A buffer larger than this is given back when it is empty: idle connections are many.
const KEPT: usize = 8 << 10;
