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
use weft_kubernetes::Health;
use weft_runtime::Stop;

use crate::metrics::Metrics;

/// What is asked.
#[derive(Clone)]
struct Asked {
    metrics: Arc<Metrics>,
    source: watch::Receiver<Arc<Health>>,
}

/// Answers until `stop`.
pub(crate) async fn serve(
    listener: TcpListener,
    metrics: Arc<Metrics>,
    source: watch::Receiver<Arc<Health>>,
    stop: Stop,
) -> io::Result<()> {
    let router = Router::new()
        .route("/metrics", get(metrics_text))
        .route("/healthz", get(async || "ok\n"))
        .route("/readyz", get(ready))
        .with_state(Asked { metrics, source });
    axum::serve(listener, router).with_graceful_shutdown(stop.cancelled_owned()).await
}

async fn metrics_text(State(asked): State<Asked>) -> Response {
    ([(CONTENT_TYPE, OPEN_METRICS)], asked.metrics.encode()).into_response()
}

/// Ready once all was listed, and from then on: an API server that is away is no reason to send agents elsewhere, since
/// it is away for all replicas.
async fn ready(State(asked): State<Asked>) -> Response {
    let health = Arc::clone(&asked.source.borrow());
    if health.synced {
        return "ready\n".into_response();
    }
    let missing = format!("not yet listed from {}: {}\n", health.server, health.unlisted.join(", "));
    (StatusCode::SERVICE_UNAVAILABLE, missing).into_response()
}

const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
