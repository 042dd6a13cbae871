//! From the agent's answers to HTTP's.

use std::sync::Arc;

use axum::{
    Json,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use serde::Serialize;

use super::Agent;
use crate::api::Failure;

/// A JSON answer, or why there is none.
pub(super) type Reply<T> = Result<Json<T>, Refused>;

/// Why there is no answer.
#[derive(Debug)]
pub(super) struct Refused {
    status: StatusCode,
    failure: Failure,
}

/// Asks `agent` on a thread that may wait.
pub(super) async fn ask<T: Send + 'static>(
    agent: &Arc<dyn Agent>,
    question: impl FnOnce(&dyn Agent) -> Result<T, Failure> + Send + 'static,
) -> Result<T, Refused> {
    let agent = Arc::clone(agent);
    match tokio::task::spawn_blocking(move || question(&*agent)).await {
        Ok(answer) => Ok(answer?),
        Err(_) => Err(Failure::new("the agent failed while answering", "see its log").into()),
    }
}

/// As [`ask`], in JSON.
pub(super) async fn reply<T: Serialize + Send + 'static>(
    agent: &Arc<dyn Agent>,
    question: impl FnOnce(&dyn Agent) -> Result<T, Failure> + Send + 'static,
) -> Reply<T> {
    ask(agent, question).await.map(Json)
}

impl Refused {
    /// There is no such thing; `listing` is the command that shows what there is.
    pub(super) fn not_found(kind: &str, listing: &str) -> Self {
        let failure = Failure::new(format!("there is no such {kind}"), format!("see: {listing}"));
        Self { status: StatusCode::NOT_FOUND, failure }
    }

    /// The question is about something that is not there.
    pub(super) fn question(failure: Failure) -> Self {
        Self { status: StatusCode::BAD_REQUEST, failure }
    }
}

impl From<Failure> for Refused {
    fn from(failure: Failure) -> Self {
        Self { status: StatusCode::INTERNAL_SERVER_ERROR, failure }
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        (self.status, Json(self.failure)).into_response()
    }
}
