//! Asks an agent over its unix socket.

use std::{
    convert::Infallible,
    io,
    path::{Path, PathBuf},
};

use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper::{Method, Request, Response, body::Incoming, client::conn::http1};
use hyper_util::rt::TokioIo;
use serde::{Serialize, de::DeserializeOwned};
use tokio::net::UnixStream;
use weft_runtime::Tasks;
use weft_telemetry::{
    admin::SOCKET,
    api::{Failure, FlowLine},
};

use crate::Error;

/// An agent's API.
#[derive(Debug)]
pub(crate) struct Client {
    socket: PathBuf,
    connections: Tasks,
}

/// Flows, as they come.
#[derive(Debug)]
pub(crate) struct Lines<'a> {
    client: &'a Client,
    body: Incoming,
    buffer: Vec<u8>,
}

impl Client {
    /// The agent whose run directory this is. Nothing is asked yet.
    pub(crate) fn new(run_dir: &Path) -> Self {
        Self::at(run_dir.join(SOCKET))
    }

    /// Whoever answers at `socket`. Nothing is asked yet.
    pub(crate) fn at(socket: PathBuf) -> Self {
        Self { socket, connections: Tasks::new() }
    }

    /// Asks for `path`, whose answer is words; and whether they mean yes.
    pub(crate) async fn words(&self, path: &str) -> Result<(bool, String), Error> {
        let response = self.send(Method::GET, path).await?;
        let yes = response.status().is_success();
        Ok((yes, String::from_utf8_lossy(&self.body(response).await?).into_owned()))
    }

    /// Asks for `path`.
    pub(crate) async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, Error> {
        self.answer(Method::GET, path).await
    }

    /// Asks for `path` with `query`.
    pub(crate) async fn query<T: DeserializeOwned>(
        &self,
        path: &str,
        query: &impl Serialize,
    ) -> Result<T, Error> {
        self.answer(Method::GET, &with_query(path, query)).await
    }

    /// Asks the agent to do `path`.
    pub(crate) async fn post<T: DeserializeOwned>(&self, path: &str) -> Result<T, Error> {
        self.answer(Method::POST, path).await
    }

    /// Asks for `path` with `query`, whose answer has many lines.
    pub(crate) async fn lines(&self, path: &str, query: &impl Serialize) -> Result<Lines<'_>, Error> {
        let path = with_query(path, query);
        let response = self.send(Method::GET, &path).await?;
        if response.status().is_success() {
            return Ok(Lines { client: self, body: response.into_body(), buffer: Vec::new() });
        }
        Err(self.refusal(response, &path).await?)
    }

    async fn answer<T: DeserializeOwned>(&self, method: Method, path: &str) -> Result<T, Error> {
        let response = self.send(method, path).await?;
        if !response.status().is_success() {
            return Err(self.refusal(response, path).await?);
        }
        parse(path, &self.body(response).await?)
    }

    async fn refusal(&self, response: Response<Incoming>, path: &str) -> Result<Error, Error> {
        let status = response.status();
        let body = self.body(response).await?;
        let failure = serde_json::from_slice(&body).unwrap_or_else(|_| {
            let text = String::from_utf8_lossy(&body);
            let remedy = "is the agent of another version than this command?";
            Failure::new(format!("the agent answers {status} to {path}: {}", text.trim()), remedy)
        });
        Ok(Error::Refused(failure))
    }

    async fn body(&self, response: Response<Incoming>) -> Result<Bytes, Error> {
        let collected = response.into_body().collect().await;
        collected.map(http_body_util::Collected::to_bytes).map_err(|source| self.interrupted(source))
    }

    async fn send(&self, method: Method, path: &str) -> Result<Response<Incoming>, Error> {
        let stream = UnixStream::connect(&self.socket).await.map_err(|source| self.unreachable(source))?;
        let (mut sender, connection) =
            http1::handshake(TokioIo::new(stream)).await.map_err(|source| self.interrupted(source))?;
        self.connections.spawn("connection", async {
            let _ = connection.await; // who waits for the answer learns of it, too
            Ok::<_, Infallible>(())
        });
        let request = Request::builder().method(method).uri(path).header("host", "agent");
        let request = request.body(Empty::<Bytes>::new()).expect("paths are built from checked names");
        sender.send_request(request).await.map_err(|source| self.interrupted(source))
    }

    fn unreachable(&self, source: io::Error) -> Error {
        let socket = self.socket.clone();
        match source.kind() {
            io::ErrorKind::PermissionDenied => Error::NotPermitted { socket, source },
            _ => Error::NoAgent { socket, source },
        }
    }

    fn interrupted(&self, source: hyper::Error) -> Error {
        Error::Interrupted { socket: self.socket.clone(), source }
    }
}

impl Lines<'_> {
    /// The next line; `None` at the end.
    pub(crate) async fn next(&mut self) -> Result<Option<FlowLine>, Error> {
        loop {
            if let Some(end) = self.buffer.iter().position(|&byte| byte == b'\n') {
                let line: Vec<u8> = self.buffer.drain(..=end).collect();
                return parse("flows", &line).map(Some);
            }
            match self.body.frame().await {
                Some(Ok(frame)) => self.buffer.extend(frame.into_data().unwrap_or_default()),
                Some(Err(source)) => return Err(self.client.interrupted(source)),
                None => return Ok(None),
            }
        }
    }
}

fn with_query(path: &str, query: &impl Serialize) -> String {
    let query = serde_urlencoded::to_string(query).expect("queries are flat structs");
    format!("{path}?{query}")
}

fn parse<T: DeserializeOwned>(question: &str, text: &[u8]) -> Result<T, Error> {
    serde_json::from_slice(text).map_err(|source| Error::Answer { question: question.to_owned(), source })
}
