//! The relay between a connection and a stream inside another one.
#![expect(clippy::unwrap_used, reason = "a failed step fails the test")]

use std::io::{self, ErrorKind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use rustix::net::sockopt::set_socket_linger;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use weft_transport::{End, Inside, Progress, Relayed, relay_inside};

/// A stream that keeps what is written until it is flushed, as TLS may.
struct Lazy {
    socket: TcpStream,
    kept: Vec<u8>,
}

impl Inside for Lazy {
    fn reset(&mut self) {
        self.socket.reset();
    }
}

impl AsyncRead for Lazy {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_read(cx, buf)
    }
}

impl AsyncWrite for Lazy {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if self.kept.len() >= MOST {
            std::task::ready!(self.as_mut().poll_flush(cx))?;
        }
        self.kept.extend_from_slice(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.kept.is_empty() {
            let Self { socket, kept } = &mut *self;
            let written = std::task::ready!(Pin::new(socket).poll_write(cx, kept))?;
            self.kept.drain(..written);
        }
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        std::task::ready!(self.as_mut().poll_flush(cx))?;
        Pin::new(&mut self.socket).poll_shutdown(cx)
    }
}

struct Relaying {
    left: TcpStream,
    right: TcpStream,
    progress: Arc<Progress>,
    relay: JoinHandle<Relayed>,
}

impl Relaying {
    async fn start(idle: Duration) -> Self {
        let ((left, near), (right, far)) = (pair().await, pair().await);
        let progress = Arc::<Progress>::default();
        let counted = Arc::clone(&progress);
        let relay =
            async move { relay_inside(near, Lazy { socket: far, kept: Vec::new() }, idle, &counted).await };
        #[expect(clippy::disallowed_methods, reason = "the test awaits it")]
        let relay = tokio::spawn(relay);
        Self { left, right, progress, relay }
    }
}

async fn pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let connecting = TcpStream::connect(listener.local_addr().unwrap());
    let (connected, accepted) = tokio::join!(connecting, listener.accept());
    (connected.unwrap(), accepted.unwrap().0)
}

#[tokio::test]
async fn the_end_of_one_side_is_passed_on_and_the_other_way_goes_on() {
    for left_first in [true, false] {
        let Relaying { mut left, mut right, progress, relay } = Relaying::start(LONG).await;
        let (first, second) = if left_first { (&mut left, &mut right) } else { (&mut right, &mut left) };
        first.write_all(b"question").await.unwrap();
        first.shutdown().await.unwrap();
        let (mut question, mut answer) = (Vec::new(), Vec::new());
        second.read_to_end(&mut question).await.unwrap();
        second.write_all(b"answer").await.unwrap();
        second.shutdown().await.unwrap();
        first.read_to_end(&mut answer).await.unwrap();
        assert_eq!((&*question, &*answer), (&b"question"[..], &b"answer"[..]));
        assert!(matches!(relay.await.unwrap(), Relayed { left: End::Eof, right: End::Eof }));
        let bytes = (progress.left_to_right(), progress.right_to_left());
        assert_eq!(bytes, if left_first { (8, 6) } else { (6, 8) });
    }
}

#[tokio::test]
async fn a_reset_is_passed_on_behind_the_bytes_before_it() {
    for (left_first, ended) in [(true, false), (false, false), (true, true)] {
        let Relaying { mut left, mut right, relay, .. } = Relaying::start(LONG).await;
        if ended {
            left.shutdown().await.unwrap();
            assert_eq!(right.read(&mut [0]).await.unwrap(), 0);
        }
        let (mut first, mut second) = if left_first { (left, right) } else { (right, left) };
        if !ended {
            first.write_all(b"before").await.unwrap();
            second.read_exact(&mut [0; 6]).await.unwrap();
        }
        set_socket_linger(&first, Some(Duration::ZERO)).unwrap();
        drop(first);
        // An end that came before stays one; whatever is done next finds the reset.
        let end = loop {
            match second.write_all(b"x").await {
                Ok(()) => tokio::task::yield_now().await,
                Err(error) => break error.kind(),
            }
        };
        assert!(matches!(end, ErrorKind::ConnectionReset | ErrorKind::BrokenPipe), "{end:?}");
        let relayed = relay.await.unwrap();
        let one = if left_first { relayed.left } else { relayed.right };
        assert!(matches!(one, End::Reset), "{one:?}");
    }
}

#[tokio::test]
async fn a_large_body_arrives_whole_both_ways_at_once_and_silence_ends_it() {
    let Relaying { left, right, relay, .. } = Relaying::start(Duration::from_secs(2)).await;
    let through = |mut stream: TcpStream| async move {
        let (mut reader, mut writer) = stream.split();
        let bytes: Vec<u8> = (0..LARGE).map(|at: usize| u8::try_from(at % 251).unwrap()).collect();
        let mut back = vec![0; LARGE];
        let (wrote, read) = tokio::join!(writer.write_all(&bytes), reader.read_exact(&mut back));
        wrote.and(read).unwrap();
        assert!(bytes == back);
        stream
    };
    let (left, _right) = tokio::join!(through(left), through(right));
    assert!(matches!(relay.await.unwrap(), Relayed { left: End::Idle, right: End::Idle }));
    let mut left = left;
    assert_eq!(left.read(&mut [0]).await.unwrap_err().kind(), ErrorKind::ConnectionReset);
}

const LONG: Duration = Duration::from_mins(1);
const LARGE: usize = 8 << 20;
/// Bytes that it keeps.
const MOST: usize = 64 << 10;
