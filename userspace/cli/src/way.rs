//! The ways to an agent.

use std::{fmt, io, path::PathBuf};

use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite},
    net::UnixStream,
};
use weft_kubernetes::{AgentPod, Cluster, Said};

use crate::Error;

/// The way to an agent.
#[derive(Debug)]
pub(crate) enum Way {
    /// Its socket, on this machine.
    Socket(PathBuf),
    /// A program beside it, in its pod, which joins its own input and output with the socket: [`crate::tunnel`].
    Pod {
        /// The API server.
        cluster: Cluster,
        /// The pod.
        agent: Box<AgentPod>,
    },
}

/// A stream to an agent's socket.
pub(crate) struct Stream {
    pub(crate) stream: Box<dyn Duplex>,
    /// What there is to know where nothing comes back.
    pub(crate) said: Said,
}

/// What HTTP is spoken over.
pub(crate) trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Duplex for T {}

impl Way {
    /// A new stream.
    pub(crate) async fn open(&self) -> Result<Stream, Error> {
        match self {
            Self::Socket(socket) => match UnixStream::connect(socket).await {
                Ok(stream) => Ok(Stream { stream: Box::new(stream), said: Said::default() }),
                Err(source) => Err(unreachable(socket.clone(), source)),
            },
            Self::Pod { agent, .. } if agent.phase != "Running" => Err(Error::NotRunning {
                agent: self.to_string(),
                pod: agent.name.clone(),
                phase: agent.phase.clone(),
            }),
            Self::Pod { cluster, agent } => {
                let process = cluster.run_in(agent, &["tunnel", "--run-dir", &agent.run_dir]).await?;
                let said = process.said();
                Ok(Stream { stream: Box::new(process), said })
            }
        }
    }

    /// What the agent's program writes when it is run beside it with `words`.
    pub(crate) async fn run(&self, words: &[&str]) -> Result<String, Error> {
        let Self::Pod { cluster, agent } = self else {
            return Err(Error::NoPod { agent: self.to_string() });
        };
        let mut process = cluster.run_in(agent, words).await?;
        let mut text = String::new();
        process.read_to_string(&mut text).await?;
        let said = process.said().text();
        // A no is an answer, too.
        if text.is_empty() { Err(Error::Tunnel { agent: self.to_string(), said }) } else { Ok(text) }
    }

    /// Whether a new stream takes long.
    pub(crate) fn is_long(&self) -> bool {
        matches!(self, Self::Pod { .. })
    }
}

fn unreachable(socket: PathBuf, source: io::Error) -> Error {
    match source.kind() {
        io::ErrorKind::PermissionDenied => Error::NotPermitted { socket, source },
        _ => Error::NoAgent { socket, source },
    }
}

/// `at /run/weft/agent.sock`, `of node n1 (weft-system/weft-x2x4q)`.
impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Socket(socket) => write!(f, "at {}", socket.display()),
            Self::Pod { agent, .. } => write!(f, "of node {} ({})", agent.node, agent.name),
        }
    }
}
