//! `weft describe`: one object with all that touches it.

mod route;

use std::{fmt::Write, path::PathBuf, sync::Arc};

use clap::Subcommand;
use weft_kubernetes::{Cluster, Connection};
use weft_telemetry::api::{PodDescription, ServiceDescription, ServiceView};

use crate::{
    Error, Exit, Screen,
    ask::{Ask, Name},
    controllers,
    get::{self, joined},
    observe,
    output::Format,
    peers,
    table::{Column, Table},
};

/// What to describe.
#[derive(clap::Args, Clone, Debug)]
#[command(after_help = "\
Examples:
  weft describe pod shop/web-1
  weft describe service shop/api
  weft describe httproute shop/canary
  weft describe controller")]
pub struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Clone, Debug, Subcommand)]
enum What {
    /// A pod: identity, Services, policies, connections, last flows
    #[command(visible_alias = "po")]
    Pod(Of),
    /// A Service: ports, endpoints, connections
    #[command(visible_alias = "svc")]
    Service(Of),
    /// An HTTPRoute: parents and conditions, rules, and the requests that took it
    #[command(name = "httproute")]
    HttpRoute(Of),
    /// The controllers of a cluster's mesh, and which of them leads
    #[command(visible_alias = "controllers")]
    Controller(OfCluster),
}

#[derive(clap::Args, Clone, Debug)]
struct OfCluster {
    /// The cluster, by the current context of a kubeconfig [default: that of the environment, or ~/.kube/config]
    #[arg(long, value_name = "FILE")]
    kubeconfig: Option<PathBuf>,
    /// How the answer is written
    #[arg(long, short, value_enum, default_value_t)]
    output: Format,
}

#[derive(clap::Args, Clone, Debug)]
struct Of {
    /// Its name
    #[arg(value_name = "NAMESPACE/NAME")]
    name: Name,
    #[command(flatten)]
    ask: Ask,
}

pub(crate) async fn run(args: Args, screen: &mut Screen) -> Result<Exit, Error> {
    match args.what {
        What::Pod(of) => {
            let agents = of.ask.agents().await?;
            let agent = agents.of_pod(&of.name, screen).await?;
            let found: PodDescription = agent.client.get(&format!("/v1/pods/{}", of.name.0)).await?;
            of.ask.output.write(screen, &found, pod)?;
        }
        What::Service(of) => {
            let path = format!("/v1/services/{}", of.name.0);
            let agents = of.ask.agents().await?;
            let found = match agents.alone() {
                Some(client) => client.get(&path).await?,
                None => whole(agents.each(screen, async |client| client.get(&path).await).await?),
            };
            of.ask.output.write(screen, &found, service)?;
        }
        What::HttpRoute(of) => {
            let agents = of.ask.agents().await?;
            let found = route::find(&agents, &of.name, screen).await?;
            of.ask.output.write(screen, &found, route::page)?;
        }
        What::Controller(of) => {
            let cluster = Cluster::connect(&Connection::found(of.kubeconfig)).await?;
            let found = controllers::of(&cluster).await?;
            of.output.write(screen, &found, |found, screen| controllers::page(found, screen.width()))?;
            // As healthy as it is.
            if found.leader.is_none() {
                return Ok(Exit::No);
            }
        }
    }
    Ok(Exit::Yes)
}

/// A Service as the first node has it, with the connections from all.
fn whole(answers: Vec<(Arc<str>, ServiceDescription)>) -> ServiceDescription {
    let mut answers = answers.into_iter().map(|(_, found)| found);
    let mut first = answers.next().expect("somebody answered");
    first.connections.extend(answers.flat_map(|found| found.connections));
    first
}

fn pod(found: &PodDescription, screen: &Screen) -> String {
    let width = screen.width();
    let workload = &found.workload;
    let labels: Vec<_> = workload.labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
    let mesh = match (&found.status, workload.enrolled) {
        (Some(status), _) => match &status.detail {
            Some(detail) => format!("{} ({detail})", status.state),
            None => status.state.to_string(),
        },
        (None, true) => "enrolled, of another node".to_owned(),
        (None, false) => "not enrolled".to_owned(),
    };
    let mut lines = vec![
        ("Name", format!("{}/{}", workload.namespace, workload.name)),
        ("Identity", workload.identity.clone()),
        ("Workload", workload.workload.clone()),
        ("Labels", labels.join(",")),
        ("IPs", joined(&workload.ips)),
        ("Node", get::node(workload)),
        ("Netns", workload.netns.clone().unwrap_or_default()),
        ("State", get::state(workload).to_owned()),
        ("Mesh", mesh),
    ];
    let peers = found.status.as_ref().and_then(peers::in_words);
    lines.extend(peers.map(|peers| ("Apps see", peers)));
    let mut text = fields(&lines);
    section(&mut text, "Endpoint of", found.endpoints.is_empty(), || {
        get::endpoints(found.endpoints.iter()).render(width)
    });
    section(&mut text, "Policies", found.policies.is_empty(), || {
        get::policies(found.policies.iter()).render(width)
    });
    section(&mut text, "Connections", found.connections.is_empty(), || {
        get::connections(found.connections.iter()).render(width)
    });
    section(&mut text, "Last flows", found.flows.is_empty(), || {
        let mut columns = observe::Columns::new(screen);
        found.flows.iter().map(|flow| columns.line(None, flow)).collect()
    });
    text
}

fn service(found: &ServiceDescription, screen: &Screen) -> String {
    let width = screen.width();
    let service = &found.service;
    let mut text = fields(&[
        ("Name", format!("{}/{}", service.namespace, service.name)),
        ("Type", service.kind.clone()),
        ("IPs", joined(&service.ips)),
        ("Balancing", get::balancing(service)),
    ]);
    section(&mut text, "Ports", service.ports.is_empty(), || ports(service).render(width));
    section(&mut text, "Endpoints", found.endpoints.is_empty(), || {
        get::endpoints(found.endpoints.iter()).render(width)
    });
    section(&mut text, "Connections", found.connections.is_empty(), || {
        get::connections(found.connections.iter()).render(width)
    });
    text
}

fn ports(service: &ServiceView) -> Table {
    let mut table = Table::new([
        Column::number("PORT"),
        Column::whole("PROTOCOL"),
        Column::whole("NAME"),
        Column::whole("APP-PROTOCOL"),
        Column::whole("ENDPOINTS"),
    ]);
    for port in &service.ports {
        table.row([
            port.port.to_string(),
            port.protocol.to_string(),
            port.name.clone(),
            port.app_protocol.clone().unwrap_or_default(),
            format!("{}/{}", port.eligible, port.endpoints),
        ]);
    }
    table
}

/// `Name:  value` lines, the values below each other.
pub(crate) fn fields(fields: &[(&str, String)]) -> String {
    let widest = fields.iter().map(|(name, _)| name.len()).max().unwrap_or_default() + 1;
    let mut text = String::new();
    for (name, value) in fields {
        let value = if value.is_empty() { "-" } else { value };
        let _ = writeln!(text, "{:widest$}  {value}", format!("{name}:"));
    }
    text
}

/// A titled part of a page.
pub(crate) fn section(text: &mut String, title: &str, empty: bool, body: impl FnOnce() -> String) {
    if empty {
        let _ = write!(text, "\n{title}: none\n");
    } else {
        let _ = write!(text, "\n{title}:\n{}", body());
    }
}
