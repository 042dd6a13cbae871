//! `weft proxy`: the process that carries what the kernel does not.

use std::{
    io,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::Result;
use clap::{Args, Subcommand};
use weft_cli::proxy::UpgradeArgs;
use weft_datapath::{LeaseMap, OriginMap};
use weft_keeper::Entered;
use weft_proxy::{Lease, Maps, Proxy, Settings, Unlent, serve_agent};
use weft_runtime::Shutdown;
use weft_telemetry::logging;
use weft_transport::handover::{self, Hello};

use crate::{core_dump, settings::LogFormat};

/// What `weft proxy` is given.
#[derive(Args, Clone, Debug)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct ProxyArgs {
    #[command(subcommand)]
    pub(crate) verb: Option<ProxyVerb>,
    /// The run directory of the agent, which lends it the pods' listeners
    #[arg(long, value_name = "DIR", default_value = "/run/weft")]
    run_dir: PathBuf,
    /// What is logged: a level, or levels by target like `weft_proxy=debug,info`
    #[arg(long, value_name = "FILTER", default_value = "info")]
    log: String,
    /// How it is logged
    #[arg(long, value_name = "FORMAT", value_enum, default_value_t)]
    log_format: LogFormat,
}

/// What can be asked for.
#[derive(Clone, Debug, Subcommand)]
pub(crate) enum ProxyVerb {
    /// Replace the node's proxy by the next generation, without a refused connection
    Upgrade(UpgradeArgs),
}

/// Runs until it has drained, or a part of it fails. Before any other thread: what it gives up here, it gives
/// up for all.
pub(crate) fn run(args: &ProxyArgs) -> Result<()> {
    logging::start(&args.log, args.log_format.into())?;
    core_dump::leave_memory_out();
    let entered = weft_keeper::enter(&args.run_dir, weft_kubernetes::above_pods)?;
    tracing::info!(generation = entered.generation, run_dir = %args.run_dir.display(), "proxy started");
    // The workers have threads of their own: this one speaks with the agent.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(serve(&entered, &args.run_dir))
}

async fn serve(entered: &Entered, run_dir: &Path) -> Result<()> {
    let mut shutdown = Shutdown::catch()?;
    let nothing = Arc::new(Unlent);
    let (handle, reader) = Proxy::start(Settings::default(), Arc::clone(&nothing) as _, nothing)?;
    let hello = Hello::of_this_process(entered.generation, env!("CARGO_PKG_VERSION"));
    let socket = run_dir.join(handover::SOCKET);
    let stop = async {
        let signal = shutdown.asked().await;
        tracing::info!(signal, "proxy ends once its connections have ended");
        // Whoever cannot wait so long kills: `weft cleanup` after 3 s, the kubelet after the pod's grace.
        weft_keeper::DRAIN
    };
    serve_agent(&handle, reader, &socket, hello, open, stop).await;
    tracing::info!("proxy ends: it has drained");
    Ok(())
}

/// What is behind the agent's maps.
fn open(origins: OwnedFd, lease: OwnedFd) -> io::Result<Maps> {
    let origins = OriginMap::from_fd(origins).map_err(io::Error::other)?;
    let lease = LeaseMap::from_fd(lease).map_err(io::Error::other)?;
    Ok((Arc::new(origins), Arc::new(KernelLease(lease))))
}

/// The lease that the connect hook looks at.
struct KernelLease(LeaseMap);

impl Lease for KernelLease {
    fn renew(&self) -> Result<(), weft_transport::Error> {
        self.0.renew().map_err(|error| weft_transport::Error::Lease(io::Error::other(error)))
    }
}
