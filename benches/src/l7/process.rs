//! What processes have used, as /proc tells.

use std::fs;
use std::time::Duration;

use anyhow::{Context as _, Result};

/// CPU time of processes and of their children, to the nanosecond.
pub(crate) fn cpu_time(processes: &[u32]) -> Result<Duration> {
    families(processes)?.into_iter().map(one_cpu_time).sum()
}

/// Resident bytes of processes and of their children.
pub(crate) fn resident(processes: &[u32]) -> Result<u64> {
    families(processes)?.into_iter().map(one_resident).sum()
}

/// Names of a process's threads.
pub(super) fn threads(process: u32) -> Result<Vec<String>> {
    let tasks = fs::read_dir(format!("/proc/{process}/task")).context("list the threads of a proxy")?;
    let names = tasks.flatten().map(|task| fs::read_to_string(task.path().join("comm")).unwrap_or_default());
    Ok(names.map(|name| name.trim().to_owned()).collect())
}

/// Processes and their children.
fn families(processes: &[u32]) -> Result<Vec<u32>> {
    let mut all = processes.to_vec();
    for process in processes {
        let file = format!("/proc/{process}/task/{process}/children");
        let children = fs::read_to_string(&file).with_context(|| format!("read {file}: is it alive?"))?;
        all.extend(children.split_whitespace().filter_map(|child| child.parse::<u32>().ok()));
    }
    Ok(all)
}

/// The first number of schedstat is the time on a CPU in nanoseconds.
fn one_cpu_time(process: u32) -> Result<Duration> {
    let tasks = fs::read_dir(format!("/proc/{process}/task")).context("list the threads of a proxy")?;
    let stats = tasks.flatten().map(|task| fs::read_to_string(task.path().join("schedstat")));
    // A thread that ends meanwhile was not busy.
    let times = stats.flatten().filter_map(|stat| stat.split(' ').next()?.parse::<u64>().ok());
    Ok(Duration::from_nanos(times.sum()))
}

fn one_resident(process: u32) -> Result<u64> {
    let file = format!("/proc/{process}/status");
    let status = fs::read_to_string(&file).with_context(|| format!("read {file}: is it alive?"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("VmRSS is in status")?;
    let kibibytes = line.trim().trim_end_matches(" kB").parse::<u64>().context("VmRSS is a number of kB")?;
    Ok(kibibytes << 10)
}
