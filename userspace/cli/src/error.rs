//! Why a question could not be asked.

use std::{io, path::PathBuf};

use weft_telemetry::api::Failure;

/// Why a question could not be asked, or its answer not shown.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Nobody listens.
    #[error(
        "no agent answers at {socket}: {source}\n  \
         start one (weft agent --manifests DIR), or name the run directory of yours with --run-dir"
    )]
    NoAgent {
        /// Where it should be.
        socket: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// The agent's socket is somebody else's.
    #[error("{socket} may only be used by its owner: {source}\n  run this as root")]
    NotPermitted {
        /// The socket.
        socket: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// The agent went away while it answered.
    #[error("the agent at {socket} went away while it answered: {source}\n  ask again, once it is back")]
    Interrupted {
        /// Its socket.
        socket: PathBuf,
        /// The cause.
        source: hyper::Error,
    },
    /// The answer is not understood.
    #[error(
        "the agent's answer to {question} is not understood: {source}\n  is it of another version than this command?"
    )]
    Answer {
        /// What was asked.
        question: String,
        /// What is wrong with the answer.
        source: serde_json::Error,
    },
    /// The agent says no.
    #[error("{}{}", .0.message, remedy(.0))]
    Refused(Failure),
    /// There is nothing to look at.
    #[error("there is no {path}\n  name files or folders of manifests, such as deploy/examples")]
    NoManifest {
        /// The path.
        path: PathBuf,
    },
    /// Only connections are unprotected.
    #[error("--unprotected is asked of connections\n  weft get connections --unprotected")]
    OnlyConnections,
    /// The certificate authority is not as it should be.
    #[error("{0}")]
    Authority(#[from] weft_identity::ca::CaError),
    /// The API server says no, or nothing.
    #[error("{0}")]
    ApiServer(#[from] weft_kubernetes::AskError),
    /// The Secret of the authority is not there.
    #[error("Secret {name} is not there; a controller makes it: kubectl -n {} get pods", name.namespace)]
    NoSecret {
        /// Its name.
        name: weft_model::ObjectName,
    },
    /// An issuer's rotation has no second step.
    #[error(
        "--finish ends the rotation of a root; an issuer is rotated in one step\n  weft ca rotate --dir DIR root --finish"
    )]
    FinishIssuer,
    /// There is no cluster to ask.
    #[error("{0}")]
    Cluster(#[from] weft_kubernetes::Error),
    /// The answer cannot be written.
    #[error("cannot write: {0}")]
    Write(#[from] io::Error),
    /// The answer cannot be written as YAML.
    #[error("cannot write YAML: {0}")]
    Yaml(#[from] serde_yaml::Error),
}

impl Error {
    /// Whether the reader has seen enough and closed the pipe: nothing to complain about.
    pub fn is_closed_pipe(&self) -> bool {
        matches!(self, Self::Write(source) if source.kind() == io::ErrorKind::BrokenPipe)
    }

    /// Whether an agent that is about to start would make a difference.
    pub(crate) fn may_pass(&self) -> bool {
        matches!(self, Self::NoAgent { .. } | Self::Interrupted { .. } | Self::Refused(_))
    }
}

fn remedy(failure: &Failure) -> String {
    if failure.remedy.is_empty() { String::new() } else { format!("\n  {}", failure.remedy) }
}
