//! The agent's answers: a JSON API on a unix socket, and metrics and health on TCP.

mod agent;
mod api;
mod describe;
mod health;
mod labelled;
mod probes;
mod reply;
mod socket;

use std::{
    io,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    path::PathBuf,
    sync::Arc,
};

pub use agent::Agent;
use axum::Router;
pub use probes::{Probes, Readiness};
pub use socket::{LONGEST_PATH, SOCKET, bind, bind_at};
use tokio::net::{TcpListener, UnixListener};
use weft_runtime::Stop;

/// Why the agent cannot be reached.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The path does not fit a socket address.
    #[error(
        "the socket's path {path} has {length} bytes, a socket's may have {LONGEST_PATH}; choose a shorter --run-dir"
    )]
    PathTooLong {
        /// The path.
        path: PathBuf,
        /// Its length.
        length: usize,
    },
    /// An agent answers there.
    #[error("an agent already runs at {path}; stop it, or choose another --run-dir")]
    Running {
        /// Its socket.
        path: PathBuf,
    },
    /// Something else is there.
    #[error("{path} is not a socket; move it away, or choose another --run-dir")]
    NotASocket {
        /// The path.
        path: PathBuf,
    },
    /// The socket could not be made.
    #[error("cannot listen on {path}: {source}; is --run-dir writable?")]
    Socket {
        /// The path.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// The port could not be opened.
    #[error("cannot listen on {address} for metrics: {source}; choose another address with --metrics")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// The cause.
        source: io::Error,
    },
}

/// Answers the command line on `listener` (see [`bind`]) until `stop`.
pub async fn serve_api(agent: Arc<dyn Agent>, listener: UnixListener, stop: Stop) -> io::Result<()> {
    let router = api::router(agent, stop.clone());
    axum::serve(listener, router).with_graceful_shutdown(stop.cancelled_owned()).await
}

/// Answers `/metrics`, `/healthz` and `/readyz` on `listener` (see [`listen`]) until `stop`.
pub async fn serve_health(agent: Arc<dyn Agent>, listener: TcpListener, stop: Stop) -> io::Result<()> {
    let router: Router = health::router(agent);
    axum::serve(listener, router).with_graceful_shutdown(stop.cancelled_owned()).await
}

/// Opens the port for [`serve_health`]. `[::]` means all addresses of both families; a kernel may have but the one.
pub async fn listen(address: SocketAddr) -> Result<TcpListener, Error> {
    let mut listener = TcpListener::bind(address).await;
    let lacks_ipv6 = listener.as_ref().is_err_and(|error| error.kind() != io::ErrorKind::AddrInUse);
    if lacks_ipv6 && address.ip() == Ipv6Addr::UNSPECIFIED {
        listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, address.port())).await;
    }
    listener.map_err(|source| Error::Listen { address, source })
}

#[cfg(test)]
mod tests;
