//! Commands that work on this machine and ask no agent: `weft check` and `weft cleanup`.

use std::path::PathBuf;

use clap::Args;
use weft_cli::{Error, Exit, Format, Screen, check};
use weft_datapath::TenancyError;

use crate::cni::node::Installed;

/// Looks at kernel, BTF, cgroup tree, BPF filesystem, capabilities, helpers and foreign programs, and
/// loads weft's own once. Leaves nothing behind.
#[derive(Args, Clone, Debug)]
#[command(after_help = "Example:\n  weft check --cgroup /sys/fs/cgroup/n1")]
pub(crate) struct CheckArgs {
    /// The cgroup v2 that the agent will attach to [default: the root of the tree]
    #[arg(long, value_name = "PATH")]
    cgroup: Option<PathBuf>,
    /// How the answer is written: table, json or yaml
    #[arg(long, short, value_name = "FORMAT", value_enum, default_value_t, hide_possible_values = true)]
    output: Format,
}

/// Withdraws redirection first, then policy, then every map, pin and file of the agent that had the run
/// directory, and ends its proxy. Connections that the proxy does not carry live on. Refused while an agent
/// runs.
#[derive(Args, Clone, Debug)]
#[command(after_help = "Example:\n  weft cleanup --run-dir /run/weft-n1")]
pub(crate) struct CleanupArgs {
    /// The run directory of the agent
    #[arg(long, value_name = "DIR", default_value = "/run/weft")]
    run_dir: PathBuf,
}

/// Runs `weft check`.
pub(crate) fn run_check(args: &CheckArgs, screen: &mut Screen) -> Result<Exit, Error> {
    check::show(&weft_datapath::check(args.cgroup.as_deref()), args.output, screen)
}

/// Runs `weft cleanup`: redirection first, so that no socket is sent to a listener that ends.
pub(crate) fn run_cleanup(args: &CleanupArgs) -> anyhow::Result<Exit> {
    let plugin = Installed::read(&args.run_dir)?;
    match weft_datapath::cleanup(&args.run_dir) {
        // What is left of a cleanup that could not end the proxy.
        Err(TenancyError::Unknown { .. }) if weft_keeper::is_left(&args.run_dir) || plugin.is_some() => {}
        done => done?,
    }
    weft_keeper::cleanup(&args.run_dir)?;
    // Last: a pod that starts meanwhile asks whether it is in the mesh, and starts later if it is.
    if let Some(plugin) = plugin {
        plugin.remove(&args.run_dir)?;
    }
    Ok(Exit::Yes)
}
