//! `cargo xtask test`: unit and property tests, then e2e tests on the real kernel; with `--kernel`, on other kernels.
//!
//! The test binaries of one build are run one after the other, as `cargo test` would, and their output passes through.
//! Building the tiers apart would build most dependencies twice (see `build.rs`).

mod cluster;
mod outcome;

use std::ops::Add;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use clap::ValueEnum;

use crate::build::{self, Built, Executable};
use crate::{kernels, mutants, repo, screen, shell};
pub(crate) use outcome::{Counts, stream};

/// What to test. Without any of them: all tiers.
#[derive(Default, clap::Args)]
pub(crate) struct Args {
    /// Only tests whose name contains this.
    #[arg(long)]
    filter: Option<String>,
    /// unit: no privilege needed; e2e: real namespaces, real kernel, as root; cluster: a real API server, then a real
    /// cluster, as root, and never part of all [default: all, unless --kernel or --mutants]
    #[arg(long)]
    tier: Option<Tier>,
    #[command(flatten)]
    cluster: cluster::Where,
    /// Runs the data-path tests on these kernels in qemu: 5.10, 6.1, 6.12, 6.18, 7.2.
    #[arg(long, value_delimiter = ',', value_name = "VERSION,...")]
    kernel: Vec<String>,
    /// On the kernels of --kernel only what touches each hook: minutes a kernel instead of half an hour.
    #[arg(long)]
    core: bool,
    /// Also `cargo xtask mutants`; without --tier and --kernel nothing else.
    #[arg(long)]
    mutants: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Tier {
    Unit,
    E2e,
    Cluster,
    All,
}

/// Runs what was asked for; ends with a line per tier and the sum. Fails if any test failed.
pub(crate) fn run(args: &Args) -> Result<()> {
    kernels::check_names(&args.kernel)?;
    if args.tier == Some(Tier::Cluster) {
        let mut report = Report::default();
        cluster::run(&args.cluster, args.filter.as_deref(), &mut report)?;
        report.show();
        return report.verdict(args.filter.as_deref());
    }
    let built = build::workspace()?;
    let mut report = Report::default();
    if args.runs(Tier::Unit) {
        report.tier("unit", || unit(&built, args.filter.as_deref()).map(Some))?;
    }
    if args.runs(Tier::E2e) {
        report.tier("e2e", || e2e(&built, args.filter.as_deref()).map(Some))?;
    }
    for version in &args.kernel {
        report.tier(&format!("kernel {version}"), || kernels::run(version, &built, &args.on_kernels()))?;
    }
    let survivors = if args.mutants { mutants::run() } else { Ok(()) };
    report.show();
    survivors?;
    report.verdict(args.filter.as_deref())
}

impl Args {
    /// All tiers, then these kernels: one build, one summary.
    pub(crate) fn everything_and(kernels: &[&str]) -> Self {
        let kernel = kernels.iter().map(|&version| version.to_owned()).collect();
        Self { tier: Some(Tier::All), kernel, core: true, ..Self::default() }
    }

    fn on_kernels(&self) -> Vec<&str> {
        match &self.filter {
            Some(filter) => vec![filter],
            None if self.core => CORE.to_vec(),
            None => Vec::new(),
        }
    }

    fn runs(&self, tier: Tier) -> bool {
        match self.tier {
            Some(wanted) => wanted == tier || wanted == Tier::All,
            None => self.kernel.is_empty() && !self.mutants,
        }
    }
}

#[derive(Default)]
struct Report {
    /// Without counts: could not be had, and need not.
    tiers: Vec<(String, Option<Counts>, Duration)>,
}

impl Report {
    fn tier(&mut self, name: &str, work: impl FnOnce() -> Result<Option<Counts>>) -> Result<()> {
        screen::title(format_args!("{name} tests"));
        let started = Instant::now();
        self.tiers.push((name.to_owned(), work()?, started.elapsed()));
        Ok(())
    }

    fn sum(&self) -> Counts {
        self.tiers.iter().filter_map(|(_, counts, _)| *counts).fold(Counts::default(), Counts::add)
    }

    /// The last line is for machines, too: it stays as it is.
    fn show(&self) {
        screen::title("summary");
        for (name, counts, took) in &self.tiers {
            match counts {
                None => screen::note(format_args!("{name}: not available")),
                Some(counts) if counts.failed == 0 => screen::done(format_args!("{name}: {counts}"), *took),
                Some(counts) => screen::failed(format_args!("{name}: {counts}"), *took),
            }
        }
        let Counts { passed, failed, .. } = self.sum();
        screen::line(format_args!("{passed} passed, {failed} failed"));
    }

    fn verdict(&self, filter: Option<&str>) -> Result<()> {
        let Counts { passed, failed, .. } = self.sum();
        match (failed, filter) {
            (0, Some(filter)) if passed == 0 && !self.tiers.is_empty() => {
                bail!("no test's name contains `{filter}`")
            }
            (0, _) => Ok(()),
            _ => bail!("{failed} failed: look above for `FAILED` and ✗"),
        }
    }
}

fn unit(built: &Built, filter: Option<&str>) -> Result<Counts> {
    let mut counts = Counts::default();
    for test in built.tests.iter().filter(|test| !needs_root(test)) {
        counts = counts + run_binary(test, built, filter)?;
    }
    screen::line("     Running documentation tests");
    let mut doc = shell::cargo();
    doc.arg("test").args(build::PACKAGES).args(["--doc", "--no-fail-fast", "--quiet", "--"]).args(filter);
    Ok(counts + stream(doc.env_remove("WEFT_EBPF"), "documentation tests")?)
}

fn e2e(built: &Built, filter: Option<&str>) -> Result<Counts> {
    let mut counts = Counts::default();
    for test in built.tests.iter().filter(|test| needs_root(test)) {
        counts = counts + run_binary(test, built, filter)?;
    }
    Ok(counts)
}

fn needs_root(test: &Executable) -> bool {
    [Path::new("tests"), Path::new("benches")].contains(&test.package.as_path())
}

/// As cargo does it: in the package's folder, with the package's manifest directory in the environment.
fn run_binary(test: &Executable, built: &Built, filter: Option<&str>) -> Result<Counts> {
    let name = format!("{} ({} {})", test.package.display(), test.kind, test.target);
    screen::line(format_args!("     Running {name}"));
    let folder = repo::absolute(&test.package)?;
    let mut command = Command::new(&test.path);
    command.args(filter).current_dir(&folder).env("CARGO_MANIFEST_DIR", &folder);
    command.env("WEFT_BIN", built.binary("weft")?);
    stream(&mut command, &name)
}

/// Themes of the data-path suite that together run every program, map and helper, and ask what is off where the kernel
/// lacks something. Emulation is five to ten times slower than the host, so CI asks of other kernels what depends on the
/// kernel.
const CORE: &[&str] = &[
    "layout::",
    "balance::",
    "sockets::",
    "udp::",
    "policy::",
    "identity::",
    "attested::",
    "probes::",
    "backstop::",
    "optional::",
    "lifecycle::an_agent_in_a_container",
];
