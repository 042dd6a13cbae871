//! `weft proxy`: the process that carries what the kernel does not.

use std::path::PathBuf;

use anyhow::{Result, bail};
use clap::{Args, Subcommand};
use weft_cli::proxy::UpgradeArgs;
use weft_keeper::Entered;
use weft_telemetry::logging;

use crate::settings::LogFormat;

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
    let entered = weft_keeper::enter(&args.run_dir)?;
    tracing::info!(generation = entered.generation, run_dir = %args.run_dir.display(), "proxy started");
    serve(&entered)
}

/// The seam to `weft-proxy`, which carries connections.
fn serve(_entered: &Entered) -> Result<()> {
    bail!("this build carries no connections yet; run the agent with --proxy off")
}
