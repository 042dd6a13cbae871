//! Programs that run on after this one has ended: started in their cgroup, written down, looked up again.
//!
//! A record (`target/cluster/state/daemons/NAME.json`) names the process by number and birth, so what has ended is never
//! mistaken for who got its number next. What a daemon says is in `target/cluster/log/NAME.log`.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use super::cgroups::Cgroup;
use super::process::Process;
use super::{LOGS, STATE, parts, wait};
use crate::shell;

/// What to start, and where.
pub(super) struct Daemon {
    /// Its own, e.g. `node-1.kubelet`.
    name: String,
    words: Vec<OsString>,
    cgroup: Cgroup,
}

impl Daemon {
    /// `program` with `args`, in the control plane's or a node's cgroup.
    pub(super) fn new(name: String, cgroup: Cgroup, program: impl Into<OsString>) -> Self {
        Self { name, words: vec![program.into()], cgroup }
    }

    /// One more argument.
    pub(super) fn arg(mut self, arg: impl Into<OsString>) -> Self {
        self.words.push(arg.into());
        self
    }

    /// More arguments.
    pub(super) fn args(mut self, args: impl IntoIterator<Item = impl Into<OsString>>) -> Self {
        self.words.extend(args.into_iter().map(Into::into));
        self
    }

    /// Starts it, unless the one that was started before still runs.
    pub(super) fn ensure(&self) -> Result<Process> {
        if let Some(process) = running(&self.name) {
            return Ok(process);
        }
        let process = self.start().with_context(|| format!("start {}", self.name))?;
        let record = record(&self.name);
        make_parent(&record)?;
        let text = serde_json::to_string(&process).context("write a process down")?;
        fs::write(&record, text).with_context(|| format!("write {}", record.display()))?;
        Ok(process)
    }

    fn start(&self) -> Result<Process> {
        let log = log(&self.name);
        make_parent(&log)?;
        let file = File::options().create(true).append(true).open(&log);
        let file = file.with_context(|| format!("open {}", log.display()))?;
        let stderr = file.try_clone().with_context(|| format!("share {}", log.display()))?;
        let mut command = Command::new("setsid");
        // A session of its own, then its cgroups, then itself: all by exec, so the number stays.
        command.args(["sh", "-c", JOIN, "sh"]).args(self.cgroup.make()?).arg("--").args(&self.words);
        command.env("PATH", path()?).current_dir("/");
        let child =
            command.stdin(Stdio::null()).stdout(file).stderr(stderr).spawn().context("start setsid")?;
        Process::of(child.id()).with_context(|| format!("it ended at once:\n{}", shell::tail(&log)))
    }
}

/// The daemon of this name, if it runs.
pub(super) fn running(name: &str) -> Option<Process> {
    let text = fs::read_to_string(record(name)).ok()?;
    serde_json::from_str::<Process>(&text).ok().filter(Process::is_alive)
}

/// The end of what a daemon has said, and an error where it has ended.
pub(super) fn check(name: &str) -> Result<()> {
    if running(name).is_none() {
        let log = log(name);
        bail!("{name} has ended; the end of {}:\n{}", log.display(), shell::tail(&log));
    }
    Ok(())
}

/// Ends the daemon of this name, if it runs: with a word, and after a while without.
pub(super) fn stop(name: &str) -> Result<()> {
    if !record(name).exists() {
        let names: Vec<String> = all().into_iter().map(|(name, _)| name).collect();
        bail!("there is no {name}: there are {}", names.join(", "));
    }
    for signal in ["-TERM", "-KILL"] {
        let Some(process) = running(name) else { return Ok(()) };
        shell::capture(Command::new("kill").args([signal, &process.pid.to_string()]))?;
        let ended = wait::until("it has ended", Duration::from_secs(10), || {
            ensure!(!process.is_alive(), "process {} still runs", process.pid);
            Ok(())
        });
        if signal == "-KILL" {
            return ended.with_context(|| format!("end {name}"));
        }
    }
    Ok(())
}

/// All that were ever started, with whether they run.
pub(super) fn all() -> Vec<(String, bool)> {
    let entries = fs::read_dir(Path::new(STATE).join(RECORDS));
    let records = entries.into_iter().flatten().flatten().map(|entry| entry.path());
    let names = records.filter_map(|record| Some(record.file_stem()?.to_str()?.to_owned()));
    let mut all: Vec<_> = names.map(|name| (name.clone(), running(&name).is_some())).collect();
    all.sort();
    all
}

/// Where the parts come before the host's programs: containerd looks for its shim there, and its shim for runc.
pub(super) fn path() -> Result<OsString> {
    let parts = parts::bin("")?;
    let host = ["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"];
    let all = [parts.as_os_str()].into_iter().chain(host.iter().map(OsStr::new));
    std::env::join_paths(all).context("make a PATH")
}

fn record(name: &str) -> PathBuf {
    Path::new(STATE).join(RECORDS).join(format!("{name}.json"))
}

fn log(name: &str) -> PathBuf {
    Path::new(LOGS).join(format!("{name}.log"))
}

fn make_parent(file: &Path) -> Result<()> {
    let folder = file.parent().context("a file lies in a folder")?;
    fs::create_dir_all(folder).with_context(|| format!("create {}", folder.display()))
}

const RECORDS: &str = "daemons";
const JOIN: &str =
    r#"while [ "$1" != -- ]; do echo 0 > "$1/cgroup.procs" || exit 1; shift; done; shift; exec "$@""#;
