//! What a connection of HTTP/2 writes in one turn of its task goes out together.
//!
//! h2 hands over each DATA frame of 256 bytes or more by itself and flushes in between, so with many streams each answer is
//! a system call, and wakes its reader. Here frames are held until the task has had its turn:
//!
//! ```text
//! hyper, h2 ──write──► held ──after the turn: Together::poll──► socket
//!                       └─ no room: what is held goes first; what is larger than all room goes past it
//! ```
//!
//! # Bounds
//! [`BUFFER`] bytes a connection, which it has only while the socket does not take them.

use std::{
    cell::RefCell,
    io::{self, IoSlice},
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, ready},
};

use hyper::rt::Executor;
use pin_project_lite::pin_project;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use weft_transport::{BUFFER, Buffer};

use crate::worker::Tasks;

/// A connection's socket, to be read and written within [`Together`].
pub(crate) struct Gathered<S>(Rc<RefCell<Held<S>>>);

pin_project! {
    /// A connection, and the end of each of its turns.
    pub(crate) struct Together<C, S> {
        #[pin]
        connection: C,
        held: Rc<RefCell<Held<S>>>,
    }
}

/// Ends the turns of the connection that has the [`Gathered`].
pub(crate) struct Turn<S>(Rc<RefCell<Held<S>>>);

/// Runs what hyper spawns for a connection to a server: one task that reads and writes, and those of its streams.
pub(crate) struct Spawns<S> {
    tasks: Tasks,
    turn: Turn<S>,
}

struct Held<S> {
    socket: S,
    /// Bytes that are not written, but for the first `written` of them.
    buffer: Option<Buffer>,
    written: usize,
    /// Whether the task whose turn it is has anything to do with the socket.
    used: bool,
    /// Why bytes were lost that seemed to be written.
    failed: Option<io::ErrorKind>,
}

/// The two ends of holding what is written to `socket`.
pub(crate) fn gather<S>(socket: S) -> (Gathered<S>, Turn<S>) {
    let held = Rc::new(RefCell::new(Held { socket, buffer: None, written: 0, used: false, failed: None }));
    (Gathered(Rc::clone(&held)), Turn(held))
}

impl<S> Clone for Turn<S> {
    fn clone(&self) -> Self {
        Self(Rc::clone(&self.0))
    }
}

impl<S> Clone for Spawns<S> {
    fn clone(&self) -> Self {
        Self { tasks: self.tasks.clone(), turn: self.turn.clone() }
    }
}

impl<S> Spawns<S> {
    /// On `tasks`.
    pub(crate) fn new(tasks: Tasks, turn: Turn<S>) -> Self {
        Self { tasks, turn }
    }
}

impl<S, F> Executor<F> for Spawns<S>
where
    S: AsyncWrite + Unpin + 'static,
    F: Future<Output = ()> + 'static,
{
    fn execute(&self, work: F) {
        self.tasks.execute(self.turn.clone().of(work));
    }
}

impl<S> Turn<S> {
    /// `connection`, which has the other end.
    pub(crate) fn of<C>(self, connection: C) -> Together<C, S> {
        Together { connection, held: self.0 }
    }
}

impl<C, S> Together<C, S> {
    /// The connection.
    pub(crate) fn connection(self: Pin<&mut Self>) -> Pin<&mut C> {
        self.project().connection
    }
}

impl<C: Future, S: AsyncWrite + Unpin> Future for Together<C, S> {
    type Output = C::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<C::Output> {
        let this = self.project();
        let polled = this.connection.poll(cx);
        let mut held = this.held.borrow_mut();
        // A socket wakes one task: the one that writes to it.
        if !std::mem::take(&mut held.used) {
            return polled;
        }
        if let Poll::Ready(Err(error)) = held.poll_written(cx) {
            (held.failed, held.buffer) = (Some(error.kind()), None);
            // The connection is told in its next turn.
            cx.waker().wake_by_ref();
        }
        polled
    }
}

impl<S: AsyncWrite + Unpin> Held<S> {
    fn enter(&mut self) -> io::Result<()> {
        self.used = true;
        self.failed.map_or(Ok(()), |kind| Err(kind.into()))
    }

