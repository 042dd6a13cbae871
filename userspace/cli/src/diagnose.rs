//! `weft diagnose`: all that a mesh tells of itself, in one archive for whoever helps.

mod archive;
mod clean;

use std::{path::PathBuf, sync::Arc, time::SystemTime};

use futures_util::future::join_all;
use serde::Serialize;
use tokio::time::timeout;
use weft_kubernetes::Replicas;
use weft_telemetry::{api::Time, window::Window};

use self::archive::Archive;
use crate::{
    Error, Exit, Screen,
    agents::{Agent, Agents, PATIENCE},
    ask::Whom,
    controllers,
};

/// Of which agents, and where to.
#[derive(clap::Args, Clone, Debug)]
#[command(after_help = "\
A folder for each node: status, lists, what the kernel holds, metrics, the last
flows and, of a cluster, the agent's log. Agents tell no keys; what looks like a
private key or a token in flows or logs is taken out. Names, addresses and paths
are in it: give it to those who may know them.

Exit code: 0 each agent answered; 1 some did; 2 none did, or nothing is written.

Examples:
  weft diagnose
  weft diagnose -f mesh.tar --node n1")]
pub struct Args {
    /// The archive [default: weft-diagnose-TIME.tar]
    #[arg(long, short, value_name = "FILE")]
    file: Option<PathBuf>,
    #[command(flatten)]
    whom: Whom,
}

/// What was asked, of whom and when.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct About {
    time: Time,
    /// Of this command.
    version: &'static str,
    api_server: Option<String>,
    /// The controllers, and which of them leads; `None` where that is not to be had.
    controllers: Option<Replicas>,
    nodes: Vec<AboutNode>,
}

#[derive(Serialize)]
struct AboutNode {
    node: Arc<str>,
    agent: String,
    image: Option<String>,
    /// What could not be had, and why.
    missing: Vec<String>,
}

/// A file of a node, and its text; or why there is none.
type Part = (String, Result<String, Error>);

pub(crate) async fn run(args: Args, screen: &mut Screen) -> Result<Exit, Error> {
    let agents = Agents::of(&args.whom).await?;
    let now = SystemTime::now();
    let path = args.file.unwrap_or_else(|| {
        let time: String = Time::from(now).to_string().chars().filter(char::is_ascii_alphanumeric).collect();
        format!("weft-diagnose-{}.tar", &time[..15.min(time.len())]).into()
    });
    let mut archive = Archive::new(path.clone(), now)?;
    let asked = join_all(agents.list.iter().map(async |agent| (agent, parts(agent, &agents).await)));
    let (mut nodes, mut silent, mut partly) = (Vec::new(), 0, false);
    for (agent, parts) in asked.await {
        let folder = agent.node.replace('/', "_");
        let mut missing = Vec::new();
        let all = parts.len();
        for (name, text) in parts {
            match text {
                Ok(text) => archive.add(&format!("nodes/{folder}/{name}"), &clean::cleaned(&text))?,
                Err(error) => missing.push(format!("{name}: {error}")),
            }
        }
        silent += usize::from(missing.iter().any(|why| why.starts_with(STATUS)));
        partly |= !missing.is_empty() && missing.len() < all;
        for why in &missing {
            screen.note(&format!("weft: {}: {why}", agent.node))?;
        }
        let image = agent.pod.as_ref().map(|pod| pod.image.clone());
        nodes.push(AboutNode {
            node: Arc::clone(&agent.node),
            agent: agent.client.way().to_string(),
            image,
            missing,
        });
    }
    let (answered, all) = (nodes.len() - silent, nodes.len());
    let api_server = agents.cluster.as_ref().map(|cluster| cluster.server().to_owned());
    let controllers = match &agents.cluster {
        Some(cluster) => controllers::beside(cluster, screen).await?,
        None => None,
    };
    let about =
        About { time: now.into(), version: env!("CARGO_PKG_VERSION"), api_server, controllers, nodes };
    archive.add("about.json", &json(&about))?;
    archive.finish()?;
    let note = if partly { "; about.json says what is missing" } else { "" };
    screen.write(&format!("{}: {answered} of {all} nodes{note}\n", path.display()))?;
    Ok(match answered {
        0 => Exit::NotAsked,
        _ if answered == all => Exit::Yes,
        _ => Exit::No,
    })
}

/// One after the other: a node is not to be troubled by who looks at it.
async fn parts(agent: &Agent, agents: &Agents) -> Vec<Part> {
    let seconds = Window::LONGEST.as_secs();
    let mut questions = vec![(STATUS.to_owned(), "/v1/status".to_owned())];
    questions.extend(LISTS.iter().map(|list| (format!("{list}.json"), format!("/v1/{list}"))));
    questions.extend(BPF.iter().map(|table| (format!("bpf/{table}.json"), format!("/v1/bpf/{table}"))));
    questions.push(("traffic.json".into(), format!("/v1/traffic?seconds={seconds}")));
    questions.push(("flows.ndjson".into(), format!("/v1/flows?last={FLOWS}")));
    questions.push(("metrics.txt".into(), "/v1/metrics".into()));
    let mut parts = Vec::new();
    for (file, path) in questions {
        let late = |_| Error::Late { agent: agent.client.way().to_string(), seconds: PATIENCE.as_secs() };
        let text = timeout(PATIENCE, agent.client.text(&path)).await.map_err(late).flatten();
        let is_away = matches!(&text, Err(error) if !matches!(error, Error::Refused(_)));
        parts.push((file, text));
        if is_away {
            break; // the next would not be answered either
        }
    }
    if let (Some(cluster), Some(pod)) = (&agents.cluster, &agent.pod) {
        parts.push(("agent.log".into(), cluster.log(pod, LINES).await.map_err(Error::from)));
    }
    parts
}

fn json(value: &impl Serialize) -> String {
    serde_json::to_string_pretty(value).expect("it has string keys only") + "\n"
}

const STATUS: &str = "status.json";
const LISTS: &[&str] =
    &["services", "endpoints", "workloads", "policies", "routes", "connections", "certificates"];
const BPF: &[&str] = &["services", "backends", "policy", "pods", "stat"];
/// Flows of each node.
const FLOWS: usize = 1000;
/// Lines of each log.
const LINES: u32 = 5000;
