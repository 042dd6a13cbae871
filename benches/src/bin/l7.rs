//! `cargo xtask bench l7`: the http path against no mesh, Envoy and nginx.
#![forbid(unsafe_code)]

use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, Result};
use clap::{Parser, Subcommand};
use weft_benches::l7::{self, Path, Plan, Table};
use weft_benches::work::Work;

/// The http path against no mesh, Envoy and nginx: rates, latencies, cost, memory, fairness.
///
/// A ratio is that of one round: all paths run right after each other. Shown is the median over all rounds,
/// and the spread: half the distance between the quartiles.
#[derive(Parser)]
#[command(name = "l7", max_term_width = 100)]
struct Cli {
    /// Fewer rounds and less of everything, in about a minute
    #[arg(long)]
    quick: bool,
    /// Also writes the figures as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Where the plot goes
    #[arg(long, value_name = "FILE", default_value = "target/bench/l7.svg")]
    svg: PathBuf,
    /// Runs only the cases that have this in their name, such as "c=32", "HTTP/2", latency, load, idle, fairness
    #[arg(long, value_name = "WORD")]
    only: Option<String>,
    /// What is compared, separated by commas; the path without a mesh always is
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = Path::ALL)]
    paths: Vec<Path>,
    /// How often each path has its turn
    #[arg(long, value_name = "COUNT")]
    rounds: Option<usize>,
    /// The Envoy binary; `cargo xtask bench l7` brings it
    #[arg(long, value_name = "FILE", default_value = "envoy")]
    envoy: PathBuf,
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
    let plan = plan(cli);
    let mut table = Table::new(if cli.quick { "quick" } else { "full" });
    let done = l7::run(&plan, cli.only.as_deref(), &mut table);
    // What was measured before something failed is not lost.
    table.show()?;
    if let Some(folder) = cli.svg.parent() {
        fs::create_dir_all(folder).with_context(|| format!("make {}", folder.display()))?;
    }
    table.plot(&cli.svg)?;
    cli.json.as_ref().map_or(Ok(()), |file| table.save(file))?;
    done
}

fn plan(cli: &Cli) -> Plan {
    let mut paths = vec![Path::NoMesh];
    paths.extend(Path::ALL.into_iter().filter(|path| *path != Path::NoMesh && cli.paths.contains(path)));
    let (rounds, bulk_rounds, bulk_bytes) = if cli.quick { (3, 2, 256 << 20) } else { (15, 5, 1 << 30) };
    Plan {
        rounds: cli.rounds.unwrap_or(rounds),
        lasts: Duration::from_secs(1),
        bulk_rounds,
        bulk_bytes,
        idle: if cli.quick { 2_000 } else { 10_000 },
        paths,
        envoy: cli.envoy.clone(),
    }
}
