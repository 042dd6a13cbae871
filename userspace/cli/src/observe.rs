//! `weft observe`: flows, one line each.

mod line;
mod nodes;

use clap::ArgAction;
pub(crate) use line::Columns;
use nodes::{coming, past};
use serde::Serialize;
use weft_telemetry::api::{Flow, FlowFilter, FlowLine, FlowProtocol, Statuses, Verdict};

use crate::{
    Error, Exit, Screen,
    ask::{Ask, Label},
    output::Format,
};

/// Which flows to show.
#[derive(clap::Args, Clone, Debug)]
#[command(after_help = "\
Each line: time, client -> Service (server), protocol, verdict; then the path,
what happened, bytes sent/received, duration and round-trip time, or, for DENIED
and AUDIT, the reason and the rule. A request shows its method, path, status,
latency and route. Bytes are payload, seen from the client.
With -o json: one object a line. Of a cluster, the flows of all nodes by their
time, each with the node that tells of it; between two nodes both may.

Examples:
  weft observe --last 100
  weft observe -A --follow
  weft observe --follow -n shop --verdict DENIED
  weft observe --follow --protocol HTTP --status 5xx
  weft observe --follow -l app=web
  weft observe --follow --pod shop/web-1 -o json | jq .destination")]
pub struct Args {
    /// Show new flows as they come, until interrupted
    #[arg(long, short, action = ArgAction::SetTrue)]
    follow: bool,
    /// Only flows with an end in this namespace
    #[arg(long, short)]
    namespace: Option<String>,
    /// Flows of all namespaces, which is the default
    #[arg(long, short = 'A', conflicts_with = "namespace")]
    all_namespaces: bool,
    /// Only flows of this pod, with its namespace (shop/web-1) or without
    #[arg(long, value_name = "NAME")]
    pod: Option<String>,
    /// Only flows with an end that has these labels, of pods that are known now
    #[arg(long = "selector", short = 'l', value_name = "KEY=VALUE,...", value_delimiter = ',')]
    labels: Vec<Label>,
    /// Only flows with this verdict: FORWARDED, DENIED or AUDIT
    #[arg(long, value_name = "VERDICT", ignore_case = true)]
    verdict: Option<Verdict>,
    /// Only flows of this protocol: TCP, UDP or HTTP (requests)
    #[arg(long, value_name = "PROTOCOL")]
    protocol: Option<FlowProtocol>,
    /// Only requests with this method
    #[arg(long, value_name = "METHOD")]
    method: Option<String>,
    /// Only requests whose path begins so
    #[arg(long, value_name = "PREFIX")]
    http_path: Option<String>,
    /// Only requests that were answered so: a status like 404, or a class like 5xx
    #[arg(long, value_name = "STATUS")]
    status: Option<Statuses>,
    /// So many of the last flows [default: 20; 0 with --follow]
    #[arg(long, value_name = "N")]
    last: Option<usize>,
    #[command(flatten)]
    ask: Ask,
}

/// A [`FlowFilter`] and how much of it.
#[derive(Serialize)]
struct Query {
    last: usize,
    follow: bool,
    #[serde(skip_serializing_if = "String::is_empty")]
    labels: String,
    #[serde(flatten)]
    filter: FlowFilter,
}

pub(crate) async fn run(args: Args, screen: &mut Screen) -> Result<Exit, Error> {
    let filter = FlowFilter {
        namespace: args.namespace,
        pod: args.pod,
        verdict: args.verdict,
        protocol: args.protocol,
        method: args.method,
        http_path: args.http_path,
        status: args.status,
    };
    let last = args.last.unwrap_or(if args.follow { 0 } else { LAST });
    let labels: Vec<_> = args.labels.iter().map(ToString::to_string).collect();
    let query = Query { last, follow: args.follow, labels: labels.join(","), filter };
    let agents = args.ask.agents().await?;
    let mut page = Page { format: args.ask.output, columns: Columns::new(screen) };
    match (agents.alone(), args.follow) {
        (Some(client), _) => {
            let mut lines = client.lines("/v1/flows", &query).await?;
            while let Some(line) = lines.next().await? {
                page.write(None, &line, screen)?;
            }
        }
        (None, false) => past(&agents, &query, &mut page, screen).await?,
        (None, true) => coming(&agents, &query, &mut page, screen).await?,
    }
    if args.follow {
        screen.note(if agents.alone().is_some() {
            "weft: the agent ended"
        } else {
            "weft: all agents ended"
        })?;
        return Ok(Exit::NotAsked);
    }
    Ok(Exit::Yes)
}

/// How flows are written.
pub(super) struct Page {
    format: Format,
    columns: Columns,
}

/// A flow, and the node that tells of it.
#[derive(Serialize)]
struct OfNode<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    node: Option<&'a str>,
    #[serde(flatten)]
    flow: &'a Flow,
}

impl Page {
    pub(super) fn write(
        &mut self,
        node: Option<&str>,
        line: &FlowLine,
        screen: &mut Screen,
    ) -> Result<(), Error> {
        let flow = match line {
            FlowLine::Flow(flow) => flow,
            FlowLine::Missed { missed } => {
                let of = node.map(|node| format!(" on {node}")).unwrap_or_default();
                return Ok(screen.note(&format!("weft: {missed} flows came too fast{of}"))?);
            }
        };
        let text = match self.format {
            Format::Table => self.columns.line(node, flow),
            Format::Json => {
                serde_json::to_string(&OfNode { node, flow }).expect("a flow has string keys only") + "\n"
            }
            Format::Yaml => format!("---\n{}", serde_yaml::to_string(&OfNode { node, flow })?),
        };
        Ok(screen.write(&text)?)
    }
}

/// Flows shown when no number is asked for.
const LAST: usize = 20;
