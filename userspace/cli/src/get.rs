//! `weft get`: lists of what the agent knows.

mod certificates;
mod list;
mod routes;
mod tables;

pub(crate) use certificates::in_words;
use clap::ValueEnum;
pub(crate) use routes::{complaints, condition, place, routes, rules};
pub(crate) use tables::{
    balancing, bare, connections, endpoints, joined, node, policies, services, state, workloads,
};
use weft_telemetry::api::{ConnectionView, EndpointView, PolicyView, RouteView, ServiceView, WorkloadView};

use self::list::{CONNECTIONS, ENDPOINTS, List, POLICIES, ROUTES, SERVICES, WORKLOADS};
use crate::{
    Error, Exit, Screen,
    ask::{Ask, Label},
};

/// What to list.
#[derive(clap::Args, Clone, Debug)]
#[command(after_help = "\
Examples:
  weft get services
  weft get endpoints -n shop
  weft get httproutes
  weft get certificates
  weft get connections -o json
  weft get connections --unprotected
  weft get workloads -l app=web
  weft get connections --node n1

Of a whole cluster, what all nodes say alike is shown once; where they differ,
a column names those that say so.")]
pub struct Args {
    /// What to list
    #[arg(value_enum, value_name = "KIND")]
    kind: Kind,
    /// Only those of this namespace
    #[arg(long, short)]
    namespace: Option<String>,
    /// Those of all namespaces, which is the default
    #[arg(long, short = 'A', conflicts_with = "namespace")]
    all_namespaces: bool,
    /// Of workloads, only those with these labels
    #[arg(long = "selector", short = 'l', value_name = "KEY=VALUE,...", value_delimiter = ',')]
    labels: Vec<Label>,
    /// Of connections, only those that missed the mesh, and why
    #[arg(long)]
    unprotected: bool,
    #[command(flatten)]
    ask: Ask,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Kind {
    /// Services, and how they are balanced
    #[value(aliases = ["service", "svc"])]
    Services,
    /// Endpoints, and whether this node uses them
    #[value(aliases = ["endpoint", "ep"])]
    Endpoints,
    /// Pods of all nodes
    #[value(aliases = ["workload", "wl", "pods", "pod", "po"])]
    Workloads,
    /// Authorization policies, and what they protect
    #[value(aliases = ["policy", "authz"])]
    Policies,
    /// HTTPRoutes, and what became of them
    #[value(name = "httproutes", alias = "httproute")]
    HttpRoutes,
    /// GRPCRoutes, and what became of them
    #[value(name = "grpcroutes", alias = "grpcroute")]
    GrpcRoutes,
    /// TLSRoutes, and what became of them
    #[value(name = "tlsroutes", alias = "tlsroute")]
    TlsRoutes,
    /// TCPRoutes, and what became of them
    #[value(name = "tcproutes", alias = "tcproute")]
    TcpRoutes,
    /// Live connections of this node's enrolled pods
    #[value(aliases = ["connection", "conn"])]
    Connections,
    /// Certificates of this node's enrolled pods, and their issuer
    #[value(aliases = ["certificate", "cert", "certs"])]
    Certificates,
}

pub(crate) async fn run(args: Args, screen: &mut Screen) -> Result<Exit, Error> {
    if args.unprotected && !matches!(args.kind, Kind::Connections) {
        return Err(Error::OnlyConnections);
    }
    if !args.labels.is_empty() && !matches!(args.kind, Kind::Workloads) {
        return Err(Error::OnlyWorkloads);
    }
    let agents = args.ask.agents().await?;
    let format = args.ask.output;
    let wanted = |namespace: &str| args.namespace.as_deref().is_none_or(|wanted| wanted == namespace);
    let list = List { agents: &agents, format, screen };
    match args.kind {
        Kind::Services => {
            list.show("services", |item: &ServiceView| wanted(&item.namespace), &SERVICES).await?;
        }
        Kind::Endpoints => {
            list.show("endpoints", |item: &EndpointView| wanted(&item.namespace), &ENDPOINTS).await?;
        }
        Kind::Workloads => {
            let labelled = |item: &WorkloadView| args.labels.iter().all(|label| label.is_of(&item.labels));
            let wanted = |item: &WorkloadView| wanted(&item.namespace) && labelled(item);
            list.show("workloads", wanted, &WORKLOADS).await?;
        }
        Kind::Policies => {
            list.show("policies", |item: &PolicyView| wanted(&item.namespace), &POLICIES).await?;
        }
        Kind::HttpRoutes | Kind::GrpcRoutes | Kind::TlsRoutes | Kind::TcpRoutes => {
            let kind = args.kind.object();
            let of_kind = |item: &RouteView| item.kind == kind && wanted(&item.namespace);
            list.show("routes", of_kind, &ROUTES).await?;
        }
        Kind::Connections => {
            let ends = |item: &ConnectionView| {
                let ends = [&item.source.namespace, &item.destination.namespace];
                ends.into_iter().any(|namespace| wanted(namespace.as_deref().unwrap_or_default()))
            };
            let wanted =
                |item: &ConnectionView| ends(item) && (!args.unprotected || item.unprotected.is_some());
            list.show("connections", wanted, &CONNECTIONS).await?;
        }
        Kind::Certificates => certificates::show(&agents, wanted, format, screen).await?,
    }
    Ok(Exit::Yes)
}

impl Kind {
    /// The kind as its objects say it.
    fn object(self) -> &'static str {
        match self {
            Self::HttpRoutes => "HTTPRoute",
            Self::GrpcRoutes => "GRPCRoute",
            Self::TlsRoutes => "TLSRoute",
            Self::TcpRoutes => "TCPRoute",
            Self::Services => "Service",
            Self::Endpoints => "EndpointSlice",
            Self::Workloads => "Pod",
            Self::Policies => "AuthorizationPolicy",
            Self::Connections => "Connection",
            Self::Certificates => "Certificate",
        }
    }
}
