//! Commands that work on this machine and ask no agent: `weft check` and `weft cleanup`.

use std::{env, path::PathBuf, time::Duration};

use clap::Args;
use tokio::runtime;
use weft_cli::{Exit, Format, Screen, Whom, check};
use weft_cni::What;
use weft_datapath::TenancyError;
use weft_kubernetes::{Connection, Neighbour};
use weft_telemetry::api::{Check, Outcome};

use crate::cni::node::Installed;

/// Looks at kernel, BTF, cgroup tree, BPF filesystem, capabilities, helpers and foreign programs, and
/// loads weft's own once. Leaves nothing behind.
#[derive(Args, Clone, Debug)]
#[command(after_help = "\
Examples:
  weft check --cgroup /sys/fs/cgroup/n1
  weft check --pre --kubeconfig ~/.kube/config   # before `weft install`
  weft check --node n1                           # what the agent there sees

Exit codes: 0 fit, perhaps with warnings; 1 not fit; 2 could not ask.")]
pub(crate) struct CheckArgs {
    /// Load nothing, and look for what cannot live together with weft: other meshes, and plugins that want pods'
    /// connections for themselves
    #[arg(long)]
    pre: bool,
    /// Look at the cluster of this kubeconfig instead of this machine, and at its nodes that have an agent [default: that of
    /// KUBECONFIG; else this machine]
    #[arg(long, value_name = "FILE", conflicts_with = "cgroup")]
    kubeconfig: Option<PathBuf>,
    /// Of a cluster, only this node; may be given several times
    #[arg(long, value_name = "NODE", conflicts_with = "cgroup")]
    node: Vec<String>,
    /// Where this machine's container runtime looks for networks
    #[arg(long, value_name = "DIR", requires = "pre", default_value = "/etc/cni/net.d")]
    cni_conf_dir: PathBuf,
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
    /// How long its proxy may finish what it carries; what is left is cut then
    #[arg(long, value_name = "TIME", default_value = "3s", value_parser = weft_cli::duration)]
    drain: Duration,
}

/// Runs `weft check`.
pub(crate) fn run_check(args: &CheckArgs, screen: &mut Screen) -> anyhow::Result<Exit> {
    if args.means_a_cluster() {
        let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
        return runtime.block_on(check_cluster(args, screen));
    }
    let lines = if args.pre {
        let mut lines = weft_datapath::preflight(args.cgroup.as_deref());
        lines.extend(weft_cni::neighbours(&args.cni_conf_dir)?.iter().map(beside));
        lines
    } else {
        weft_datapath::check(args.cgroup.as_deref())
    };
    Ok(check::show(&lines, args.output, screen)?)
}

impl CheckArgs {
    /// Unlike questions to agents, this one is of the machine where it is asked, unless a cluster is named on purpose: who is about
    /// to run an agent here may have a `~/.kube/config` as well.
    fn means_a_cluster(&self) -> bool {
        let named = || env::var_os("KUBECONFIG").is_some_and(|value| !value.is_empty());
        self.cgroup.is_none() && (self.kubeconfig.is_some() || !self.node.is_empty() || named())
    }
}

async fn check_cluster(args: &CheckArgs, screen: &mut Screen) -> anyhow::Result<Exit> {
    let found = match Connection::meant(args.kubeconfig.clone()).filter(|_| args.pre && args.node.is_empty())
    {
        Some(connection) => Some(neighbours(&connection).await?),
        None => args.pre.then(Vec::new),
    };
    let whom = Whom::of_cluster(args.kubeconfig.clone(), args.node.clone());
    Ok(check::cluster(&whom, found, args.output, screen).await?)
}

/// What is to be known of a cluster before weft comes to it.
async fn neighbours(connection: &Connection) -> anyhow::Result<Vec<Check>> {
    let found = weft_kubernetes::cluster_neighbours(connection).await?;
    if found.is_empty() {
        let detail = "no other mesh, and nobody who wants pods' connections for himself".to_owned();
        return Ok(vec![Check {
            name: "neighbours".to_owned(),
            outcome: Outcome::Ok,
            detail,
            remedy: String::new(),
        }]);
    }
    let line = |Neighbour { who: name, detail, remedy, clashes }| {
        let outcome = if clashes { Outcome::Failed } else { Outcome::Warning };
        Check { name, outcome, detail, remedy }
    };
    Ok(found.into_iter().map(line).collect())
}

/// A plugin of this machine's network.
fn beside(found: &weft_cni::Neighbour) -> Check {
    let weft_cni::Neighbour { plugin, file, what } = found;
    let file = file.display();
    match what {
        What::Redirects(mesh) => Check {
            name: "another mesh".to_owned(),
            // Which namespaces are in which of the two, only the cluster can say.
            outcome: Outcome::Warning,
            detail: format!("{mesh} redirects pods' connections on this node: {plugin} is in {file}"),
            remedy: format!(
                "no namespace may be in both, or {plugin} has to go; see: weft check --pre --kubeconfig FILE"
            ),
        },
        What::WritesAlone => Check {
            name: "CNI configuration".to_owned(),
            outcome: Outcome::Warning,
            detail: format!("{plugin} in {file} may take weft-cni out of it"),
            remedy: "of Cilium, set cni.exclusive=false and socketLB.hostNamespaceOnly=true".to_owned(),
        },
    }
}

/// Runs `weft cleanup`: redirection first, so that no socket is sent to a listener that ends.
pub(crate) fn run_cleanup(args: &CleanupArgs) -> anyhow::Result<Exit> {
    let plugin = Installed::read(&args.run_dir)?;
    match weft_datapath::cleanup(&args.run_dir) {
        // What is left of a cleanup that could not end the proxy.
        Err(TenancyError::Unknown { .. }) if weft_keeper::is_left(&args.run_dir) || plugin.is_some() => {}
        done => done?,
    }
    weft_keeper::cleanup(&args.run_dir, args.drain)?;
    // Last: a pod that starts meanwhile asks whether it is in the mesh, and starts later if it is.
    if let Some(plugin) = plugin {
        plugin.remove(&args.run_dir)?;
    }
    Ok(Exit::Yes)
}
