//! One request and its answer, over any byte stream.

use bytes::Bytes;
use http::{Request, StatusCode};
use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum Broken {
    /// The request cannot be said.
    #[error("{0}")]
    Request(#[from] http::Error),
    /// The other end broke off, or does not speak HTTP.
    #[error("{0}")]
    Http(#[from] hyper::Error),
    /// It says more than it may.
    #[error("the answer is larger than {largest} bytes")]
    TooLarge {
        /// How much it may be.
        largest: usize,
    },
}

/// Sends `request` over `io`, and reads the answer, of at most `largest` bytes.
pub(crate) async fn exchange<IO>(
    io: IO,
    request: Request<Full<Bytes>>,
    largest: usize,
) -> Result<(StatusCode, Bytes), Broken>
where
    IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (mut sender, connection) = http1::handshake(TokioIo::new(io)).await?;
    let answer = async {
        let answer = sender.send_request(request).await?;
        let status = answer.status();
        let body = Limited::new(answer.into_body(), largest).collect().await;
        let body = body.map_err(|error| match error.downcast::<hyper::Error>() {
            Ok(source) => Broken::Http(*source),
            Err(other) => {
                debug_assert!(other.is::<LengthLimitError>(), "nothing else fails: {other}");
                Broken::TooLarge { largest }
            }
        })?;
        Ok((status, body.to_bytes()))
    };
    // Whoever drives the connection is dropped with the answer: nothing is left behind.
    let (mut answer, mut connection) = (std::pin::pin!(answer), std::pin::pin!(connection));
    tokio::select! {
        biased;
        done = &mut answer => done,
        // It may end before its last bytes were taken.
        _ = &mut connection => answer.await,
    }
}
