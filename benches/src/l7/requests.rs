//! Requests as fast as they go, and what they cost.

use std::time::Instant;

use anyhow::{Context as _, Result};

use super::Bench;
use super::load::Load;
use super::path::{Path, Port};
use super::pin::Cpu;
use super::process;
use super::stage::Stage;
use super::table::{Row, Table, Unit};
use crate::rounds::{self, Series};

/// What one turn of a path has shown.
#[derive(Clone, Copy)]
struct Turn {
    rate: f64,
    /// CPU milliseconds of the proxies for 1000 requests.
    cost: f64,
}

/// Measures the case called `name`.
pub(super) fn run(bench: &Bench<'_>, name: &str, table: &mut Table) -> Result<()> {
    let stage = bench.stage()?;
    let (load, port) =
        *LOADS.iter().find_map(|(of, load)| (*of == name).then_some(load)).context("a known load")?;
    let paths: Vec<_> = bench.plan.paths.iter().copied().filter(|path| carries(*path, port)).collect();
    let turn = |path| move || measure(bench, stage, path, load, port);
    let turns: Vec<_> = paths.iter().map(|path| turn(*path)).collect();
    let sides: Vec<_> = turns.iter().map(|turn| turn as &dyn Fn() -> Result<Turn>).collect();
    // Connections to the server open, caches fill.
    sides.iter().try_for_each(|side| side().map(drop))?;
    let measured = rounds::interleave_all(bench.plan.rounds, name, &sides)?;
    let series = |of: fn(&Turn) -> f64| {
        let figures = measured.iter().map(|turns| Series::new(turns.iter().map(of).collect()));
        paths.iter().copied().zip(figures).collect::<Vec<_>>()
    };
    let row = Row::new(name, Unit::PerSecond, series(|turn| turn.rate));
    let busy = matches!(load, Load::Connections(32 | 128));
    table.add(if busy {
        row.at_least(0.6, Path::NoMesh).at_least(2.5, Path::Envoy).at_least(5.0, Path::EnvoyTwice)
    } else {
        row
    });
    let costs = series(|turn| turn.cost).into_iter().filter(|(path, _)| *path != Path::NoMesh);
    table.add(Row::new(&format!("{name}: CPU for 1000 requests"), Unit::Milliseconds, costs.collect()));
    Ok(())
}

/// Requests per second of `path` with 32 connections, in one turn.
pub(super) fn most(bench: &Bench<'_>, path: Path) -> Result<f64> {
    Ok(measure(bench, bench.stage()?, path, Load::Connections(32), Port::Http1)?.rate)
}

fn measure(bench: &Bench<'_>, stage: &Stage, path: Path, load: Load, port: Port) -> Result<Turn> {
    let carriers = stage.carriers(path);
    let (before, began) = (process::cpu_time(&carriers)?, Instant::now());
    let (client, to) = (stage.client(path), stage.address(path, port));
    let rate = load.run(Cpu::Load, client, to, port, bench.plan.lasts, &stage.message())?;
    let (used, lasted) = (process::cpu_time(&carriers)?.saturating_sub(before), began.elapsed());
    // The load's start and end are within both.
    let requests = rate * lasted.min(bench.plan.lasts).as_secs_f64();
    Ok(Turn { rate, cost: used.as_secs_f64() * 1e6 / requests })
}

/// nginx's module for gRPC fails some calls that the server answers before it has read them, as this one does.
fn carries(path: Path, port: Port) -> bool {
    path != Path::Nginx || port != Port::Grpc
}

const LOADS: [(&str, (Load, Port)); 5] = [
    ("HTTP/1.1 c=1", (Load::Connections(1), Port::Http1)),
    ("HTTP/1.1 c=32", (Load::Connections(32), Port::Http1)),
    ("HTTP/1.1 c=128", (Load::Connections(128), Port::Http1)),
    ("HTTP/2 100 streams", (Load::Streams(100), Port::Http2)),
    ("gRPC unary, 32 calls", (Load::Streams(32), Port::Grpc)),
];
