//! The agent of this node, asked over its unix socket.

use std::{
    io,
    path::{Path, PathBuf},
};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::{Method, Request, client::conn::http1, header};
use hyper_util::rt::TokioIo;
use serde::{Serialize, de::DeserializeOwned};
use tokio::net::UnixStream;
use weft_telemetry::api::{Attached, Attachment, Failure, Sandboxes};

pub(crate) struct Agent {
    socket: PathBuf,
}

/// Why the agent has not done what it was asked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unheard {
    /// Nobody answers there.
    #[error("the agent of this node does not answer at {socket}: {source}")]
    Away { socket: PathBuf, source: io::Error },
    /// It answers that it could not.
    #[error("{0}")]
    Failed(Failure),
    /// It answers in other words.
    #[error("the agent of this node answers what is not understood ({0}): it may be of another version")]
    Odd(String),
}

impl Agent {
    pub(crate) fn at(socket: &Path) -> Self {
        Self { socket: socket.to_owned() }
    }

    pub(crate) async fn attach(&self, attachment: &Attachment) -> Result<Attached, Unheard> {
        self.ask("/v1/runtime/attach", attachment).await
    }

    pub(crate) async fn attached(&self, attachment: &Attachment) -> Result<Attached, Unheard> {
        self.ask("/v1/runtime/attached", attachment).await
    }

    pub(crate) async fn detach(&self, sandboxes: &Sandboxes) -> Result<(), Unheard> {
        self.ask("/v1/runtime/detach", sandboxes).await
    }

    pub(crate) async fn keep(&self, sandboxes: &Sandboxes) -> Result<(), Unheard> {
        self.ask("/v1/runtime/keep", sandboxes).await
    }

    async fn ask<T: DeserializeOwned>(&self, path: &str, question: &impl Serialize) -> Result<T, Unheard> {
        let away = |source| Unheard::Away { socket: self.socket.clone(), source };
        let broken = |error: hyper::Error| away(io::Error::other(error));
        let stream = UnixStream::connect(&self.socket).await.map_err(away)?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(broken)?;
        let question = serde_json::to_vec(question).expect("questions have string keys only");
        let request = Request::builder().method(Method::POST).uri(path).header(header::HOST, "agent");
        let request = request.header(header::CONTENT_TYPE, "application/json");
        let request = request.body(Full::new(Bytes::from(question))).expect("the paths are written above");
        let answer = async {
            let response = sender.send_request(request).await?;
            let status = response.status();
            Ok((status, response.into_body().collect().await?.to_bytes()))
        };
        let mut connection = std::pin::pin!(connection);
        let mut answer = std::pin::pin!(answer);
        let (status, body) = tokio::select! {
            answer = &mut answer => answer.map_err(broken)?,
            // What was answered just before it ended is an answer, too.
            ended = &mut connection => match ended {
                Ok(()) => answer.await.map_err(broken)?,
                Err(error) => return Err(broken(error)),
            },
        };
        if status.is_success() {
            return serde_json::from_slice(&body).map_err(|error| Unheard::Odd(error.to_string()));
        }
        Err(match serde_json::from_slice(&body) {
            Ok(failure) => Unheard::Failed(failure),
            Err(_) => Unheard::Odd(format!("{status} to {path}")),
        })
    }
}
