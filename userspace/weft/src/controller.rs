//! What the controller is told.

use std::{net::SocketAddr, path::PathBuf, sync::Arc};

use anyhow::Result;
use clap::Args;
use weft_controller::Settings;
use weft_kubernetes::Connection;
use weft_model::ROOT_NAMESPACE;
use weft_runtime::Shutdown;
use weft_telemetry::logging;

use crate::{
    core_dump,
    settings::{ApiServer, LogFormat},
};

/// What `weft controller` is given.
#[derive(Args, Clone, Debug)]
#[command(after_help = "\
Examples:
  weft controller                                       # in a pod, as `weft install` has it
  weft controller --kubeconfig ~/.kube/config --listen 127.0.0.1:9475")]
pub(crate) struct ControllerArgs {
    /// The cluster whose mesh it is for, by the current context of a kubeconfig [default: that of the pod which the
    /// controller runs in]
    #[arg(long, value_name = "FILE")]
    kubeconfig: Option<PathBuf>,
    /// Where the API server of that pod's cluster is [default: its Service's address]
    #[arg(long, value_name = "HOST:PORT", default_value = "", hide_default_value = true)]
    api_server: ApiServer,
    /// The namespace that the mesh itself lives in
    #[arg(long, value_name = "NAME", default_value = ROOT_NAMESPACE)]
    namespace: String,
    /// The trust domain of all identities of the mesh, whatever MeshConfig says [default: MeshConfig's, or cluster.local]
    #[arg(long, value_name = "NAME", value_parser = weft_cli::install::trust_domain)]
    trust_domain: Option<Arc<str>>,
    /// Where agents ask, over HTTPS
    #[arg(long, value_name = "ADDRESS", default_value = "0.0.0.0:9475")]
    listen: SocketAddr,
    /// Where /metrics, /healthz and /readyz are served
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:9476")]
    metrics: SocketAddr,
    /// What is logged: a level, or levels by target like `weft_controller=debug,info`
    #[arg(long, value_name = "FILTER", default_value = "info")]
    log: String,
    /// How it is logged
    #[arg(long, value_name = "FORMAT", value_enum, default_value_t)]
    log_format: LogFormat,
}

/// Runs until a signal asks it to end, or a part of it fails.
pub(crate) async fn run(args: ControllerArgs) -> Result<()> {
    logging::start(&args.log, args.log_format.into())?;
    core_dump::leave_memory_out();
    let shutdown = Shutdown::catch()?;
    let settings = Settings {
        connection: Connection::of_pod(args.kubeconfig, args.api_server.0),
        namespace: args.namespace.into(),
        trust_domain: args.trust_domain,
        listen: args.listen,
        metrics: args.metrics,
        version: env!("CARGO_PKG_VERSION"),
    };
    Ok(weft_controller::run(settings, shutdown).await?)
}
