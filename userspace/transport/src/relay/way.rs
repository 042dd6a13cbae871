//! One of the two ways of a relay.

use std::future::poll_fn;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Poll, ready};

use tokio::io::{AsyncWriteExt as _, Interest};
use tokio::net::TcpStream;
use tokio::net::tcp::{ReadHalf, WriteHalf};

use super::Side;
use super::buffer::Buffer;
use super::idle::Idle;

pub(super) struct Way<'a> {
    pub from: Side,
    pub to: Side,
    pub bytes: &'a AtomicU64,
    pub clock: &'a Idle,
}

/// A side that cannot go on, and why.
#[derive(Debug)]
pub(super) struct Broken {
    pub side: Side,
    pub error: io::Error,
}

impl Way<'_> {
    /// Carries everything up to the end of `from`, and the end. Gives back the half that ended.
    pub(super) async fn carry<'s>(
        self,
        from: ReadHalf<'s>,
        mut to: WriteHalf<'_>,
    ) -> Result<ReadHalf<'s>, Broken> {
        let source = |error| Broken { side: self.from, error };
        let target = |error| Broken { side: self.to, error };
        loop {
            let buffer = read(&from).await.map_err(source)?;
            let mut rest = buffer.bytes();
            if rest.is_empty() {
                to.shutdown().await.map_err(target)?;
                return Ok(from);
            }
            self.clock.touch();
            while !rest.is_empty() {
                let taken = to.write(rest).await.map_err(target)?;
                self.bytes.fetch_add(taken as u64, Ordering::Relaxed);
                self.clock.touch();
                rest = &rest[taken..];
            }
        }
    }
}

/// Waits for bytes without a buffer; takes one only for the moment in which they are there.
///
/// tokio takes a read that does not fill its buffer for the last, and waits for the next edge. What was redirected to a
/// socket comes by itself, and what TCP brought may lie behind it, told of by the same edge.
async fn read(from: &ReadHalf<'_>) -> io::Result<Buffer> {
    poll_fn(|context| {
        loop {
            ready!(from.as_ref().poll_read_ready(context))?;
            let mut buffer = Buffer::take();
            match from.try_read_buf(buffer.space()) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                read => return Poll::Ready(read.map(|_| buffer)),
            }
        }
    })
    .await
}

/// Waits until the connection breaks, without reading from it.
pub(super) async fn broken(stream: &TcpStream) -> io::Error {
    let error = stream.async_io(Interest::ERROR, || {
        let pending = stream.take_error()?;
        pending.ok_or_else(|| io::ErrorKind::WouldBlock.into())
    });
    error.await.unwrap_or_else(|error| error)
}
