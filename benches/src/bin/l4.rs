//! `cargo xtask bench l4`: the kernel data path against no mesh.
#![forbid(unsafe_code)]

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Result;
use clap::{Parser, Subcommand};
use weft_benches::work::Work;
use weft_benches::{Only, Plan, Report, cases};

/// The kernel data path against no mesh: rates, latencies, times of applying, memory.
///
/// A ratio is that of one round: both sides run right after each other. Shown is the median over all rounds,
/// and the spread: half the distance between the quartiles.
#[derive(Parser)]
#[command(name = "l4", max_term_width = 100)]
struct Cli {
    /// Fewer and shorter rounds, in less than a minute
    #[arg(long)]
    quick: bool,
    /// Also writes the figures as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Runs only a group (traffic, connect, scale) or the cases that have this word in their name, such as policy,
    /// bulk, c=32
    #[arg(long, value_name = "WORD")]
    only: Option<String>,
    #[command(subcommand)]
    inside: Option<Inside>,
}

#[derive(Subcommand)]
enum Inside {
    /// What this program does inside a pod
    #[command(hide = true)]
    Work {
        /// The work, as JSON
        work: String,
    },
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let done = match &cli.inside {
        Some(Inside::Work { work }) => {
            serde_json::from_str::<Work>(work).map_err(Into::into).and_then(Work::run)
        }
        None => bench(&cli),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

fn bench(cli: &Cli) -> Result<()> {
    let plan = if cli.quick { QUICK } else { FULL };
    let mut report = Report::new(if cli.quick { "quick" } else { "full" });
    let only = Only(cli.only.clone());
    for cases in cases::ALL {
        cases(&plan, &only, &mut report)?;
    }
    report.show()?;
    cli.json.as_ref().map_or(Ok(()), |file| report.save(file))
}

const QUICK: Plan = Plan { rounds: 5, lasts: Duration::from_millis(250), changes: 50, cold_starts: 1 };
const FULL: Plan = Plan { rounds: 15, lasts: Duration::from_millis(500), changes: 200, cold_starts: 3 };
