//! The commands that ask.

use clap::Subcommand;

use crate::{
    Error, Exit, Screen, analyze, authz, bpf, describe, diagnose, explain, get, log, observe, probe, stat,
    status, top, uninstall,
};

/// Commands that ask agents or a cluster, or look at manifests. Of what they ask only `log` and `uninstall` change anything.
#[derive(Clone, Debug, Subcommand)]
pub enum Verb {
    /// Show how agents are doing, or wait until the configuration is enforced
    Status(status::Args),
    /// List what agents know
    Get(get::Args),
    /// Show one pod, Service or HTTPRoute with all that touches it
    Describe(describe::Args),
    /// Show flows: connections that were opened, closed or refused
    Observe(observe::Args),
    /// Show the requests of the last minute by Service and route: rates, success, latencies
    Stat(stat::Args),
    /// Show the busiest routes, live
    Top(top::Args),
    /// Ask what the policies say
    Authz(authz::Args),
    /// Show the way of a request that nobody has made, and why
    Explain(explain::Args),
    /// Check manifests without an agent
    Analyze(analyze::Args),
    /// Show what the kernel holds
    Bpf(bpf::Args),
    /// Write all that agents tell into one archive, for whoever helps
    Diagnose(diagnose::Args),
    /// Show what the agent logs, or change it while it runs
    Log(log::Args),
    /// Take the mesh out of a cluster; pods go on
    Uninstall(uninstall::Args),
    /// Ask an agent as a kubelet does, by its exit code
    #[command(hide = true)]
    Probe(probe::Args),
}

impl Verb {
    /// Does what was asked. [`Error`] is for what could not be asked at all.
    pub async fn run(self, screen: &mut Screen) -> Result<Exit, Error> {
        match self {
            Self::Status(args) => status::run(args, screen).await,
            Self::Get(args) => get::run(args, screen).await,
            Self::Describe(args) => describe::run(args, screen).await,
            Self::Observe(args) => observe::run(args, screen).await,
            Self::Stat(args) => stat::run(args, screen).await,
            Self::Top(args) => top::run(args, screen).await,
            Self::Authz(args) => authz::run(args, screen).await,
            Self::Explain(args) => explain::run(args, screen).await,
            Self::Analyze(args) => analyze::run(&args, screen),
            Self::Bpf(args) => bpf::run(args, screen).await,
            Self::Diagnose(args) => diagnose::run(args, screen).await,
            Self::Log(args) => log::run(args, screen).await,
            Self::Uninstall(args) => uninstall::run(args, screen).await,
            Self::Probe(args) => probe::run(args, screen).await,
        }
    }
}
