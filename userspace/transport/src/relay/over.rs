//! A relay whose right side is a stream inside a connection, such as TLS.

use std::future::{Future as _, poll_fn};
use std::io;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use rustix::net::sockopt::set_socket_linger;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite};
use tokio::net::TcpStream;
use tokio::select;

use super::buffer::Buffer;
use super::idle::Idle;
use super::way::{Broken, broken};
use super::{End, Ends, Pair, Progress, Relayed, Side};

/// A stream inside a connection.
pub trait Inside: AsyncRead + AsyncWrite + Unpin {
    /// Has it end so that the other end sees that it was cut, when it is dropped at the latest.
    fn reset(&mut self);

    /// What comes next; an empty one is the end. Who has it in a buffer already need not copy it.
    fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Buffer>>
    where
        Self: Sized,
    {
        let mut buffer = Buffer::take();
        ready!(read(cx, self, buffer.space()))?;
        Poll::Ready(Ok(buffer))
    }

    /// Ready once the other end has cut it, although it had ended before. Not all streams can tell.
    fn poll_reset(&mut self, _: &mut Context<'_>) -> Poll<io::Error> {
        Poll::Pending
    }
}

/// As [`relay`](super::relay()), with a right side inside a connection. Its end is the end that the stream says, not that
/// of the connection; whatever breaks the stream is passed on as a reset.
pub async fn relay_inside<S: Inside>(
    left: TcpStream,
    right: S,
    idle: Duration,
    progress: &Progress,
) -> Relayed {
    let mut pair = Pair { left, right, finished: false };
    let (clock, mut ends) = (Idle::new(idle), Ends::default());
    let outcome = select! {
        outcome = carry(&mut pair, progress, &clock, &mut ends) => outcome.map_err(Some),
        () = clock.reached() => Err(None),
    };
    pair.finished = outcome.is_ok();
    ends.after(outcome)
}

impl Inside for TcpStream {
    fn reset(&mut self) {
        // It cannot fail on a TCP socket; if it did, the close would be an ordinary one.
        let _ = set_socket_linger(self, Some(Duration::ZERO));
    }
}

async fn carry<S: Inside>(
    pair: &mut Pair<S>,
    progress: &Progress,
    clock: &Idle,
    ends: &mut Ends,
) -> Result<(), Broken> {
    let (left, right) = (&pair.left, &mut pair.right);
    let mut forth = Way::new(Side::Left, Side::Right, &progress.left_to_right, clock);
    let mut back = Way::new(Side::Right, Side::Left, &progress.right_to_left, clock);
    // Once a side has sent its end nobody reads from it any more, but it can still reset.
    let mut reset = pin!(broken(left));
    poll_fn(|cx| {
        // Each of them has to be asked, whatever the other one says.
        let forth = forth.poll(cx, |cx| Socket(left).poll_piece(cx), right);
        let back = back.poll(cx, |cx| right.poll_piece(cx), &mut Socket(left));
        let (forth, back) = match (forth, back) {
            (Poll::Ready(Err(error)), _) | (_, Poll::Ready(Err(error))) => return Poll::Ready(Err(error)),
            (forth, back) => (forth.map(drop), back.map(drop)),
        };
        ends.left = forth.is_ready().then_some(End::Eof);
        ends.right = back.is_ready().then_some(End::Eof);
        match (forth, back) {
            (Poll::Ready(()), Poll::Ready(())) => Poll::Ready(Ok(())),
            (Poll::Ready(()), Poll::Pending) => {
                reset.as_mut().poll(cx).map(|error| Err(Broken { side: Side::Left, error }))
            }
            (Poll::Pending, Poll::Ready(())) => {
                right.poll_reset(cx).map(|error| Err(Broken { side: Side::Right, error }))
            }
            (Poll::Pending, Poll::Pending) => Poll::Pending,
        }
    })
    .await
}

/// One of the two ways.
struct Way<'a> {
    from: Side,
    to: Side,
    bytes: &'a AtomicU64,
    clock: &'a Idle,
    /// What was read, and how much of it is written.
    held: Option<(Buffer, usize)>,
    state: State,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Carrying,
    /// Something was written since it was flushed last.
    Unflushed,
    Closing,
    Done,
}

impl<'a> Way<'a> {
    fn new(from: Side, to: Side, bytes: &'a AtomicU64, clock: &'a Idle) -> Self {
        Self { from, to, bytes, clock, held: None, state: State::Carrying }
    }

    /// Carries what there is; ready once the end of `from` is passed on.
    fn poll(
        &mut self,
        cx: &mut Context<'_>,
        mut from: impl FnMut(&mut Context<'_>) -> Poll<io::Result<Buffer>>,
        to: &mut (impl AsyncWrite + Unpin),
    ) -> Poll<Result<(), Broken>> {
        let (source, target) = (self.from, self.to);
        let source = |error| Broken { side: source, error };
        let target = |error| Broken { side: target, error };
        loop {
            if self.state == State::Done {
                return Poll::Ready(Ok(()));
            }
            if self.state == State::Closing {
                ready!(Pin::new(&mut *to).poll_shutdown(cx)).map_err(target)?;
                self.state = State::Done;
                continue;
            }
            if let Some((buffer, written)) = &mut self.held {
                let rest = &buffer.bytes()[*written..];
                let taken = ready!(Pin::new(&mut *to).poll_write(cx, rest)).map_err(target)?;
                self.state = State::Unflushed;
                self.bytes.fetch_add(taken as u64, Ordering::Relaxed);
                self.clock.touch();
                *written += taken;
                if *written == buffer.bytes().len() {
                    self.held = None;
                }
                continue;
            }
            match from(cx) {
                Poll::Pending if self.state == State::Unflushed => {
                    ready!(Pin::new(&mut *to).poll_flush(cx)).map_err(target)?;
                    self.state = State::Carrying;
                    return Poll::Pending;
                }
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Err(error)) => return Poll::Ready(Err(source(error))),
                Poll::Ready(Ok(buffer)) if buffer.bytes().is_empty() => self.state = State::Closing,
                Poll::Ready(Ok(buffer)) => {
                    self.clock.touch();
                    self.held = Some((buffer, 0));
                }
            }
        }
    }
}

/// Reads once into an empty vector that has room.
fn read(
    cx: &mut Context<'_>,
    from: &mut (impl AsyncRead + Unpin),
    into: &mut Vec<u8>,
) -> Poll<io::Result<usize>> {
    pin!(from.read_buf(into)).poll(cx)
}

/// A socket by reference, read until it has nothing: see the plain relay.
struct Socket<'a>(&'a TcpStream);

impl Socket<'_> {
    fn poll_piece(&self, cx: &mut Context<'_>) -> Poll<io::Result<Buffer>> {
        loop {
            ready!(self.0.poll_read_ready(cx))?;
            let mut buffer = Buffer::take();
            match self.0.try_read_buf(buffer.space()) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                read => return Poll::Ready(read.map(|_| buffer)),
            }
        }
    }
}

impl AsyncWrite for Socket<'_> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        loop {
            ready!(self.0.poll_write_ready(cx))?;
            match self.0.try_write(bytes) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                written => return Poll::Ready(written),
            }
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        match rustix::net::shutdown(self.0, rustix::net::Shutdown::Write) {
            // Whoever is gone needs not be told.
            Err(rustix::io::Errno::NOTCONN) | Ok(()) => Poll::Ready(Ok(())),
            Err(error) => Poll::Ready(Err(error.into())),
        }
    }
}
