//! `/metrics`, `/healthz`, `/readyz`.

use std::{io, sync::Arc};

use axum::{
    Router,
    extract::State,
    http::{StatusCode, header::CONTENT_TYPE},
    response::{IntoResponse as _, Response},
    routing::get,
};
use tokio::{net::TcpListener, sync::watch};
use weft_identity::controller::Serving;
use weft_kubernetes::Health;
use weft_runtime::Stop;

use crate::metrics::Metrics;

/// What is asked.
#[derive(Clone)]
pub(crate) struct Asked {
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) source: watch::Receiver<Arc<Health>>,
    pub(crate) serving: Serving,
}

/// Answers until `stop`.
pub(crate) async fn serve(listener: TcpListener, asked: Asked, stop: Stop) -> io::Result<()> {
    let router = Router::new()
        .route("/metrics", get(metrics_text))
        .route("/healthz", get(async || "ok\n"))
        .route("/readyz", get(ready))
        .with_state(asked);
    axum::serve(listener, router).with_graceful_shutdown(stop.cancelled_owned()).await
}

async fn metrics_text(State(asked): State<Asked>) -> Response {
    ([(CONTENT_TYPE, OPEN_METRICS)], asked.metrics.encode()).into_response()
}

/// Ready once it is known who is in the mesh and there is an authority, and from then on: an API server that is away is no
/// reason to send agents elsewhere, since it is away for all replicas, and nor is one that refuses other kinds.
async fn ready(State(asked): State<Asked>) -> Response {
    let health = Arc::clone(&asked.source.borrow());
    let missing = if !health.synced {
        format!("not yet listed from {}: {}\n", health.server, health.unlisted.join(", "))
    } else if !asked.serving.is_ready() {
        "there is no certificate authority yet; the log says why\n".to_owned()
    } else {
        let lacks = health
            .refused
            .iter()
            .map(|(kind, why)| format!("without {kind}: {}; {}\n", why.error, why.remedy));
        return format!("ready\n{}", lacks.collect::<String>()).into_response();
    };
    (StatusCode::SERVICE_UNAVAILABLE, missing).into_response()
}

const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
