//! What agents may ask.

use std::{sync::Arc, time::Duration};

use axum::{
    Json, Router,
    body::Bytes,
    extract::{DefaultBodyLimit, FromRequestParts, State},
    http::{HeaderMap, header::AUTHORIZATION, request::Parts},
    routing::{get, post},
};
use tokio::sync::watch;
use weft_identity::{
    Clock, Request, chain_pem,
    controller::{AUTHORITY, AuthorityAnswer, CERTIFICATES, CertificateAnswer, CertificateOrder},
};
use weft_model::{PROGRAMMED, Report, ReportAnswer, Snapshot};

use crate::{
    agents::{Agent, Agents},
    authority::Authority,
    metrics::Metrics,
    nodes::Reports,
    placed::runs_there,
    refused::Refused,
};

/// What answers are made of.
#[derive(Clone)]
pub(crate) struct Asked {
    pub(crate) agents: Agents,
    pub(crate) authority: Authority,
    pub(crate) reports: Reports,
    pub(crate) snapshots: watch::Receiver<Arc<Snapshot>>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) clock: Clock,
}

/// All questions.
pub(crate) fn router(asked: Asked) -> Router {
    Router::new()
        .route(AUTHORITY, get(authority))
        .route(CERTIFICATES, post(certificate))
        .layer(DefaultBodyLimit::max(LONGEST))
        .route(PROGRAMMED, post(programmed).layer(DefaultBodyLimit::max(LONGEST_REPORT)))
        .with_state(asked)
}

async fn authority(State(asked): State<Asked>, _: Agent) -> Result<Json<AuthorityAnswer>, Refused> {
    let issuer = asked.authority.issuer().await.map_err(|error| unusable(&error));
    let issuer = asked.counted(issuer, "the authority")?;
    let trust_domain = issuer.trust_domain().to_owned();
    Ok(Json(AuthorityAnswer { trust_domain, issuer: issuer.certificate_pem() }))
}

async fn certificate(
    State(asked): State<Asked>,
    agent: Agent,
    body: Bytes,
) -> Result<Json<CertificateAnswer>, Refused> {
    let answer = async {
        let order: CertificateOrder = serde_json::from_slice(&body).map_err(|error| malformed(&error))?;
        let chain = asked.sign(&agent, &order).await?;
        let account = &order.service_account;
        tracing::debug!(node = %agent.node, pod = %agent.pod, %account, "a certificate was signed");
        asked.metrics.issued();
        Ok(Json(CertificateAnswer { chain }))
    };
    asked.counted(answer.await, "a certificate")
}

/// What the node has in force: of which node, the token alone says.
async fn programmed(
    State(asked): State<Asked>,
    agent: Agent,
    body: Bytes,
) -> Result<Json<ReportAnswer>, Refused> {
    let report = serde_json::from_slice::<Report>(&body).map_err(|error| malformed(&error));
    let report = asked.counted(report, "an answer to its report")?;
    Ok(Json(asked.reports.take(&agent.node, report)))
}

/// Before a byte of the body is read: of strangers no memory is taken.
impl FromRequestParts<Asked> for Agent {
    type Rejection = Refused;

    async fn from_request_parts(parts: &mut Parts, asked: &Asked) -> Result<Self, Refused> {
        asked.counted(asked.agent(&parts.headers).await, "an answer")
    }
}

impl Asked {
    /// Who asks, by the token that comes along.
    async fn agent(&self, headers: &HeaderMap) -> Result<Agent, Refused> {
        let bearer = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok());
        let token = bearer.and_then(|text| text.strip_prefix("Bearer ")).ok_or(Refused::TokenMissing)?;
        self.agents.prove(token.trim()).await
    }

    /// A certificate for a workload of the agent's node, and of nobody else's.
    async fn sign(&self, agent: &Agent, order: &CertificateOrder) -> Result<String, Refused> {
        let CertificateOrder { service_account: account, request, ttl_seconds } = order;
        let request = Request::parse(request).map_err(|error| malformed(&error))?;
        if !runs_there(&self.snapshots, account, &agent.node).await {
            return Err(Refused::NoPodThere { account: account.clone(), node: Arc::clone(&agent.node) });
        }
        let issuer = self.authority.issuer().await.map_err(|error| unusable(&error))?;
        // An agent may ask for less than the mesh's, and gets no more.
        let ttl = Duration::from_secs(*ttl_seconds).min(self.snapshots.borrow().certificate_ttl);
        let chain = issuer.sign(&request, account, ttl, self.clock.now());
        Ok(chain_pem(&chain.map_err(|error| unusable(&error))?))
    }

    fn counted<T>(&self, answer: Result<T, Refused>, what: &'static str) -> Result<T, Refused> {
        if let Err(refused) = &answer {
            self.metrics.refused(refused);
            tracing::warn!(reason = refused.reason(), error = %refused, "an agent does not get {what}");
        }
        answer
    }
}

fn unusable(error: &dyn std::error::Error) -> Refused {
    Refused::Authority { error: error.to_string().into() }
}

fn malformed(error: &dyn std::error::Error) -> Refused {
    Refused::Malformed { problem: error.to_string().into() }
}

/// Bytes of a question: a request has some hundred.
const LONGEST: usize = 16 << 10;

/// Bytes of a report, which may name all objects: 40 000 of them, or so.
const LONGEST_REPORT: usize = 4 << 20;
