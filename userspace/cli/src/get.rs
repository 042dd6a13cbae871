//! `weft get`: lists of what the agent knows.

mod certificates;
mod routes;
mod tables;

pub(crate) use certificates::{certificates, in_words};
use clap::ValueEnum;
pub(crate) use routes::routes;
pub(crate) use tables::{
    balancing, bare, connections, endpoints, joined, node, policies, services, state, workloads,
};
use weft_telemetry::api::{
    CertificatesView, ConnectionView, EndpointView, PolicyView, RouteView, ServiceView, WorkloadView,
};

use crate::{Client, Error, Exit, Screen, ask::Ask};

/// What to list.
#[derive(clap::Args, Clone, Debug)]
#[command(after_help = "\
Examples:
  weft get services
  weft get endpoints -n shop
  weft get httproutes
  weft get certificates
  weft get connections -o json
  weft get connections --unprotected")]
pub struct Args {
    /// What to list
    #[arg(value_enum, value_name = "KIND")]
    kind: Kind,
    /// Only those of this namespace
    #[arg(long, short)]
    namespace: Option<String>,
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
    let (client, format) = (args.ask.client(), args.ask.output);
    let wanted = |namespace: &str| args.namespace.as_deref().is_none_or(|wanted| wanted == namespace);
    if args.unprotected && !matches!(args.kind, Kind::Connections) {
        return Err(Error::OnlyConnections);
    }
    match args.kind {
        Kind::Services => {
            let list = list(&client, "services", |item: &ServiceView| wanted(&item.namespace)).await?;
            format.write(screen, &list, |list, screen| services(list, screen.width()))?;
        }
        Kind::Endpoints => {
            let list = list(&client, "endpoints", |item: &EndpointView| wanted(&item.namespace)).await?;
            format.write(screen, &list, |list, screen| endpoints(list, screen.width()))?;
        }
        Kind::Workloads => {
            let list = list(&client, "workloads", |item: &WorkloadView| wanted(&item.namespace)).await?;
            format.write(screen, &list, |list, screen| workloads(list, screen.width()))?;
        }
        Kind::Policies => {
            let list = list(&client, "policies", |item: &PolicyView| wanted(&item.namespace)).await?;
            format.write(screen, &list, |list, screen| policies(list, screen.width()))?;
        }
        Kind::HttpRoutes | Kind::GrpcRoutes | Kind::TlsRoutes | Kind::TcpRoutes => {
            let kind = args.kind.object();
            let of_kind = |item: &RouteView| item.kind == kind && wanted(&item.namespace);
            let list = list(&client, "routes", of_kind).await?;
            format.write(screen, &list, |list, screen| routes(list, screen.width()))?;
        }
        Kind::Connections => {
            let ends = |item: &ConnectionView| {
                let ends = [&item.source.namespace, &item.destination.namespace];
                ends.into_iter().any(|namespace| wanted(namespace.as_deref().unwrap_or_default()))
            };
            let wanted =
                |item: &ConnectionView| ends(item) && (!args.unprotected || item.unprotected.is_some());
            let list = list(&client, "connections", wanted).await?;
            format.write(screen, &list, |list, screen| connections(list, screen.width()))?;
        }
        Kind::Certificates => {
            let mut view: CertificatesView = client.get("/v1/certificates").await?;
            view.certificates.retain(|certificate| wanted(&certificate.namespace));
            format.write(screen, &view, |view, screen| certificates(view, screen.width()))?;
        }
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

async fn list<T: serde::de::DeserializeOwned>(
    client: &Client,
    kind: &str,
    wanted: impl Fn(&T) -> bool,
) -> Result<Vec<T>, Error> {
    let mut list: Vec<T> = client.get(&format!("/v1/{kind}")).await?;
    list.retain(wanted);
    Ok(list)
}
