//! `/metrics`, `/healthz`, `/readyz`.

use std::sync::Arc;

use axum::{
    Router,
    extract::State,
    http::{StatusCode, header::CONTENT_TYPE},
    response::{IntoResponse, Response},
    routing::get,
};

use super::{Agent, reply::ask};

pub(super) fn router(agent: Arc<dyn Agent>) -> Router {
    Router::new()
        .route("/metrics", get(metrics))
        .route("/healthz", get(async || "ok\n"))
        .route("/readyz", get(ready))
        .with_state(agent)
}

pub(super) async fn metrics(State(agent): State<Arc<dyn Agent>>) -> Response {
    let text = ask(&agent, |agent| Ok(agent.metrics().encode(&agent.status(), &agent.snapshot()))).await;
    text.map(|text| ([(CONTENT_TYPE, OPEN_METRICS)], text)).into_response()
}

async fn ready(State(agent): State<Arc<dyn Agent>>) -> Response {
    match ask(&agent, |agent| Ok(agent.ready())).await {
        Ok(Ok(())) => "ready\n".into_response(),
        Ok(Err(missing)) => (StatusCode::SERVICE_UNAVAILABLE, format!("{missing}\n")).into_response(),
        Err(refused) => refused.into_response(),
    }
}

const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
