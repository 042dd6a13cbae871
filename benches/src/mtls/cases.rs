//! What is measured.

use std::cell::Cell;
use std::time::Instant;

use anyhow::{Context as _, Result};

use super::Bench;
use super::stage::{FIRST, Side};
use crate::Report;
use crate::l7::load::Load;
use crate::l7::path::Port;
use crate::l7::pin::Cpu;
use crate::l7::process;
use crate::report::{Row, Unit};
use crate::rounds::{self, Series};
use crate::work::Work;

type Case = fn(&Bench<'_>, &str, &mut Report) -> Result<()>;

/// Memory first: afterwards the proxies have seen load, and hold what they got for it.
pub(super) const ALL: [(&str, Case); 9] = [
    ("memory with 1000 connections", memory),
    ("requests c=1", requests),
    ("requests c=32", requests),
    ("requests c=128", requests),
    ("latency at half load", latency),
    ("bulk, one stream", bulk),
    ("bulk, four streams", bulk),
    ("connections/s", connections),
    ("handshakes/s", handshakes),
];

/// Resident bytes of each proxy with connections that have been served and are kept.
fn memory(bench: &Bench<'_>, name: &str, report: &mut Report) -> Result<()> {
    let to = bench.stage.server(Side::Weft).addr(Port::Bulk.of_server());
    for (role, process) in ["client", "server"].into_iter().zip(bench.stage.proxies()?) {
        rounds::progress(&format!("{name}: the {role}'s"));
        let work = Work::Idle { to, steps: vec![1000], process };
        let bytes = work.run_in(bench.stage.client(Side::Weft))?[0];
        let row = Row::alone(&format!("{name}: the {role}'s proxy"), Unit::Megabytes, bytes / 1e6);
        report.add(row.at_most(40.0));
    }
    rounds::progress("");
    Ok(())
}

/// Requests on kept connections, and what the proxies use for them.
fn requests(bench: &Bench<'_>, name: &str, report: &mut Report) -> Result<()> {
    let many =
        name.rsplit('=').next().and_then(|many| many.parse().ok()).context("a number of connections")?;
    let cost = Cell::new(Vec::new());
    let turn = |side| {
        let (used, began) = (used(bench)?, Instant::now());
        let rate = rate(bench, side, Load::Connections(many))?;
        if side == Side::Weft {
            let used = self::used(bench)? - used;
            // The load's start and end are within both.
            let requests = rate * began.elapsed().min(bench.plan.lasts).as_secs_f64();
            let mut all = cost.take();
            all.push(used * 1e6 / requests);
            cost.set(all);
        }
        Ok(rate)
    };
    turn(Side::Weft)?;
    cost.take();
    let [plain, weft] = bench.series(name, turn)?;
    let row = Row::compared(name, Unit::PerSecond, &plain, &weft);
    report.add(if many == 1 { row } else { row.ratio_at_least(0.33) });
    let case = format!("{name}: CPU of the proxies for 1000");
    report.add(Row::alone(&case, Unit::Milliseconds, Series::new(cost.take()).median()));
    Ok(())
}

/// p50 and p99 of both sides at the same rate: half of the most that weft carries.
fn latency(bench: &Bench<'_>, name: &str, report: &mut Report) -> Result<()> {
    let half = rate(bench, Side::Weft, Load::Connections(32))? / 2.0;
    let measured = bench.interleave(name, |side| {
        let to = bench.stage.server(side).addr(Port::Http1.of_server());
        let work = Work::Paced { to, connections: 32, rate: half, lasts: bench.plan.lasts * 2 };
        spread(work).run_in(bench.stage.client(side))
    })?;
    for (place, quantile) in ["p50", "p99"].into_iter().enumerate() {
        let series = |turns: &Vec<Vec<f64>>| Series::new(turns.iter().map(|turn| turn[place]).collect());
        let [plain, weft] = measured.each_ref().map(series);
        let case = format!("{quantile} at half load ({half:.0} /s)");
        report.add(Row::compared(&case, Unit::Microseconds, &plain, &weft));
    }
    Ok(())
}

/// Bytes from the server to the client.
fn bulk(bench: &Bench<'_>, name: &str, report: &mut Report) -> Result<()> {
    let streams = if name.contains("four") { 4 } else { 1 };
    let [plain, weft] = bench.series(name, |side| {
        let to = bench.stage.server(side).addr(Port::Bulk.of_server());
        let work = Work::Downloads { to, bytes: bench.plan.bulk_bytes, streams };
        Ok(spread(work).run_in(bench.stage.client(side))?[0])
    })?;
    report.add(Row::compared(name, Unit::BytesPerSecond, &plain, &weft).ratio_at_least(0.37));
    Ok(())
}

/// Connections of one request each, some at a time.
fn connections(bench: &Bench<'_>, name: &str, report: &mut Report) -> Result<()> {
    let [plain, weft] = bench.series(name, |side| rate(bench, side, Load::Churn(16)))?;
    report.add(Row::compared(name, Unit::PerSecond, &plain, &weft).ratio_at_least(0.40));
    Ok(())
}

/// Connections that nothing is there for yet: each to a port that nobody has dialled, so with a handshake of its own.
fn handshakes(bench: &Bench<'_>, name: &str, report: &mut Report) -> Result<()> {
    let (to, count) = (bench.stage.server(Side::Weft).ip(), bench.plan.firsts);
    let rates = (0..bench.plan.rounds).map(|round| {
        rounds::progress(&format!("{name}: round {}", round + 1));
        let first = FIRST + u16::try_from(round)? * count;
        Ok(spread(Work::Firsts { to, first, count }).run_in(bench.stage.client(Side::Weft))?[0])
    });
    let rates = rates.collect::<Result<Vec<_>>>()?;
    rounds::progress("");
    report.add(Row::alone(name, Unit::PerSecond, Series::new(rates).median()));
    Ok(())
}

fn rate(bench: &Bench<'_>, side: Side, load: Load) -> Result<f64> {
    let (client, to) = (bench.stage.client(side), bench.stage.server(side).addr(Port::Http1.of_server()));
    load.run(Cpu::All, client, to, Port::Http1, bench.plan.lasts, std::path::Path::new(""))
}

/// CPU seconds of both proxies so far.
fn used(bench: &Bench<'_>) -> Result<f64> {
    Ok(process::cpu_time(&bench.stage.proxies()?)?.as_secs_f64())
}

fn spread(work: Work) -> Work {
    Work::Spread(Box::new(work))
}
