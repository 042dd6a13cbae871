//! `weft bpf`: what the kernel holds.

use std::collections::BTreeMap;

use clap::ValueEnum;
use weft_telemetry::api::{BpfTable, Table as Rows};

use crate::{
    Error, Exit, Screen,
    ask::Ask,
    output::Format,
    table::{Column, Table},
};

/// What to read back from the kernel.
#[derive(clap::Args, Clone, Debug)]
#[command(after_help = "\
Examples:
  weft bpf services
  weft bpf stat -o json")]
pub struct Args {
    /// What to show
    #[arg(value_enum)]
    what: What,
    #[command(flatten)]
    ask: Ask,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum What {
    /// Frontends: an address and port that is translated
    Services,
    /// Backends, each with its share of its frontend
    Backends,
    /// Rows of the policies
    Policy,
    /// Pods by network namespace
    Pods,
    /// What the programs counted
    Stat,
}

pub(crate) async fn run(args: Args, screen: &mut Screen) -> Result<Exit, Error> {
    let table = match args.what {
        What::Services => BpfTable::Services,
        What::Backends => BpfTable::Backends,
        What::Policy => BpfTable::Policy,
        What::Pods => BpfTable::Pods,
        What::Stat => BpfTable::Stat,
    };
    let rows: Rows = args.ask.client().get(&format!("/v1/bpf/{table}")).await?;
    match args.ask.output {
        Format::Table => screen.write(&render(&rows, screen.width()))?,
        format => format.write(screen, &objects(&rows), |_, _| String::new())?,
    }
    Ok(Exit::Yes)
}

pub(crate) fn render(rows: &Rows, width: Option<u16>) -> String {
    let last = rows.columns.len().saturating_sub(1);
    let column = |(index, heading): (usize, &String)| {
        let numbers = rows.rows.iter().all(|row| row[index].parse::<u64>().is_ok()) && !rows.rows.is_empty();
        match (numbers, index == last) {
            (true, _) => Column::number(heading),
            (false, false) => Column::whole(heading),
            (false, true) => Column::folding(heading),
        }
    };
    let mut table = Table::new(rows.columns.iter().enumerate().map(column));
    rows.rows.iter().for_each(|row| table.push(row.clone()));
    table.render(width)
}

/// For programs: each row an object, its keys the headings in lower case.
fn objects(rows: &Rows) -> Vec<BTreeMap<String, &str>> {
    let keys: Vec<_> = rows.columns.iter().map(|heading| heading.to_lowercase()).collect();
    rows.rows.iter().map(|row| keys.iter().cloned().zip(row.iter().map(String::as_str)).collect()).collect()
}
