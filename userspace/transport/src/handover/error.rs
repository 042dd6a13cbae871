//! Why agent and proxy cannot go on with each other.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use super::{MOST_PODS, Versions};
use crate::seqpacket;

/// Who the other end is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Peer {
    /// The agent.
    Agent,
    /// A proxy.
    Proxy,
}

/// What went wrong between agent and proxy. The connection is of no use afterwards: close it.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The socket between them failed.
    #[error(transparent)]
    Socket(#[from] seqpacket::Error),
    /// They have no version in common.
    #[error(
        "the {peer} (build {build}, pid {pid}) speaks {theirs} of the handover protocol, this process {ours}: {}",
        remedy(*.peer, *.theirs, *.ours)
    )]
    Versions {
        /// The other end.
        peer: Peer,
        /// Its build.
        build: String,
        /// Its process.
        pid: u32,
        /// What it speaks.
        theirs: Versions,
        /// What this process speaks.
        ours: Versions,
    },
    /// The other end did not say what it has to say first.
    #[error("the {peer} did not send {expected} within {within:?}; is it stopped, or another program?")]
    Silent {
        /// The other end.
        peer: Peer,
        /// The message that was waited for.
        expected: &'static str,
        /// How long it was waited for.
        within: Duration,
    },
    /// The other end closed before it had said what it has to.
    #[error("the {peer} closed the connection while {expected} was due; its log says why")]
    Closed {
        /// The other end.
        peer: Peer,
        /// The message that was waited for.
        expected: &'static str,
    },
    /// Something else came where only one message may.
    #[error("the {peer} sent `{kind}` where {expected} was due; is it another program?")]
    Unexpected {
        /// The other end.
        peer: Peer,
        /// What came.
        kind: String,
        /// What was waited for.
        expected: &'static str,
    },
    /// What came has no `id` and `kind`, so it cannot be answered either.
    #[error("the {peer} sent a message that is not of the handover protocol: {source}")]
    Malformed {
        /// The other end.
        peer: Peer,
        /// Where it ends to be one.
        source: serde_json::Error,
    },
    /// The proxy hands back more than it can have.
    #[error("the proxy hands back more than {MOST_PODS} pods; restart it")]
    TooManyPods,
    /// The proxy says it handed back another number of pods than came.
    #[error("the proxy handed back {came} pods and says they were {said}; restart it")]
    PodsLost {
        /// How many came.
        came: usize,
        /// How many it says there are.
        said: usize,
    },
    /// The lock that living proxies hold cannot be used.
    #[error("cannot use the lock {}: {source}; is that the run directory of an agent (--run-dir)?", path.display())]
    Lock {
        /// The lock file.
        path: PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },
}

impl std::fmt::Display for Peer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Agent => "agent",
            Self::Proxy => "proxy",
        })
    }
}

/// Whoever is older has to be updated.
fn remedy(peer: Peer, theirs: Versions, ours: Versions) -> &'static str {
    match (peer, theirs.max < ours.max) {
        (Peer::Proxy, true) | (Peer::Agent, false) => {
            "the proxy is the older one: run `weft proxy upgrade`, and update by one version at a time"
        }
        (Peer::Proxy, false) | (Peer::Agent, true) => {
            "the agent is the older one: update the agent, by one version at a time"
        }
    }
}
