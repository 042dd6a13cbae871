//! `cargo xtask fuzz`: the targets of `fuzz/`, built with coverage and run, by the same stable compiler as all else.
//!
//! cargo-fuzz does the same on nightly, with the address sanitizer beside it (`fuzz/README.md`).

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::{repo, screen, shell};

/// What to run, and for how long.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Which targets.
    targets: Vec<String>,
    /// For how long each runs.
    #[arg(long, default_value_t = 60)]
    seconds: u32,
}

/// Builds and runs them; the first that finds something fails.
pub(crate) fn run(args: &Args) -> Result<()> {
    let all = targets()?;
    if let Some(unknown) = args.targets.iter().find(|target| !all.contains(target)) {
        bail!("there is no fuzz target `{unknown}`; there are {}", all.join(", "));
    }
    let wanted = if args.targets.is_empty() { &all } else { &args.targets };
    let host = shell::host()?;
    screen::step("build", || build(wanted, &host))?;
    for target in wanted {
        screen::title(target);
        screen::step(target, || fuzz(target, &host, args.seconds))?;
    }
    Ok(())
}

/// By the names of their files.
fn targets() -> Result<Vec<String>> {
    let entries = fs::read_dir(TARGETS).with_context(|| format!("list {TARGETS}"))?;
    let paths = entries.map(|entry| Ok(entry?.path())).collect::<Result<Vec<PathBuf>>>()?;
    let names = paths.iter().filter_map(|path| path.file_stem()?.to_str());
    let mut names: Vec<_> = names.map(str::to_owned).collect();
    names.sort();
    Ok(names)
}

fn build(targets: &[String], host: &str) -> Result<()> {
    let mut cargo = shell::cargo();
    cargo.args(["build", "--package", "weft-fuzz", "--profile", "fuzz", "--target", host]);
    cargo.args(["--target-dir", BUILT]).args(targets.iter().flat_map(|target| ["--bin", target]));
    shell::run(cargo.env("RUSTFLAGS", COVERAGE.join(" ")))
}

/// What it finds on its way stays in `target/fuzz/corpus`, to begin with the next time.
fn fuzz(target: &str, host: &str, seconds: u32) -> Result<()> {
    let [corpus, found] = ["corpus", "found"].map(|folder| Path::new(BUILT).join(folder).join(target));
    for folder in [&corpus, &found] {
        fs::create_dir_all(folder).with_context(|| format!("create {}", folder.display()))?;
    }
    let mut command = Command::new(repo::absolute(BUILT)?.join(host).join("fuzz").join(target));
    command.arg(&corpus).args(Some(Path::new(SEEDS).join(target)).filter(|seeds| seeds.is_dir()));
    command.arg(format!("-max_total_time={seconds}")).args(["-timeout=10", "-print_final_stats=1"]);
    command.arg(format!("-artifact_prefix={}/", found.display()));
    shell::run(&mut command).with_context(|| format!("what it found is in {}", found.display()))
}

/// As cargo-fuzz asks for it.
const COVERAGE: [&str; 5] = [
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Cllvm-args=-sanitizer-coverage-trace-compares",
];
const TARGETS: &str = "fuzz/fuzz_targets";
const SEEDS: &str = "fuzz/seeds";
const BUILT: &str = "target/fuzz";