    /// Ready once nothing is held.
    fn poll_written(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while let Some(buffer) = &self.buffer {
            let rest = &buffer.bytes()[self.written..];
            match ready!(Pin::new(&mut self.socket).poll_write(cx, rest))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                all if all == rest.len() => (self.buffer, self.written) = (None, 0),
                part => self.written += part,
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Takes all of `parts`, or as much as the socket does where that is more than can be held.
    fn poll_take(&mut self, cx: &mut Context<'_>, parts: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        self.enter()?;
        let all: usize = parts.iter().map(|part| part.len()).sum();
        if all > self.buffer.as_ref().map_or(BUFFER, Buffer::room) {
            ready!(self.poll_written(cx))?;
        }
        if all > BUFFER {
            return Pin::new(&mut self.socket).poll_write_vectored(cx, parts);
        }
        if all > 0 {
            let space = self.buffer.get_or_insert_with(Buffer::take).space();
            for part in parts {
                space.extend_from_slice(part);
            }
        }
        Poll::Ready(Ok(all))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Gathered<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let mut held = self.0.borrow_mut();
        held.used = true;
        Pin::new(&mut held.socket).poll_read(cx, buf)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Gathered<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.0.borrow_mut().poll_take(cx, &[IoSlice::new(buf)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.0.borrow_mut().poll_take(cx, parts)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    /// Whoever flushes goes on with its turn: the bytes go at its end.
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(self.0.borrow_mut().enter())
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut held = self.0.borrow_mut();
        held.enter()?;
        ready!(held.poll_written(cx))?;
        Pin::new(&mut held.socket).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use proptest::prelude::*;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, duplex};

    use super::*;

    /// A connection that writes `pieces`, flushes after each, and shuts down.
    async fn writes(mut socket: Gathered<impl AsyncWrite + Unpin>, pieces: Vec<Vec<u8>>) -> io::Result<()> {
        for piece in pieces {
            socket.write_all(&piece).await?;
            socket.flush().await?;
        }
        socket.shutdown().await
    }

    fn run<T>(test: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(test)
    }

    #[test]
    fn nothing_is_written_before_the_turn_is_over_and_then_all_of_it() {
        run(async {
            let (near, mut far) = duplex(BUFFER);
            let (mut socket, turn) = gather(near);
            let work = async move {
                for piece in [&b"one"[..], b"two", b"three"] {
                    socket.write_all(piece).await.unwrap();
                    socket.flush().await.unwrap();
                }
                let mut early = [0];
                let read = poll_fn(|cx| {
                    Poll::Ready(Pin::new(&mut far).poll_read(cx, &mut ReadBuf::new(&mut early)))
                });
                assert!(read.await.is_pending(), "a byte was early");
                (socket, far)
            };
            let (_socket, mut far) = turn.of(Box::pin(work)).await;
            let mut all = [0; 11];
            far.read_exact(&mut all).await.unwrap();
            assert_eq!(&all, b"onetwothree");
        });
    }

    #[test]
    fn a_connection_whose_socket_has_failed_is_told_although_its_bytes_were_taken() {
        let told = run(async {
            let (near, far) = duplex(16);
            drop(far);
            let (mut socket, turn) = gather(near);
            let work = async move {
                socket.write_all(b"lost").await?;
                // The turn ends here.
                tokio::task::yield_now().await;
                socket.flush().await
            };
            turn.of(Box::pin(work)).await
        });
        assert_eq!(told.unwrap_err().kind(), io::ErrorKind::BrokenPipe);
    }

    proptest! {
        #[test]
        fn bytes_arrive_in_order_whatever_their_pieces_and_however_little_the_socket_takes(
            sizes in prop::collection::vec(1_usize..3 * BUFFER, 1..12),
            takes in 1_usize..2 * BUFFER,
        ) {
            let piece = |(number, size): (usize, &usize)| vec![u8::try_from(number).unwrap(); *size];
            let pieces: Vec<_> = sizes.iter().enumerate().map(piece).collect();
            let whole = pieces.concat();
            let got = run(async {
                let (near, mut far) = duplex(takes);
                let (socket, turn) = gather(near);
                let mut got = Vec::new();
                let (wrote, read) = tokio::join!(turn.of(Box::pin(writes(socket, pieces))), far.read_to_end(&mut got));
                wrote.unwrap();
                read.unwrap();
                got
            });
            prop_assert!(got == whole);
        }
    }
}
