//! `cargo xtask`: everything a developer runs, one file per command.
//!
//! ```text
//! setup ── build ──┬── test ── kernels (qemu)      gates: layers, sizes, deny, codegen --check
//!                  ├── demo                        ci    : fmt, clippy, the gates, test, kernels
//!                  ├── bench
//!                  ├── fuzz
//!                  ├── profile
//!                  └── image ── cluster ── conformance
//! ```

mod bench;
mod build;
mod ci;
mod cluster;
mod codegen;
mod conformance;
mod demo;
mod deny;
mod fuzz;
mod image;
mod kernels;
mod layers;
mod mutants;
mod profile;
mod repo;
mod screen;
mod setup;
mod shell;
mod sizes;
mod test;
mod workspace;

use std::ffi::OsString;
use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

fn main() -> ExitCode {
    let command = Cli::parse().command;
    match repo::enter().and_then(|()| run(command)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            screen::error(&error);
            ExitCode::FAILURE
        }
    }
}

/// Developer commands of weft.
#[derive(Parser)]
#[command(bin_name = "cargo xtask", max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Provides the BPF toolchain, and the packages and tools that tests and benches need; quick when they are there.
    Setup,
    /// Builds the eBPF objects, the `weft` binary and the tests (with --release: the binaries only).
    Build {
        /// Optimised binaries, without the tests.
        #[arg(long)]
        release: bool,
    },
    /// Runs unit, property and e2e tests; with --kernel, the data-path tests on other kernels.
    Test(test::Args),
    /// Two nodes, real traffic, real policy, in one terminal (`--keep` leaves it running).
    Demo {
        /// On a real Kubernetes, which stays.
        #[arg(long)]
        cluster: bool,
        /// Passed on to the demo.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<OsString>,
    },
    /// Measures the data path, the http path, or mutual TLS, against others in the same run; or an agent in a large cluster.
    Bench {
        /// Which bench: l4, l7, mtls or cluster.
        name: bench::Name,
        /// Passed on to the bench, e.g. --quick.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<OsString>,
    },
    /// A real Kubernetes on this machine, for the tests that need one.
    #[command(subcommand)]
    Cluster(cluster::Action),
    /// Runs the Gateway API project's conformance suite against the mesh on the test cluster.
    Conformance(conformance::Args),
    /// `weft` as a container image, `target/image/weft.tar`.
    Image {
        /// What it is made of.
        #[arg(long, value_enum, default_value_t)]
        of: image::Of,
    },
    /// Fails on a dependency that goes up, sideways or through a wall.
    Layers,
    /// Makes the profile by which release builds are optimised, of this compiler, under a load of the short benches.
    Profile,
    /// Shows how long files and functions are; fails on the ones nobody can read at a sitting.
    Sizes,
    /// Regenerates the committed generated files.
    Codegen {
        /// Changes nothing, fails when a file is out of date.
        #[arg(long)]
        check: bool,
    },
    /// Writes deploy/crds from the types that read our kinds; `codegen` does it, too.
    Crds {
        /// Changes nothing, fails when a file is out of date.
        #[arg(long)]
        check: bool,
    },
    /// Writes deploy/chart and deploy/kustomize from deploy/install and deploy/crds; `codegen` does it, too.
    Deploy {
        /// Changes nothing, fails when a file is out of date.
        #[arg(long)]
        check: bool,
    },
    /// Checks licences, sources and the walls around third-party crates.
    Deny,
    /// Changes the policy and eBPF decisions one place at a time; fails when tests miss more than 5 % of the changes.
    Mutants,
    /// Runs fuzz targets, all of `fuzz/fuzz_targets` unless some are named, one after the other.
    Fuzz(fuzz::Args),
    /// Everything a change has to pass.
    Ci,
}

fn run(command: Command) -> Result<()> {
    match command {
        Command::Setup => setup::run(),
        Command::Build { release: true } => build::release(&["weft"]).map(drop),
        Command::Build { release: false } => build::workspace().map(drop),
        Command::Test(args) => test::run(&args),
        Command::Demo { cluster, args } => demo::run(cluster, &args),
        Command::Bench { name, args } => bench::run(name, &args),
        Command::Cluster(action) => cluster::run(action),
        Command::Conformance(args) => conformance::run(&args),
        Command::Image { of } => image::run(of),
        Command::Layers => layers::run(),
        Command::Profile => profile::run(),
        Command::Sizes => sizes::run(),
        Command::Codegen { check } => codegen::run(check),
        Command::Crds { check } => codegen::crds(check),
        Command::Deploy { check } => codegen::deploy(check),
        Command::Deny => deny::run(),
        Command::Mutants => mutants::run(),
        Command::Fuzz(args) => fuzz::run(&args),
        Command::Ci => ci::run(),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    #[test]
    fn no_two_flags_are_called_alike() {
        super::Cli::command().debug_assert();
    }
}
