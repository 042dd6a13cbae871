//! A large configuration: how long it takes to apply, how soon one change is obeyed, what it weighs.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use crate::report::{Row, Unit};
use crate::rounds::{Series, progress};
use crate::site::{self, Side};
use crate::work::Work;
use crate::{Only, Plan, Report, manifests};

/// Measures.
pub(super) fn run(plan: &Plan, only: &Only, report: &mut Report) -> Result<()> {
    if !only.takes("scale", "") {
        return Ok(());
    }
    let world = site::world()?;
    let mut side = Side::new(&world, "scale", true)?;
    side.apply(manifests::distant_services(SERVICES, ENDPOINTS_EACH));
    let texts = manifests::blue_and_green(SERVICES, side.server_ip());
    side.apply([("two.yaml".into(), texts[0].clone())]);

    let (mut rows, mut starts) = (Vec::new(), Vec::new());
    for start in 0..plan.cold_starts {
        progress(&format!("scale: cold start {} of {}", start + 1, plan.cold_starts));
        side.stop_agent();
        let begin = Instant::now();
        side.start_agent()?;
        starts.push(begin.elapsed().as_secs_f64());
        // Everything that was applied since the start: one Snapshot, or one and what came right after it.
        rows.push(side.node.metric("weft_apply_seconds_sum", &[]));
    }
    let cold = |what: &str| format!("10k services, 100k endpoints: {what}");
    let row = |what: &str, figures| Row::alone(&cold(what), Unit::Seconds, Series::new(figures).median());
    report.add(row("snapshot to rows", rows).at_most(3.0));
    report.add(row("agent start to enforced", starts).at_most(8.0));

    progress("scale: changes of one endpoint");
    let applied = |what: &str| side.node.metric(&format!("weft_apply_seconds_{what}"), &[]);
    let (seconds, times) = (applied("sum"), applied("count"));
    let file = side.node.manifests_dir().join("two.yaml");
    let to = (manifests::service_ip(SERVICES), 80).into();
    let changes = Series::new(Work::Change { to, file, texts, count: plan.changes }.run_in(&side.client)?);
    progress("");
    let each = (applied("sum") - seconds) / (applied("count") - times);
    report.add(Row::alone(&cold("one change, p50"), Unit::Milliseconds, changes.median()));
    report
        .add(Row::alone(&cold("one change, p99"), Unit::Milliseconds, changes.quantile(0.99)).at_most(20.0));
    report.add(Row::alone(&cold("of it snapshot to rows, mean"), Unit::Milliseconds, each * 1e3));

    let agent = side.agent_pid().context("the agent has ended")?;
    let memory = |field| Ok::<_, anyhow::Error>(memory_of(agent, field)? / 1024.0);
    let weigh = |what: &str, weight| Row::alone(&cold(what), Unit::Mebibytes, weight);
    report.add(weigh("agent memory", memory("VmRSS")?).at_most(250.0));
    report.add(weigh("agent memory, peak", memory("VmHWM")?));
    report.add(weigh("maps", maps(side.node.name())? / f64::from(1 << 20)));
    Ok(())
}

/// A field of /proc/PID/status, in KiB.
fn memory_of(pid: u32, field: &str) -> Result<f64> {
    let path = format!("/proc/{pid}/status");
    let status = fs::read_to_string(&path).with_context(|| format!("read {path}"))?;
    let line = status.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
    let number = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
    number.with_context(|| format!("{path} has no {field}"))
}

/// What the kernel says that the pinned maps of a node take, in bytes.
fn maps(node: &str) -> Result<f64> {
    let mut bytes = 0.0;
    for pin in pins(&Path::new("/sys/fs/bpf/weft").join(node))? {
        let mut bpftool = Command::new("bpftool");
        let output =
            bpftool.args(["-j", "map", "show", "pinned"]).arg(&pin).output().context("run bpftool")?;
        ensure!(output.status.success(), "bpftool cannot show {}", pin.display());
        let map: Value = serde_json::from_slice(&output.stdout)?;
        bytes += map["bytes_memlock"].as_f64().context("the kernel does not say what a map takes")?;
    }
    Ok(bytes)
}

/// The files of every folder `maps` below the pins of a node.
fn pins(node: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for schema in fs::read_dir(node).with_context(|| format!("read {}", node.display()))? {
        for pin in fs::read_dir(schema?.path().join("maps"))? {
            found.push(pin?.path());
        }
    }
    Ok(found)
}

const SERVICES: u32 = 10_000;
const ENDPOINTS_EACH: u32 = 10;
