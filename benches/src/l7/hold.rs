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
    home: Option<&'static Path>,
}

impl<'a> Held<'a> {
    /// Lets `pod` have `share` of one CPU. What starts in it later is held by [`Held::catch`].
    ///
    /// It is `cpu.max` of the pod's group; on a hybrid host, where version 1 of cgroups has the cpu controller, the
    /// same bandwidth for a group of its own there, called `name`.
    pub(super) fn new(pod: &'a Pod, name: &str, share: f64) -> Result<Self> {
        #[expect(clippy::cast_possible_truncation, reason = "it is a part of the period")]
        let quota = (share * f64::from(PERIOD)) as i32;
        let version1 = Path::new(VERSION_1);
        if !version1.join("cgroup.procs").exists() {
            enable(pod.cgroup())?;
            let held = Self { pod, group: pod.cgroup().to_owned(), home: None };
            held.set("cpu.max", &format!("{quota} {PERIOD}"))?;
            return Ok(held);
        }
        let group = version1.join(name);
        fs::create_dir(&group).with_context(|| format!("make {}", group.display()))?;
        let held = Self { pod, group, home: Some(version1) };
        held.set("cpu.cfs_period_us", &PERIOD.to_string())?;
        held.set("cpu.cfs_quota_us", &quota.to_string())?;
        held.catch()?;
        Ok(held)
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
        let Some(home) = self.home else {
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

const VERSION_1: &str = "/sys/fs/cgroup/cpu";
/// Microseconds: the kernel's own default.
const PERIOD: u32 = 100_000;
