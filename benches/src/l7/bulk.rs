//! A large body each way.

use anyhow::Result;

use super::Bench;
use super::path::{Path, Port};
use super::table::{Row, Table, Unit};
use crate::rounds::{self, Series};
use crate::work::Work;

/// Measures the direction called `name`.
pub(super) fn run(bench: &Bench<'_>, name: &str, table: &mut Table) -> Result<()> {
    let (stage, plan) = (bench.stage()?, bench.plan);
    let turn = |path: &Path| {
        let (to, bytes) = (stage.address(*path, Port::Bulk), plan.bulk_bytes);
        let client = stage.client(*path);
        let work = Work::Transfer { to, bytes, upload: name == "upload" };
        move || work.run_in(client).map(|answers| answers[0])
    };
    let turns: Vec<_> = plan.paths.iter().map(turn).collect();
    let sides: Vec<_> = turns.iter().map(|turn| turn as &dyn Fn() -> Result<f64>).collect();
    let measured = rounds::interleave_all(plan.bulk_rounds, name, &sides)?.into_iter().map(Series::new);
    let series = plan.paths.iter().copied().zip(measured).collect();
    let case = format!("{name} of {} MiB", plan.bulk_bytes >> 20);
    table.add(Row::new(&case, Unit::BytesPerSecond, series).at_least(1.0, Path::Nginx));
    Ok(())
}
