//! `weft status` of many nodes: a line for each, and below it what is not well.

use std::{
    collections::BTreeMap,
    fmt::Write,
    sync::Arc,
    time::{Duration, SystemTime},
};

use futures_util::future::join_all;
use serde::Serialize;
use tokio::time::{Instant, sleep, timeout};
use weft_kubernetes::AskError;
use weft_telemetry::api::Status;

use super::{Args, BETWEEN_LONG, enforced, is_healthy, show::in_words};
use crate::{
    Client, Error, Exit, Screen,
    agents::{Agents, PATIENCE, Told},
    controllers,
    output::Format,
    problem,
    table::{Column, Table},
    units,
};

/// How one node is.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct NodeStatus {
    node: Arc<str>,
    /// The agent's pod.
    agent: Option<String>,
    /// Since its container began.
    age_seconds: Option<u64>,
    /// How often it began anew.
    restarts: Option<u32>,
    healthy: bool,
    /// Whether its pod is ready, as the kubelet says.
    ready: Option<bool>,
    /// Why there is no status.
    error: Option<String>,
    status: Option<Status>,
}

pub(super) async fn run(
    mut agents: Agents,
    args: &Args,
    began: Instant,
    screen: &mut Screen,
) -> Result<Exit, Error> {
    let mut late = false;
    if let Some(patience) = args.wait {
        let left = patience.saturating_sub(began.elapsed());
        late = timeout(left, everywhere(&mut agents, args)).await.is_err();
    }
    let told = agents.told(async |client: &Client| client.get("/v1/status").await).await;
    let nobody = told.answers.is_empty();
    let list = list(&agents, told, SystemTime::now());
    let mut well = if args.wait.is_some() { !late } else { list.iter().all(|node| node.healthy) };
    let controllers = match (&agents.cluster, args.ask.output) {
        (Some(cluster), Format::Table) => controllers::beside(cluster, screen).await?,
        _ => None,
    };
    args.ask.output.write(screen, &list, |list, screen| {
        let controllers = controllers.iter().map(|replicas| controllers::page(replicas, screen.width()));
        [page(list, screen.width())].into_iter().chain(controllers).collect::<Vec<_>>().join("\n")
    })?;
    match are_complete(&agents, args).await {
        Ok(true) => {}
        Ok(false) => {
            well = false;
            screen.note(&format!("weft: {LACKING}"))?;
        }
        Err(error) => screen.note(&format!("weft: whether each node has an agent is not known: {error}"))?,
    }
    if late {
        let patience = args.wait.unwrap_or_default();
        screen.note(&format!("weft: not enforced on each node within {patience:?}"))?;
    }
    Ok(match (nobody, well) {
        (true, _) if args.wait.is_none() => Exit::NotAsked,
        (false, true) => Exit::Yes,
        _ => Exit::No,
    })
}

/// Waits until each node has an agent that is ready, and enforces all that is known now. A pod that has begun meanwhile, or that another one follows,
/// is found by looking again.
async fn everywhere(agents: &mut Agents, args: &Args) {
    let mut round = FIRST_ROUND;
    loop {
        let waited =
            join_all(agents.list.iter().map(async |agent| timeout(round, enforced(&agent.client)).await));
        let ready = agents.list.iter().all(|agent| agent.pod.as_ref().is_none_or(|pod| pod.ready));
        // Who may not ask goes by the pods that there are, and is told so at the end.
        let complete = are_complete(agents, args).await.unwrap_or(true);
        if waited.await.iter().all(|waited| matches!(waited, Ok(Ok(_)))) && ready && complete {
            return;
        }
        // Long enough, some time, for a node that has much to read.
        round = (round * 2).min(PATIENCE);
        sleep(BETWEEN_LONG).await;
        if let Ok(now) = args.ask.agents().await {
            *agents = now;
        }
    }
}

/// Whether each node that should have an agent has a pod of one, however that is.
async fn are_complete(agents: &Agents, args: &Args) -> Result<bool, AskError> {
    let Some(cluster) = agents.cluster.as_ref().filter(|_| args.ask.whom.node.is_empty()) else {
        return Ok(true);
    };
    match cluster.agents_wanted().await {
        Ok(wanted) => Ok(wanted.is_some_and(|wanted| wanted <= agents.list.len())),
        // They were installed in another way.
        Err(AskError::Missing { .. }) => Ok(true),
        Err(error) => Err(error),
    }
}

fn list(agents: &Agents, told: Told<Status>, now: SystemTime) -> Vec<NodeStatus> {
    let mut statuses: BTreeMap<_, _> = told.answers.into_iter().collect();
    let mut errors: BTreeMap<_, _> = told.silent.into_iter().collect();
    let of = |agent: &crate::agents::Agent| {
        let status = statuses.remove(&agent.node);
        let since = agent.pod.as_ref().and_then(|pod| pod.since);
        NodeStatus {
            node: Arc::clone(&agent.node),
            agent: agent.pod.as_ref().map(|pod| pod.name.to_string()),
            age_seconds: since.and_then(|since| Some(now.duration_since(since).ok()?.as_secs())),
            restarts: agent.pod.as_ref().map(|pod| pod.restarts),
            ready: agent.pod.as_ref().map(|pod| pod.ready),
            healthy: status.as_ref().is_some_and(is_healthy)
                && agent.pod.as_ref().is_none_or(|pod| pod.ready),
            error: errors.remove(&agent.node).map(|error| error.to_string()),
            status,
        }
    };
    agents.list.iter().map(of).collect()
}

