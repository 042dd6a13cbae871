//! The JSON API of the unix socket.

use std::{
    convert::Infallible,
    sync::Arc,
    time::{Duration, Instant},
};

use axum::{
    Json, Router,
    body::Body,
    extract::{FromRef, Path, Query, State},
    http::header::CONTENT_TYPE,
    response::{IntoResponse, Response},
    routing::{get, post},
};
use bytes::Bytes;
use futures_util::{StreamExt, stream};
use serde::Deserialize;
use weft_runtime::Stop;

use super::{
    Agent,
    describe::{describe_pod, describe_service},
    labelled::Labelled,
    reply::{Refused, Reply, ask, reply},
};
use crate::{
    api::{
        Attached, Attachment, AuthzAnswer, AuthzQuery, BpfTable, CertificatesView, ConnectionView,
        EndpointView, ExplainQuery, Explanation, Failure, Flow, FlowFilter, FlowLine, LogChange, LogView,
        PodDescription, PolicyView, ProxyUpgraded, RouteView, Sandboxes, ServiceDescription, ServiceView,
        Status, Synced, Table, TrafficQuery, TrafficView, WorkloadView,
    },
    logging, views,
};

pub(super) fn router(agent: Arc<dyn Agent>, stop: Stop) -> Router {
    Router::new()
        .route("/v1/status", get(status))
        .route("/v1/sync", post(sync))
        .route("/v1/proxy/upgrade", post(upgrade_proxy))
        .route("/v1/runtime/attach", post(attach))
        .route("/v1/runtime/attached", post(attached))
        .route("/v1/runtime/detach", post(detach))
        .route("/v1/runtime/keep", post(keep_attached))
        .route("/v1/services", get(services))
        .route("/v1/services/{namespace}/{name}", get(service))
        .route("/v1/endpoints", get(endpoints))
        .route("/v1/workloads", get(workloads))
        .route("/v1/pods/{namespace}/{name}", get(pod))
        .route("/v1/policies", get(policies))
        .route("/v1/routes", get(routes))
        .route("/v1/connections", get(connections))
        .route("/v1/certificates", get(certificates))
        .route("/v1/authz", get(authz))
        .route("/v1/explain", get(explain))
        .route("/v1/traffic", get(traffic))
        .route("/v1/bpf/{table}", get(bpf))
        .route("/v1/flows", get(flows))
        .route("/v1/log", get(log).post(change_log))
        .route("/v1/metrics", get(super::health::metrics))
        .with_state(Api { agent, stop })
}

#[derive(Clone)]
struct Api {
    agent: Arc<dyn Agent>,
    stop: Stop,
}

impl FromRef<Api> for Arc<dyn Agent> {
    fn from_ref(api: &Api) -> Self {
        Self::clone(&api.agent)
    }
}

type Asked = State<Arc<dyn Agent>>;

async fn status(State(agent): Asked) -> Reply<Status> {
    reply(&agent, |agent| Ok(agent.status())).await
}

async fn sync(State(agent): Asked) -> Reply<Synced> {
    Ok(Json(Synced { version: agent.sync().await? }))
}

async fn upgrade_proxy(State(agent): Asked) -> Reply<ProxyUpgraded> {
    Ok(Json(agent.upgrade_proxy().await?))
}

async fn attach(State(agent): Asked, Json(attachment): Json<Attachment>) -> Reply<Attached> {
    Ok(Json(agent.attach(attachment).await?))
}

async fn attached(State(agent): Asked, Json(attachment): Json<Attachment>) -> Reply<Attached> {
    Ok(Json(agent.attached(attachment).await?))
}

async fn detach(State(agent): Asked, Json(sandboxes): Json<Sandboxes>) -> Reply<()> {
    Ok(Json(agent.detach(sandboxes).await?))
}

async fn keep_attached(State(agent): Asked, Json(sandboxes): Json<Sandboxes>) -> Reply<()> {
    Ok(Json(agent.keep_attached(sandboxes).await?))
}

async fn services(State(agent): Asked) -> Reply<Vec<ServiceView>> {
    reply(&agent, |agent| Ok(views::services(&agent.snapshot()))).await
}

async fn endpoints(State(agent): Asked) -> Reply<Vec<EndpointView>> {
    reply(&agent, |agent| Ok(views::endpoints(&agent.snapshot()))).await
}

async fn workloads(State(agent): Asked) -> Reply<Vec<WorkloadView>> {
    reply(&agent, |agent| Ok(views::workloads(&agent.snapshot()))).await
}

