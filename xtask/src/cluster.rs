//! `cargo xtask cluster`: a real Kubernetes on this machine, without Docker, for the tests that need one.
//!
//! ```text
//! parts: built once ──► network ──► control_plane, on the host ──► node 1..n ──► images ──► addons ──► proof
//!                                    daemons, cgroups, pki: what they are started by, in and with
//! ```
//! Each step looks at what is there and does the rest, so `up` also repairs; `down` ends one cgroup and removes one folder.

mod addons;
mod cgroups;
mod control_plane;
mod daemons;
mod host;
mod images;
mod lifecycle;
pub(crate) mod mesh;
mod network;
mod node;
mod parts;
mod pki;
mod process;
mod state;
mod wait;

use std::env;
use std::ffi::OsString;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Error, Result, bail};

use crate::{repo, screen};
use node::Node;
use state::{Options, State};

pub(crate) use state::ProxyMode;

/// What to do with the cluster.
#[derive(clap::Subcommand)]
pub(crate) enum Action {
    /// Builds what is missing, starts what does not run, and shows that pods reach each other.
    Up {
        /// How many nodes.
        #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u8).range(1..=i64::from(MOST_NODES)))]
        nodes: u8,
        /// Leaves Services' addresses to the mesh.
        #[arg(long)]
        no_kube_proxy: bool,
        /// By what kube-proxy gives Services their addresses.
        #[arg(long, value_enum, default_value_t = ProxyMode::Nftables, conflicts_with = "no_kube_proxy")]
        kube_proxy: ProxyMode,
    },
    /// Imports images on every node, from archives as `cargo xtask image` and `docker save` write them.
    Load {
        #[arg(required = true, value_name = "ARCHIVE")]
        archives: Vec<PathBuf>,
    },
    /// kubectl, of the cluster's release and for this cluster.
    Kubectl {
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<OsString>,
    },
    /// Runs a program in a node's namespaces, e.g. `exec node-1 ctr -n k8s.io containers list`.
    Exec {
        node: String,
        #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
        command: Vec<OsString>,
    },
    /// Says which of its programs run, and what the nodes say; fails unless all is well.
    Status,
    /// Ends one of its programs, as `status` calls it, e.g. `stop kube-apiserver`; `up` and `restart` start it again.
    Stop { name: String },
    /// Ends one of its programs and starts it again, e.g. `restart node-1.containerd`.
    Restart { name: String },
    /// Builds the Gateway API project's conformance suite, and says where it is.
    Conformance,
    /// Ends and removes the cluster. What was built stays, and so do the logs.
    Down,
}

/// Does it.
pub(crate) fn run(action: Action) -> Result<()> {
    match action {
        Action::Up { nodes, no_kube_proxy, kube_proxy } => {
            lifecycle::up(Options { nodes, kube_proxy: (!no_kube_proxy).then_some(kube_proxy) })
        }
        Action::Load { archives } => {
            let archives: Vec<PathBuf> =
                archives.iter().map(|archive| callers_folder().join(archive)).collect();
            images::load(&Node::first(state::running()?.options.nodes), &archives)
        }
        Action::Kubectl { args } => become_program(kubectl()?.args(args)),
        Action::Exec { node, command } => {
            let node = Node::named(&node)?;
            let (program, args) = command.split_first().context("clap asks for a command")?;
            become_program(node.running()?.enter(program).args(args).env("PATH", daemons::path()?))
        }
        Action::Status => lifecycle::status(),
        Action::Stop { name } => lifecycle::stop(&name),
        Action::Restart { name } => {
            lifecycle::stop(&name)?;
            lifecycle::start(&name)
        }
        Action::Conformance => {
            screen::note(suite()?.display());
            Ok(())
        }
        Action::Down => lifecycle::down(),
    }
}

/// The cluster that is there, whatever it is like; else one of two nodes is brought up.
pub(crate) fn ensure() -> Result<()> {
    let there = State::read()?.map(|state| state.options);
    lifecycle::up(there.unwrap_or(Options { nodes: 2, kube_proxy: Some(ProxyMode::Nftables) }))
}

/// A cluster of two nodes with that kube-proxy, or without one; one that is there and has another is taken down.
pub(crate) fn replace(kube_proxy: Option<ProxyMode>) -> Result<()> {
    let wanted = Options { nodes: 2, kube_proxy };
    if State::read()?.is_some_and(|there| there.options != wanted) {
        lifecycle::down()?;
    }
    lifecycle::up(wanted)
}

/// One of the programs that the cluster consists of.
pub(crate) fn program(name: &str) -> Result<PathBuf> {
    parts::bin(name)
}

/// The Gateway API project's conformance suite, as a program.
pub(crate) fn suite() -> Result<PathBuf> {
    parts::conformance()
}

/// Helm, as a program.
pub(crate) fn helm() -> Result<PathBuf> {
    parts::helm()
}

/// Who has asked the API server for what, since the cluster is up.
pub(crate) fn audit_log() -> Result<PathBuf> {
    repo::absolute(LOGS).map(|logs| logs.join(control_plane::AUDIT_LOG))
}

/// kubectl, as the cluster's administrator.
pub(crate) fn kubectl() -> Result<Command> {
    let mut kubectl = Command::new(parts::bin("kubectl")?);
    kubectl.env("KUBECONFIG", kubeconfig()?);
    Ok(kubectl)
}

/// The administrator's.
pub(crate) fn kubeconfig() -> Result<PathBuf> {
    let config = pki::file("admin.kubeconfig")?;
    if !config.exists() {
        bail!("there is no cluster: `cargo xtask cluster up`");
    }
    Ok(config)
}

/// Takes this process's place, where the caller is, so that its exit code and signals are its own.
fn become_program(command: &mut Command) -> Result<()> {
    let error = command.current_dir(callers_folder()).exec();
    Err(Error::from(error)).with_context(|| format!("start {}", command.get_program().display()))
}

/// xtask works in the repository's root; what a caller names, he names from where he is.
fn callers_folder() -> PathBuf {
    env::var_os("PWD").map_or_else(PathBuf::new, PathBuf::from)
}

const MOST_NODES: u8 = 4;
/// What was built.
const BIN: &str = "target/cluster/bin";
const IMAGES: &str = "target/cluster/images";
/// What the programs said: of the cluster that is there, or of the last one.
pub(crate) const LOGS: &str = "target/cluster/log";
/// All else: gone with the cluster.
const STATE: &str = "target/cluster/state";
