//! `weft`: one binary, the agent of a node and the commands that ask it. Wiring, and what needs both the proxy's
//! engine and the admin API (`explain`); what the agent does is in `weft-datapath`, what the commands show in
//! `weft-cli`.
#![forbid(unsafe_code)]

mod agent;
mod cni;
mod controller;
mod core_dump;
mod endpoints;
mod explain;
mod identities;
mod jwks;
mod leaving;
mod local;
mod node_proxy;
mod passage;
mod probes;
mod programmed;
mod proxy;
mod removal;
mod settings;
mod source;
mod stand_by;

use std::{
    env,
    fmt::Display,
    io,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::anyhow;
use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};
use clap_complete::Shell;
use tokio::runtime;
use weft_cli::{Exit, Screen, Verb, ca, install, tunnel};
use weft_datapath::{enter_control_groups, make_socket_storage};

use self::{
    controller::ControllerArgs,
    local::{CheckArgs, CleanupArgs},
    proxy::{ProxyArgs, ProxyVerb},
    settings::AgentArgs,
};

/// A service mesh without sidecars: load balancing and policy in the kernel, at the socket
#[derive(Parser)]
#[command(version, max_term_width = 100, after_help = EXAMPLES)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run the agent of a node
    ///
    /// Loads the eBPF programs, reads the manifests or a cluster's API server, and keeps the kernel at what they say. Enforcement
    /// stays in the kernel when the agent ends; the next one takes it over without a gap. Broken documents
    /// are reported (see `weft status`) and skipped, and the last good version of them stays in force.
    Agent(Box<AgentArgs>),
    /// Run the proxy of a node, which the agent does by itself; or upgrade it
    ///
    /// It carries the connections that need more than the kernel can do: routes for HTTP and gRPC. It lives on
    /// when the agent ends, with two capabilities of all that root has.
    Proxy(ProxyArgs),
    /// Run the controller of a mesh on Kubernetes
    ///
    /// What the mesh needs once, for all nodes. Several may run; while none does, nodes go on with what they have.
    Controller(ControllerArgs),
    #[command(flatten)]
    Verb(Verb),
    /// Make or rotate the certificate authority of a mesh without a controller
    ///
    /// It is a directory: agents sign with its issuer, and trust its roots. A rotation cuts no connection and
    /// needs no restart.
    #[command(after_help = "Example:\n  weft ca init --dir /etc/weft/ca")]
    Ca(ca::Args),
    /// Print what a Kubernetes cluster is given, for kubectl
    Install(install::Args),
    /// Show whether this machine can run weft
    Check(CheckArgs),
    /// Take everything of an agent out of the kernel
    Cleanup(CleanupArgs),
    /// Answer a container runtime, as a plugin of the Container Network Interface
    ///
    /// Agents install it on their nodes under the name weft-cni. It has a pod of the mesh start once all that protects
    /// it is in the kernel.
    Cni,
    /// Join standard input and output with the socket of an agent
    ///
    /// Commands for a whole cluster run it in the pods of agents.
    #[command(hide = true)]
    Tunnel(tunnel::Args),
    /// Make the storage of sockets, outside of the agent's memory limit
    ///
    /// Agents run it as they start.
    #[command(hide = true)]
    SocketStorage {
        /// Where it is pinned
        #[arg(value_name = "PATH")]
        pin: PathBuf,
    },
    /// Print the completion script of a shell
    #[command(after_help = "Example:\n  source <(weft completion bash)")]
    Completion {
        /// Which shell
        shell: Shell,
    },
}

