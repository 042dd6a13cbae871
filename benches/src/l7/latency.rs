//! How long requests take at half the load.

use anyhow::{Context as _, Result};

use super::path::{Path, Port};
use super::table::{Row, Table, Unit};
use super::{Bench, requests};
use crate::rounds::{self, Series};
use crate::work::Work;

/// Measures p50 and p99 at the same rate for all: half of the most that one Envoy carries.
///
/// A path that does not carry that is measured at half of its own most: it would only show its queue. The rate is
/// kept whatever the answers take, and a request's time begins when it was due.
pub(super) fn run(bench: &Bench<'_>, name: &str, table: &mut Table) -> Result<()> {
    let (stage, paths) = (bench.stage()?, &bench.plan.paths);
    let most = |path: &Path| Ok((*path, requests::most(bench, *path)?));
    let most = paths.iter().map(most).collect::<Result<Vec<_>>>()?;
    let of = |wanted: Path| most.iter().find(|(path, _)| *path == wanted).map(|(_, rate)| *rate);
    let common = of(Path::Envoy).or_else(|| of(Path::Weft)).context("there is a proxy to measure")? / 2.0;
    let turn = |(path, own): &(Path, f64)| {
        let work = Work::Paced {
            to: stage.address(*path, Port::Http1),
            connections: 32,
            rate: common.min(own / 2.0),
            lasts: bench.plan.lasts * LONGER,
        };
        let client = stage.client(*path);
        move || work.run_in(client)
    };
    let turns: Vec<_> = most.iter().map(turn).collect();
    let sides: Vec<_> = turns.iter().map(|turn| turn as &dyn Fn() -> Result<Vec<f64>>).collect();
    let measured = rounds::interleave_all(bench.plan.rounds, name, &sides)?;
    let series = |quantile: usize| {
        let figures =
            measured.iter().map(|turns| Series::new(turns.iter().map(|turn| turn[quantile]).collect()));
        paths.iter().copied().zip(figures).collect::<Vec<_>>()
    };
    let case = |quantile| format!("{quantile} at half load ({common:.0} /s)");
    table.add(Row::new(&case("p50"), Unit::Microseconds, series(0)));
    table.add(Row::new(&case("p99"), Unit::Microseconds, series(1)).at_most(0.6, Path::Envoy));
    Ok(())
}

/// A p99 takes more requests than a rate.
const LONGER: u32 = 2;
