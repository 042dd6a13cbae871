//! What connections take that have been served and are idle.

use anyhow::{Context as _, Result};

use super::Bench;
use super::path::{Path, Port};
use super::process;
use super::stage::Stage;
use super::table::{Row, Table, Unit};
use crate::rounds::{Series, progress};
use crate::work::Work;

/// Measures memory: with a thousand connections, and for each of many more. The proxies are new.
pub(super) fn run(bench: &Bench<'_>, name: &str, table: &mut Table) -> Result<()> {
    let stage = Stage::open(bench.plan)?;
    let (mut thousand, mut each) = (Vec::new(), Vec::new());
    for path in bench.plan.paths.iter().copied().filter(|path| *path != Path::NoMesh) {
        progress(&format!("{name}: {path:?}"));
        let process = stage.keeper(path).context("the path has a proxy")?;
        let (to, all) = (stage.address(path, Port::Http1), bench.plan.idle);
        let work = Work::Idle { to, steps: vec![1, THOUSAND, all], process };
        let [before, some, many] =
            <[f64; 3]>::try_from(work.run_in(stage.client(path))?).ok().context("an answer for each step")?;
        thousand.push((path, Series::new(vec![some])));
        #[expect(clippy::cast_precision_loss, reason = "there are few connections")]
        each.push((path, Series::new(vec![(many - before) / all as f64])));
    }
    progress("");
    let case = format!("memory of each of {} idle connections", bench.plan.idle);
    table.add(Row::new(&case, Unit::Bytes, each).figure_at_most(12.0 * 1024.0));
    table.add(Row::new("memory with 1000 connections", Unit::Bytes, thousand).figure_at_most(25e6));
    Ok(())
}

/// Resident bytes of a process and its children: what the work inside the pod asks of its host.
pub(crate) fn resident(process: u32) -> Result<u64> {
    process::resident(&[process])
}

const THOUSAND: usize = 1000;