fn main() -> ExitCode {
    if cni::is_called() {
        return cni::run();
    }
    match called().command {
        Command::Agent(args) => run_agent(*args),
        Command::Controller(args) => serve(controller::run(args)),
        Command::Proxy(ProxyArgs { verb: Some(ProxyVerb::Upgrade(args)), .. }) => {
            ask(weft_cli::proxy::upgrade(args, &mut Screen::standard()))
        }
        Command::Proxy(args) => told(proxy::run(&args)),
        Command::Verb(verb) => ask(verb.run(&mut Screen::standard())),
        Command::Ca(args) => ask(ca::run(args, &mut Screen::standard())),
        Command::Install(args) => end(install::run(&args, &mut Screen::standard())),
        Command::Check(args) => end(local::run_check(&args, &mut Screen::standard())),
        Command::Cleanup(args) => end(local::run_cleanup(&args)),
        Command::Cni => cni::run(),
        Command::Tunnel(args) => ask(tunnel::run(args)),
        Command::SocketStorage { pin } => told(make_socket_storage(&pin).map_err(Into::into)),
        Command::Completion { shell } => {
            let name = if is_plugin() { PLUGIN } else { "weft" };
            clap_complete::generate(shell, &mut Cli::command(), name, &mut io::stdout());
            ExitCode::SUCCESS
        }
    }
}

/// The words that it was called with. As kubectl's plugin it is called `kubectl weft` in its help.
fn called() -> Cli {
    let mut command = Cli::command();
    if is_plugin() {
        command = command.bin_name("kubectl weft").display_name("kubectl weft");
    }
    Cli::from_arg_matches(&command.get_matches()).unwrap_or_else(|error| error.exit())
}

/// kubectl runs what is called so for `kubectl weft`.
fn is_plugin() -> bool {
    let name = env::args_os().next();
    name.is_some_and(|name| Path::new(&name).file_name().is_some_and(|name| name == PLUGIN))
}

/// The agent, in the control groups of its node: that has to be before there are threads.
fn run_agent(args: AgentArgs) -> ExitCode {
    match enter_control_groups() {
        Ok(()) => serve(agent::run(args)),
        Err(error) => told(Err(anyhow!(
            "cannot enter the node's control groups by /proc/1/ns/cgroup: {error}; with hostPID an agent needs the capability \
             SYS_ADMIN"
        ))),
    }
}

/// Runs what lives as long as the process.
fn serve(work: impl Future<Output = anyhow::Result<()>>) -> ExitCode {
    let done = runtime::Builder::new_multi_thread()
        .enable_all()
        .thread_name("weft")
        .build()
        .map_err(Into::into)
        .and_then(|runtime| runtime.block_on(work));
    told(done)
}

/// A process that failed says why.
fn told(done: anyhow::Result<()>) -> ExitCode {
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // `{:#}` would repeat causes: each of our errors says its own.
            eprintln!("weft: {error}");
            Exit::No.into()
        }
    }
}

fn ask(question: impl Future<Output = Result<Exit, weft_cli::Error>>) -> ExitCode {
    let runtime = runtime::Builder::new_current_thread().enable_all().build();
    let answer = match runtime {
        Ok(runtime) => {
            let answer = runtime.block_on(question);
            runtime.shutdown_background(); // a thread may still wait for standard input
            answer
        }
        Err(error) => Err(error.into()),
    };
    match answer {
        Ok(exit) => exit.into(),
        Err(error) if error.is_closed_pipe() => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("weft: {error}");
            Exit::NotAsked.into()
        }
    }
}

/// A command that could not do what was asked says why.
fn end(answer: Result<Exit, impl Display>) -> ExitCode {
    answer
        .unwrap_or_else(|error| {
            eprintln!("weft: {error}");
            Exit::NotAsked
        })
        .into()
}

/// The name of kubectl's plugin.
const PLUGIN: &str = "kubectl-weft";

const EXAMPLES: &str = "\
Examples:
  weft agent --manifests /etc/weft/manifests
  weft status --wait 10s
  weft observe --follow --verdict DENIED
  weft get services --kubeconfig ~/.kube/config   # of a whole cluster

Exit codes: 0 yes or healthy; 1 no: denied, errors found, time-out;
2 could not ask, or wrong usage.";

#[cfg(test)]
mod tests;
