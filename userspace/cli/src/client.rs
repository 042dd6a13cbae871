//! Asks an agent: over its unix socket, or over a stream into its pod.

use std::{
    convert::Infallible,
    path::{Path, PathBuf},
};

use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper::{Method, Request, Response, body::Incoming, client::conn::http1};
use hyper_util::rt::TokioIo;
use serde::{Serialize, de::DeserializeOwned};
use tokio::sync::Mutex;
use weft_kubernetes::{AgentPod, Cluster, Said};
use weft_runtime::Tasks;
use weft_telemetry::{
    admin::SOCKET,
    api::{Failure, FlowLine},
};

use crate::{
    Error,
    way::{Stream, Way},
};

/// An agent's API.
#[derive(Debug)]
pub(crate) struct Client {
    way: Way,
    connections: Tasks,
    /// A connection that has answered and may be asked again, where making one takes long.
    kept: Mutex<Option<Connection>>,
}

/// A connection to an agent.
#[derive(Debug)]
struct Connection {
    sender: http1::SendRequest<Empty<Bytes>>,
    /// What the other end complains of.
    said: Said,
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
        Self::by(Way::Socket(socket))
    }

    /// The agent in this pod. Nothing is asked yet.
    pub(crate) fn of_pod(cluster: Cluster, agent: AgentPod) -> Self {
        Self::by(Way::Pod { cluster, agent: Box::new(agent) })
    }

    fn by(way: Way) -> Self {
        Self { way, connections: Tasks::new(), kept: Mutex::default() }
    }

    /// How it is reached.
    pub(crate) fn way(&self) -> &Way {
        &self.way
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

    /// Asks for `path`, whatever its answer is made of.
    pub(crate) async fn text(&self, path: &str) -> Result<String, Error> {
        let response = self.send(Method::GET, path).await?;
        if !response.status().is_success() {
            return Err(self.refusal(response, path).await?);
        }
        Ok(String::from_utf8_lossy(&self.body(response).await?).into_owned())
    }

    /// Has the agent's program answer `words` in JSON, in its pod.
    pub(crate) async fn run<T: DeserializeOwned>(&self, words: &[&str]) -> Result<T, Error> {
        let text = self.way.run(words).await?;
        parse(&words.join(" "), text.as_bytes())
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
        let request = Request::builder().method(method).uri(path).header("host", "agent");
        let request = request.body(Empty::<Bytes>::new()).expect("paths are built from checked names");
        let mut connection = match self.kept.lock().await.take() {
            Some(kept) if kept.sender.is_ready() => kept,
            _ => self.connect().await?,
        };
        match connection.sender.send_request(request).await {
            Ok(response) => {
                if self.way.is_long() {
                    *self.kept.lock().await = Some(connection);
                }
                Ok(response)
            }
            Err(source) => Err(self.failed(source, &connection.said)),
        }
    }

    async fn connect(&self) -> Result<Connection, Error> {
        let Stream { stream, said } = self.way.open().await?;
        let (sender, connection) =
            http1::handshake(TokioIo::new(stream)).await.map_err(|source| self.failed(source, &said))?;
        self.connections.spawn("connection", async {
            let _ = connection.await; // who waits for the answer learns of it, too
            Ok::<_, Infallible>(())
        });
        Ok(Connection { sender, said })
    }

    /// The other end's own words, where it has any.
    fn failed(&self, source: hyper::Error, said: &Said) -> Error {
        match said.text() {
            said if said.is_empty() => self.interrupted(source),
            said => Error::Tunnel { agent: self.way.to_string(), said },
        }
    }

    fn interrupted(&self, source: hyper::Error) -> Error {
        Error::Interrupted { agent: self.way.to_string(), source }
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
