//! Why an agent does not get what it asks for: one closed list, the same words in answers, metrics and the log.

use std::sync::Arc;

use axum::{
    Json,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use weft_identity::controller::Refusal;
use weft_model::ServiceAccount;

/// Why. All of them fail closed: nothing is issued.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refused {
    /// Nobody says who asks.
    #[error("there is no token; an agent sends `Authorization: Bearer` and the token that its pod is given")]
    TokenMissing,
    /// The API server does not take the token.
    #[error(
        "the token is not taken: {why}; an agent's is a projected one, for the audience weft-ca, of a pod that is there"
    )]
    TokenBad {
        /// What the API server says.
        why: Arc<str>,
    },
    /// It is good, and somebody else's.
    #[error("{user} is no agent; {agent} is")]
    NotAnAgent {
        /// Whose it is.
        user: Arc<str>,
        /// Whose it should be.
        agent: Arc<str>,
    },
    /// It says neither which pod nor which node it was given to.
    #[error("the token is bound to no pod on a node; a projected one is")]
    TokenUnbound,
    /// The pod that it was given to does not run there.
    #[error("the token is of the pod {pod} on {node}, which {why}")]
    AgentGone {
        /// The agent's pod.
        pod: Arc<str>,
        /// Its node.
        node: Arc<str>,
        /// What is otherwise.
        why: &'static str,
    },
    /// No pod of that ServiceAccount is in the mesh there.
    #[error("no pod of ServiceAccount {account} that is in the mesh runs on {node} now")]
    NoPodThere {
        /// Whose certificate was asked for.
        account: ServiceAccount,
        /// The node of the agent that asked.
        node: Arc<str>,
    },
    /// The question cannot be read.
    #[error("the question cannot be read: {problem}; are agent and controller at most one version apart?")]
    Malformed {
        /// What is wrong.
        problem: Arc<str>,
    },
    /// The API server cannot be asked.
    #[error("who asks cannot be verified now: {error}")]
    ApiServer {
        /// Why not.
        error: Arc<str>,
    },
    /// Nothing can be signed.
    #[error("nothing can be signed now: {error}")]
    Authority {
        /// Why not.
        error: Arc<str>,
    },
}

impl Refused {
    /// The word for it.
    pub(crate) fn reason(&self) -> &'static str {
        match self {
            Self::TokenMissing => "TokenMissing",
            Self::TokenBad { .. } => "TokenBad",
            Self::NotAnAgent { .. } => "NotAnAgent",
            Self::TokenUnbound => "TokenUnbound",
            Self::AgentGone { .. } => "AgentGone",
            Self::NoPodThere { .. } => "NoPodThere",
            Self::Malformed { .. } => "Malformed",
            Self::ApiServer { .. } => "ApiServerAway",
            Self::Authority { .. } => "AuthorityUnusable",
        }
    }

    fn status(&self) -> StatusCode {
        match self {
            Self::TokenMissing | Self::TokenBad { .. } => StatusCode::UNAUTHORIZED,
            Self::NotAnAgent { .. }
            | Self::TokenUnbound
            | Self::AgentGone { .. }
            | Self::NoPodThere { .. } => StatusCode::FORBIDDEN,
            Self::Malformed { .. } => StatusCode::BAD_REQUEST,
            Self::ApiServer { .. } | Self::Authority { .. } => StatusCode::SERVICE_UNAVAILABLE,
        }
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        let said = Refusal { reason: self.reason().to_owned(), error: self.to_string() };
        (self.status(), Json(said)).into_response()
    }
}
