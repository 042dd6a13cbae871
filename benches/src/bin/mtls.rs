//! `cargo xtask bench mtls`: mutual TLS between two nodes against no mesh.
#![forbid(unsafe_code)]

use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, Result};
use clap::{Parser, Subcommand};
use weft_benches::Report;
use weft_benches::mtls::{self, Plan};
use weft_benches::work::Work;

/// Mutual TLS between two nodes against no mesh: rates, latencies, bulk, cost, memory, handshakes.
///
/// A ratio is that of one round: both sides run right after each other. Shown is the median over all rounds,
/// and the spread: half the distance between the quartiles.
#[derive(Parser)]
#[command(name = "mtls", max_term_width = 100)]
struct Cli {
    /// Fewer rounds and less of everything, in less than a minute
    #[arg(long)]
    quick: bool,
    /// Also writes the figures as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Where the plot goes
    #[arg(long, value_name = "FILE", default_value = "target/bench/mtls.svg")]
    svg: PathBuf,
    /// Runs only the cases that have this in their name, such as memory, "c=32", bulk, connections, handshakes
    #[arg(long, value_name = "WORD")]
    only: Option<String>,
    /// How often each side has its turn
    #[arg(long, value_name = "COUNT")]
    rounds: Option<usize>,
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
    let (rounds, bulk_bytes) = if cli.quick { (3, 256 << 20) } else { (7, 1 << 30) };
    let rounds = cli.rounds.unwrap_or(rounds);
    let plan = Plan { rounds, lasts: Duration::from_secs(1), bulk_bytes, firsts: 100 };
    let mut report = Report::new(if cli.quick { "quick" } else { "full" });
    let done = mtls::run(&plan, cli.only.as_deref(), &mut report);
    // What was measured before something failed is not lost.
    report.show()?;
    if let Some(folder) = cli.svg.parent() {
        fs::create_dir_all(folder).with_context(|| format!("make {}", folder.display()))?;
    }
    report.plot(&cli.svg)?;
    cli.json.as_ref().map_or(Ok(()), |file| report.save(file))?;
    done
}
