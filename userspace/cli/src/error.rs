//! Why a question could not be asked.

use std::{fmt::Write, io, path::PathBuf, sync::Arc};

use weft_model::ObjectName;
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
    #[error("the agent {agent} went away while it answered: {source}\n  ask again, once it is back")]
    Interrupted {
        /// Its socket, or its node and pod.
        agent: String,
        /// The cause.
        source: hyper::Error,
    },
    /// Nothing answers in the agent's pod.
    #[error(
        "the agent {agent} cannot be asked: {said}\n  see its log; is it of a version that has `weft tunnel`?"
    )]
    Tunnel {
        /// Its node and pod.
        agent: String,
        /// What is heard from there.
        said: String,
    },
    /// It is of this machine.
    #[error("the agent {agent} is in no pod\n  weft check --cgroup PATH looks at this machine")]
    NoPod {
        /// Who was asked.
        agent: String,
    },
    /// The agent's pod does not run.
    #[error("the agent {agent} does not run: its pod is {phase}\n  kubectl -n {} describe pod {}", .pod.namespace, .pod.name)]
    NotRunning {
        /// Its node and pod.
        agent: String,
        /// The pod.
        pod: ObjectName,
        /// What became of it.
        phase: String,
    },
    /// It takes too long.
    #[error("the agent {agent} has not answered for {seconds} s\n  see its log")]
    Late {
        /// Who was asked.
        agent: String,
        /// How long.
        seconds: u64,
    },
    /// There is no agent to ask.
    #[error(
        "the cluster at {server} has no agent of weft: weft install | kubectl apply -f -\n  \
         name the run directory of an agent of this machine with --run-dir"
    )]
    NoAgents {
        /// The API server.
        server: String,
    },
    /// No agent is of the node that was named.
    #[error("there is no agent of node {node}\n  there are agents of {}", .known.join(", "))]
    NoSuchNode {
        /// As it was named.
        node: String,
        /// Those that there are.
        known: Vec<String>,
    },
    /// Each node has an answer of its own.
    #[error("{what} is of one node\n  name it with --node: {}", .known.join(", "))]
    OneNode {
        /// What was asked for.
        what: &'static str,
        /// The nodes that there are.
        known: Vec<String>,
    },
    /// Nobody answered.
    #[error("no agent answered{}", each(.0))]
    NoneAnswered(Vec<(Arc<str>, Error)>),
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
    /// Only workloads have labels.
    #[error("--selector is asked of workloads\n  weft get workloads -l app=web")]
    OnlyWorkloads,
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
        name: ObjectName,
    },
    /// An issuer's rotation has no second step.
    #[error(
        "--finish ends the rotation of a root; an issuer is rotated in one step\n  weft ca rotate --dir DIR root --finish"
    )]
    FinishIssuer,
    /// There is no cluster to ask.
    #[error("{0}")]
    Cluster(#[from] weft_kubernetes::Error),
    /// The archive cannot be written.
    #[error("cannot write the archive {path}: {source}\n  name another with --file")]
    Archive {
        /// Its path.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
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
        matches!(
            self,
            Self::NoAgent { .. }
                | Self::Interrupted { .. }
                | Self::Tunnel { .. }
                | Self::NotRunning { .. }
                | Self::Late { .. }
                | Self::NoAgents { .. }
                | Self::Refused(_)
        )
    }
}

fn remedy(failure: &Failure) -> String {
    if failure.remedy.is_empty() { String::new() } else { format!("\n  {}", failure.remedy) }
}

/// A line for each, its remedy below.
fn each(silent: &[(Arc<str>, Error)]) -> String {
    let mut text = String::new();
    for (node, error) in silent {
        let _ = write!(text, "\n{node}: {error}");
    }
    text
}