async fn policies(State(agent): Asked) -> Reply<Vec<PolicyView>> {
    reply(&agent, |agent| Ok(views::policies(&agent.snapshot()))).await
}

async fn routes(State(agent): Asked) -> Reply<Vec<RouteView>> {
    reply(&agent, |agent| Ok(views::routes(&agent.snapshot()))).await
}

async fn connections(State(agent): Asked) -> Reply<Vec<ConnectionView>> {
    reply(&agent, <dyn Agent>::connections).await
}

async fn certificates(State(agent): Asked) -> Reply<CertificatesView> {
    let none = || {
        Failure::new("the agent issues no certificates", "start it with --ca-dir; `weft ca init` makes one")
    };
    reply(&agent, move |agent| agent.certificates().ok_or_else(none)).await
}

async fn pod(State(agent): Asked, Path(name): Path<(String, String)>) -> Reply<PodDescription> {
    let found = ask(&agent, move |agent| describe_pod(agent, &name.0, &name.1)).await?;
    found.map(Json).ok_or_else(|| Refused::not_found("pod", "weft get workloads"))
}

async fn service(State(agent): Asked, Path(name): Path<(String, String)>) -> Reply<ServiceDescription> {
    let found = ask(&agent, move |agent| describe_service(agent, &name.0, &name.1)).await?;
    found.map(Json).ok_or_else(|| Refused::not_found("Service", "weft get services"))
}

async fn authz(State(agent): Asked, Query(query): Query<AuthzQuery>) -> Reply<AuthzAnswer> {
    let answer = ask(&agent, move |agent| Ok(agent.authz(&query))).await?;
    answer.map(Json).map_err(Refused::question)
}

async fn explain(State(agent): Asked, Query(query): Query<ExplainQuery>) -> Reply<Explanation> {
    let answer = ask(&agent, move |agent| Ok(agent.explain(&query))).await?;
    answer.map(Json).map_err(Refused::question)
}

async fn traffic(State(agent): Asked, Query(query): Query<TrafficQuery>) -> Reply<Vec<TrafficView>> {
    let span = Duration::from_secs(query.seconds);
    reply(&agent, move |agent| Ok(agent.observer().window().last(span, Instant::now()))).await
}

async fn bpf(State(agent): Asked, Path(table): Path<BpfTable>) -> Reply<Table> {
    reply(&agent, move |agent| agent.bpf(table)).await
}

async fn log() -> Reply<LogView> {
    match logging::filter() {
        Ok(filter) => Ok(Json(LogView { filter })),
        Err(error) => Err(Failure::new(error.to_string(), "").into()),
    }
}

async fn change_log(Query(wanted): Query<LogChange>) -> Reply<LogView> {
    match logging::change(&wanted.filter) {
        Ok(()) => log().await,
        Err(error) => Err(Refused::question(Failure::new(error.to_string(), ""))),
    }
}

/// How much of the flows is asked for, beside a [`FlowFilter`].
#[derive(Deserialize)]
struct Extent {
    last: usize,
    #[serde(default)]
    follow: bool,
    /// Labels that one end has: `key=value`, several with commas between them.
    #[serde(default)]
    labels: String,
}

/// One JSON object a line, oldest first.
async fn flows(
    State(api): State<Api>,
    Query(filter): Query<FlowFilter>,
    Query(Extent { last, follow, labels }): Query<Extent>,
) -> Response {
    let labelled = Labelled::of(&labels);
    let agent = Arc::clone(&api.agent);
    // What pods are labelled with is asked of what is known now: of one that is gone, nothing is.
    let keeps = move |flow: &Flow| filter.keeps(flow) && labelled.is_an_end_of(flow, || agent.snapshot());
    let body = if follow {
        let (past, follower) = api.agent.flows().follow(Box::new(keeps), last);
        let past = stream::iter(past.into_iter().map(FlowLine::Flow));
        let coming = stream::unfold(follower, async |mut follower| Some((follower.next().await?, follower)));
        let lines = past.chain(coming).map(|line| json(&line)).map(Ok::<_, Infallible>);
        Body::from_stream(lines.take_until(api.stop.cancelled_owned()))
    } else {
        let past = api.agent.flows().last_that(keeps, last).into_iter().map(FlowLine::Flow);
        Body::from_stream(stream::iter(past.map(|line| json(&line)).map(Ok::<_, Infallible>)))
    };
    ([(CONTENT_TYPE, "application/x-ndjson")], body).into_response()
}

fn json(line: &FlowLine) -> Bytes {
    let mut text = serde_json::to_vec(line).expect("a flow has string keys only");
    text.push(b'\n');
    text.into()
}
