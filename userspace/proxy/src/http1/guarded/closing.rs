//! How a connection ends: with an answer where one is due, and so that the answer arrives.

use std::{
    future::Future as _,
    io,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Sleep, sleep},
};

/// How far the end has come.
#[derive(Debug, Default)]
pub(super) enum Closing {
    /// It has not begun.
    #[default]
    Open,
    /// So much of the answer is written.
    Answering { answer: Vec<u8>, written: usize },
    /// The answer is on its way; the client may still be sending.
    Shutting,
    /// What it sends is dropped until it is done, or for long enough. A close before that is a reset, and a reset takes
    /// the answer with it.
    Lingering { left: usize, until: Pin<Box<Sleep>> },
    /// Over.
    Done,
}

impl Closing {
    /// The end of a connection whose client gets this answer.
    pub(super) fn with(answer: Vec<u8>) -> Self {
        Self::Answering { answer, written: 0 }
    }

    /// Goes on with the end.
    pub(super) fn poll<IO: AsyncRead + AsyncWrite>(
        &mut self,
        mut io: Pin<&mut IO>,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            match self {
                Self::Open => {
                    ready!(io.as_mut().poll_shutdown(cx))?;
                    *self = Self::Done;
                }
                Self::Answering { answer, written } if *written < answer.len() => {
                    match ready!(io.as_mut().poll_write(cx, &answer[*written..]))? {
                        0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                        more => *written += more,
                    }
                }
                Self::Answering { .. } => *self = Self::Shutting,
                Self::Shutting => {
                    ready!(io.as_mut().poll_shutdown(cx))?;
                    *self = Self::Lingering { left: LINGER_BYTES, until: Box::pin(sleep(LINGER)) };
                }
                Self::Lingering { left, until } => {
                    if until.as_mut().poll(cx).is_pending() && *left > 0 {
                        let read = ready!(drop_some(io.as_mut(), cx))?;
                        *left = left.saturating_sub(read);
                        if read > 0 {
                            continue;
                        }
                    }
                    *self = Self::Done;
                }
                Self::Done => return Poll::Ready(Ok(())),
            }
        }
    }
}

/// Reads and forgets. Returns how much; nothing at the end, also if the client ended it the hard way.
fn drop_some(io: Pin<&mut impl AsyncRead>, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
    let mut bytes = [0; 4 << 10];
    let mut buf = ReadBuf::new(&mut bytes);
    let result = ready!(io.poll_read(cx, &mut buf));
    Poll::Ready(Ok(result.map_or(0, |()| buf.filled().len())))
}

const LINGER: Duration = Duration::from_secs(1);
const LINGER_BYTES: usize = 1 << 20;
