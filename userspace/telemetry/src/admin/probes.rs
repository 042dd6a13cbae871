//! `/healthz` and `/readyz` on a unix socket of this process alone.
//!
//! Two agents of one node share its addresses, so that a kubelet that asks a port cannot know which of them has answered.

use std::{fmt, io, path::Path, sync::Arc};

use axum::{
    Router,
    extract::State,
    http::StatusCode,
    response::{IntoResponse, Response},
    routing::get,
};
use tokio::sync::watch;
use weft_runtime::Stop;

use super::{Error, socket::bind_at};
use crate::api::Failure;

/// Whether the process can do its work: else what is missing. May block.
pub type Readiness = Arc<dyn Fn() -> Result<(), Failure> + Send + Sync>;

/// The answers of one process. Clones share them.
#[derive(Clone)]
pub struct Probes {
    readiness: watch::Sender<Readiness>,
}

impl Probes {
    /// Alive, and not ready yet.
    pub fn new() -> Self {
        let nothing: Readiness = Arc::new(|| Err(Failure::new("the agent has just started", "")));
        Self { readiness: watch::Sender::new(nothing) }
    }

    /// From now on `readiness` says whether it is ready.
    pub fn ready_when(&self, readiness: Readiness) {
        self.readiness.send_replace(readiness);
    }

    /// Answers on a socket at `path`, which this makes, until `stop`; only the owner can ask.
    pub fn serve(
        &self,
        path: &Path,
        stop: Stop,
    ) -> Result<impl Future<Output = io::Result<()>> + use<>, Error> {
        let listener = bind_at(path)?;
        let router = Router::new()
            .route("/healthz", get(async || "ok\n"))
            .route("/readyz", get(ready))
            .with_state(self.clone());
        Ok(async move { axum::serve(listener, router).with_graceful_shutdown(stop.cancelled_owned()).await })
    }
}

impl Default for Probes {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Probes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Probes").finish_non_exhaustive()
    }
}

async fn ready(State(probes): State<Probes>) -> Response {
    let readiness = Arc::clone(&probes.readiness.borrow());
    match tokio::task::spawn_blocking(move || readiness()).await {
        Ok(Ok(())) => "ready\n".into_response(),
        Ok(Err(missing)) => (StatusCode::SERVICE_UNAVAILABLE, format!("{missing}\n")).into_response(),
        Err(_) => (StatusCode::INTERNAL_SERVER_ERROR, "the agent failed while answering\n").into_response(),
    }
}

#[cfg(test)]
mod tests {
    use tempfile::tempdir;
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        net::UnixStream,
    };
    use weft_runtime::Tasks;

    use super::*;

    #[tokio::test]
    async fn who_is_ready_may_change_and_who_is_alive_says_so_all_the_time() {
        let (dir, tasks, probes) = (tempdir().unwrap(), Tasks::new(), Probes::new());
        let path = dir.path().join("probe.sock");
        tasks.spawn("probes", probes.serve(&path, tasks.stop_signal()).unwrap());
        assert!(ask(&path, "/healthz").await.starts_with("HTTP/1.1 200"));
        let answer = ask(&path, "/readyz").await;
        assert!(answer.starts_with("HTTP/1.1 503") && answer.contains("has just started"), "{answer}");
        probes.ready_when(Arc::new(|| Ok(())));
        assert!(ask(&path, "/readyz").await.starts_with("HTTP/1.1 200"));
        probes.ready_when(Arc::new(|| Err(Failure::new("nothing is read", "wait"))));
        let answer = ask(&path, "/readyz").await;
        assert!(answer.contains("nothing is read; wait"), "{answer}");
    }

    async fn ask(socket: &Path, path: &str) -> String {
        let mut stream = UnixStream::connect(socket).await.unwrap();
        let question = format!("GET {path} HTTP/1.1\r\nhost: it\r\nconnection: close\r\n\r\n");
        stream.write_all(question.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }
}