fn page(list: &[NodeStatus], width: Option<u16>) -> String {
    let mut sections = vec![nodes(list).render(width)];
    let failures: String = list.iter().flat_map(failures).collect();
    if !failures.is_empty() {
        sections.push(failures);
    }
    let degradations = degradations(list);
    if !degradations.is_empty() {
        let mut table = Table::new([
            Column::whole("NODE"),
            Column::whole("DEGRADED"),
            Column::folding("REASON"),
            Column::folding("REMEDY"),
        ]);
        for ([feature, reason, remedy], nodes) in degradations {
            table.row([nodes, feature.to_owned(), reason.to_owned(), remedy.to_owned()]);
        }
        sections.push(table.render(width));
    }
    let problems = problems(list);
    if !problems.is_empty() {
        sections.push(problems);
    }
    sections.join("\n")
}

fn nodes(list: &[NodeStatus]) -> Table {
    let mut table = Table::new([
        Column::whole("NODE"),
        Column::whole("AGENT"),
        Column::whole("VERSION"),
        Column::whole("SYNCED"),
        Column::number("PODS"),
        Column::folding("PROXY"),
        Column::number("RESTARTS"),
        Column::number("AGE"),
    ]);
    for NodeStatus { node, agent, age_seconds, restarts, status, .. } in list {
        let of = |text: fn(&Status) -> String| status.as_ref().map(text).unwrap_or_default();
        let age = age_seconds.map(|seconds| units::span(Duration::from_secs(seconds)));
        table.row([
            node.to_string(),
            agent.clone().unwrap_or_default(),
            of(|status| status.version.clone()),
            if status.is_some() { of(synced) } else { "not heard".to_owned() },
            of(|status| status.pods.len().to_string()),
            of(|status| status.proxy.as_ref().map(in_words).unwrap_or_default()),
            restarts.map(|restarts| restarts.to_string()).unwrap_or_default(),
            age.unwrap_or_default(),
        ]);
    }
    table
}

/// `yes`, `no: 12 of 14`: the version in force of the one that was read.
fn synced(status: &Status) -> String {
    let read = status.source.as_ref().is_none_or(|source| source.synced && source.failure.is_none());
    match (status.enforced_version == status.snapshot_version && status.failure.is_none(), read) {
        (true, true) => "yes".to_owned(),
        (true, false) => "no: source".to_owned(),
        (false, _) => format!("no: {} of {}", status.enforced_version, status.snapshot_version),
    }
}

/// `n2: weft_pod is full; enrol fewer pods on this node`.
fn failures(node: &NodeStatus) -> Vec<String> {
    let mut said: Vec<String> = node.error.iter().cloned().collect();
    if node.ready == Some(false) {
        let pod = node.agent.as_deref().unwrap_or_default();
        said.push(format!("its pod {pod} is not ready, as its kubelet says; it may have begun just now"));
    }
    if let Some(status) = &node.status {
        said.extend(status.failure.as_ref().map(ToString::to_string));
        let source = status.source.as_ref().and_then(|source| source.failure.as_ref());
        said.extend(source.map(|why| format!("the source is not heard: {why}")));
        said.extend(status.proxy.iter().flat_map(|proxy| &proxy.failure).map(|why| format!("proxy: {why}")));
        let issuer = status.certificates.as_ref().and_then(|view| view.failure.as_ref());
        said.extend(issuer.map(|why| format!("issuer: {}", crate::get::in_words(why))));
        for jwks in &status.jwks {
            let why = jwks.failure.as_ref().map(crate::get::in_words);
            said.extend(why.map(|why| format!("token keys of {}: {why}", jwks.location)));
        }
    }
    said.into_iter().map(|said| format!("{}: {said}\n", node.node)).collect()
}

type Degraded<'a> = ([&'a str; 3], String);

/// What several nodes cannot do for the same reason is there once.
fn degradations(list: &[NodeStatus]) -> Vec<Degraded<'_>> {
    let all = list.iter().flat_map(|node| node.status.iter().map(move |status| (&node.node, status)));
    let answered = all.clone().count();
    let mut nodes = BTreeMap::<[&str; 3], Vec<&str>>::new();
    for (node, status) in all {
        for it in &status.degradations {
            nodes.entry([&it.feature, &it.reason, &it.remedy]).or_default().push(node);
        }
    }
    let who = |nodes: Vec<&str>| {
        if nodes.len() == answered && answered > 1 { "all".to_owned() } else { nodes.join(",") }
    };
    nodes.into_iter().map(|(what, nodes)| (what, who(nodes))).collect()
}

/// Problems of the configuration, once where nodes have the same.
fn problems(list: &[NodeStatus]) -> String {
    let mut texts = BTreeMap::<String, Vec<&str>>::new();
    for node in list.iter().filter(|node| node.status.as_ref().is_some_and(|it| !it.problems.is_empty())) {
        let problems = &node.status.as_ref().expect("it has problems").problems;
        texts.entry(problem::list(problems)).or_default().push(&node.node);
    }
    let mut text = String::new();
    let differ = texts.len() > 1;
    for (problems, nodes) in texts {
        if differ {
            let _ = writeln!(text, "On {}:", nodes.join(","));
        }
        text += &problems;
    }
    text
}

const LACKING: &str = "DaemonSet weft-system/weft wants an agent on nodes that have no pod of one; why, says: \
                       kubectl -n weft-system describe daemonset weft";

/// Before pods are looked at again.
const FIRST_ROUND: Duration = Duration::from_secs(2);
