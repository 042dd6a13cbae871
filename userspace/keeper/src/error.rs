//! Why the keeper cannot begin, or a proxy cannot be started or ended.

use std::io;
use std::path::PathBuf;

use rustix::io::Errno;
use weft_transport::{handover, seqpacket};

/// What was tried, on what, and the kernel's answer.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The proxy's cgroup cannot be made or joined.
    #[error(
        "cannot {attempt} the proxy's cgroup {}: {source}; is its parent a writable cgroup v2? \
         `weft agent --proxy off` does without a proxy",
        path.display()
    )]
    Group {
        /// What was tried.
        attempt: &'static str,
        /// The cgroup.
        path: PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },
    /// A process that no proxy is stays in the proxy's cgroup.
    #[error(
        "cannot remove the proxy's cgroup {}: processes are in it that are no proxy of this run directory; \
         its file cgroup.procs names them",
        path.display()
    )]
    GroupInUse {
        /// The cgroup.
        path: PathBuf,
    },
    /// A file of the run directory cannot be used.
    #[error("cannot {attempt} {}: {source}; is the run directory writable?", path.display())]
    File {
        /// What was tried.
        attempt: &'static str,
        /// The file.
        path: PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The socket for proxies cannot be made.
    #[error(transparent)]
    Socket(#[from] seqpacket::Error),
    /// The lock that tells of living proxies cannot be used.
    #[error(transparent)]
    Handover(#[from] handover::Error),
    /// What an agent has put into a pod's namespace stays there.
    #[error(transparent)]
    Namespace(#[from] weft_transport::Error),
    /// The proxy cannot be started.
    #[error("cannot start the proxy {}: {source}", path.display())]
    Start {
        /// Its file.
        path: PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },
    /// Capabilities belong to threads, and it is too late to give them up for all.
    #[error("the proxy has {threads} threads already; capabilities are given up before the first is started")]
    Threads {
        /// How many there are.
        threads: usize,
    },
    /// The proxy has to do without capabilities that it cannot give up.
    #[error("cannot {attempt}: {source}; a proxy is started as root")]
    Privileges {
        /// What was tried.
        attempt: &'static str,
        /// The kernel's answer.
        source: Errno,
    },
    /// Somebody speaks like a proxy and is none, as far as the agent can see.
    #[error(
        "whoever connected as a proxy (pid {pid}) is not seen to hold its lock; an agent that runs apart from its \
         proxy needs the host's pid namespace (hostPID)"
    )]
    NoProxy {
        /// Its number, as the kernel or else the process itself tells it.
        pid: i32,
    },
    /// A process cannot be told to end.
    #[error("cannot end the proxy with pid {pid}: {source}")]
    End {
        /// The process.
        pid: i32,
        /// The kernel's answer.
        source: Errno,
    },
}
