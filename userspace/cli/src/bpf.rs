//! `weft bpf`: what the kernel holds.

use clap::ValueEnum;
use serde_json::{Map, Value};
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
  weft bpf services --node n1
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
    let rows: Rows =
        args.ask.agents().await?.only("what a kernel holds")?.get(&format!("/v1/bpf/{table}")).await?;
    match args.ask.output {
        Format::Table => screen.write(&render(&rows, screen.width()))?,
        format => format.write(screen, &objects(&rows), |_, _| String::new())?,
    }
    Ok(Exit::Yes)
}

fn render(rows: &Rows, width: Option<u16>) -> String {
    let last = rows.columns.len().saturating_sub(1);
    let column = |(index, heading): (usize, &String)| match (numeric(rows, index), index == last) {
        (true, _) => Column::number(heading),
        (false, false) => Column::whole(heading),
        (false, true) => Column::folding(heading),
    };
    let mut table = Table::new(rows.columns.iter().enumerate().map(column));
    rows.rows.iter().for_each(|row| table.push(row.clone()));
    table.render(width)
}

/// For programs: each row an object, its keys the headings in lower case.
fn objects(rows: &Rows) -> Vec<Map<String, Value>> {
    let columns: Vec<_> = rows
        .columns
        .iter()
        .enumerate()
        .map(|(i, heading)| (heading.to_lowercase(), numeric(rows, i)))
        .collect();
    let value = |cell: &str, number: bool| match cell.parse::<u64>() {
        Ok(parsed) if number => parsed.into(),
        _ => Value::from(cell),
    };
    let object = |row: &Vec<String>| {
        columns.iter().zip(row).map(|((key, number), cell)| (key.clone(), value(cell, *number))).collect()
    };
    rows.rows.iter().map(object).collect()
}

/// Whether each cell of the column is a number.
fn numeric(rows: &Rows, column: usize) -> bool {
    rows.rows.iter().all(|row| row.get(column).is_some_and(|cell| cell.parse::<u64>().is_ok()))
}
