//! A pod whose processes may use a part of a CPU only.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use rustix::io::Errno;
use weft_tests::Pod;

/// A limit on the processes of a pod together. Dropped, it is lifted.
pub(super) struct Held<'a> {
    pod: &'a Pod,
    group: PathBuf,
    /// Where its processes came from, if they had to move.
    home: Option<PathBuf>,
}

impl<'a> Held<'a> {
    /// Lets `pod` have `share` of one CPU. What starts in it later is held by [`Held::catch`].
    ///
    /// It is `cpu.max` of the pod's group; on a hybrid host, where version 1 of cgroups has the cpu controller,
    /// `cpu.cfs_quota_us` of a group of its own there, called `name`: the same bandwidth of the same scheduler.
    pub(super) fn new(pod: &'a Pod, name: &str, share: f64) -> Result<Self> {
        #[expect(clippy::cast_possible_truncation, reason = "it is a part of the period")]
        let quota = (share * f64::from(PERIOD)) as i32;
        let Some(version1) = version1()? else {
            enable(pod.cgroup())?;
            let held = Self { pod, group: pod.cgroup().to_owned(), home: None };
            held.set("cpu.max", &format!("{quota} {PERIOD}"))?;
            return Ok(held);
        };
        let group = version1.join(name);
        fs::create_dir(&group).with_context(|| format!("make {}", group.display()))?;
        let held = Self { pod, group, home: Some(version1) };
        held.set("cpu.cfs_period_us", &PERIOD.to_string())?;
        held.set("cpu.cfs_quota_us", &quota.to_string())?;
        held.catch()?;
        Ok(held)
    }

    /// By what it is held, for people.
    pub(super) fn by(&self) -> &'static str {
        if self.home.is_none() { "cpu.max" } else { "cpu.cfs_quota_us" }
    }

    /// Holds the processes that are in the pod now.
    pub(super) fn catch(&self) -> Result<()> {
        if self.home.is_none() {
            return Ok(());
        }
        let processes = fs::read_to_string(self.pod.cgroup().join("cgroup.procs"))?;
        Ok(processes.lines().try_for_each(|process| into(&self.group, process))?)
    }

    fn set(&self, file: &str, value: &str) -> Result<()> {
        let path = self.group.join(file);
        fs::write(&path, value).with_context(|| format!("write {value:?} to {}", path.display()))
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        let Some(home) = &self.home else {
            // The group goes with its pod.
            let _ = self.set("cpu.max", "max");
            return;
        };
        let processes = fs::read_to_string(self.group.join("cgroup.procs")).unwrap_or_default();
        for process in processes.lines() {
            // What stays keeps the group, which is told below.
            let _ = into(home, process);
        }
        if let Err(error) = fs::remove_dir(&self.group) {
            eprintln!("cannot remove {}: {error}", self.group.display());
        }
    }
}

/// Where version 1 of cgroups has the cpu controller, if it has.
fn version1() -> Result<Option<PathBuf>> {
    let mounts = fs::read_to_string("/proc/self/mountinfo").context("read which cgroups are mounted")?;
    Ok(mounts.lines().find_map(cpu_of_version1))
}

/// The mount point of a line of mountinfo, where that is of the cpu controller: `... / /where rw - cgroup cgroup rw,cpu`.
fn cpu_of_version1(line: &str) -> Option<PathBuf> {
    let (mount, kind) = line.split_once(" - ")?;
    let mut kind = kind.split(' ');
    let is_version1 = kind.next() == Some("cgroup");
    let has_cpu = kind.nth(1)?.split(',').any(|controller| controller == "cpu");
    (is_version1 && has_cpu).then(|| mount.split(' ').nth(4).map(PathBuf::from))?
}

/// Hands the cpu controller down to `group`.
fn enable(group: &Path) -> Result<()> {
    let above = group.ancestors().skip(1).map(|dir| dir.join("cgroup.subtree_control"));
    let above: Vec<_> = above.take_while(|file| file.exists()).collect();
    for file in above.into_iter().rev() {
        fs::write(&file, "+cpu")
            .with_context(|| format!("hand the cpu controller down by {}", file.display()))?;
    }
    Ok(())
}

/// A process that has ended needs no place.
fn into(group: &Path, process: &str) -> io::Result<()> {
    match fs::write(group.join("cgroup.procs"), process) {
        Err(error) if Errno::from_io_error(&error) == Some(Errno::SRCH) => Ok(()),
        other => other,
    }
}

/// Microseconds: the kernel's own default.
const PERIOD: u32 = 100_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cpu_controller_of_version_1_is_found_wherever_it_is_mounted_and_nothing_else_is() {
        let line = |end: &str| cpu_of_version1(&format!("34 25 0:29 / /cg/here rw,nosuid shared:9 - {end}"));
        assert_eq!(line("cgroup cgroup rw,cpu,cpuacct"), Some(PathBuf::from("/cg/here")));
        assert_eq!(line("cgroup cgroup rw,cpuset"), None);
        assert_eq!(line("cgroup2 cgroup2 rw,cpu"), None);
    }
}
