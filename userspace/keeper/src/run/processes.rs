//! Starting proxies, and what their ends mean.

use std::time::{Duration, Instant};

use weft_telemetry::api::Failure;
use weft_transport::handover::{Hello, generation};

use super::Run;
use crate::generations::Generation;
use crate::living::Process as Living;
use crate::process::Process;
use crate::upgrade::{self, Request};

impl Run {
    /// Starts a proxy, because none is there.
    pub(super) fn start(&mut self) {
        self.next_start = None;
        if let Err(why) = self.launch() {
            self.failed(why, Duration::ZERO);
        }
    }

    pub(super) fn begin_upgrade(&mut self, request: Request) {
        let incompatible = !self.strangers.all_incompatible().is_empty();
        let refusal = if self.upgrade.is_some() {
            Some(("an upgrade is under way", "wait for it; `weft status` shows it"))
        } else if self.snapshot.is_none() {
            Some(("no proxy runs: no Service of this node's pods needs one", ""))
        } else if self.generations.in_force().or(self.generations.left_behind()).is_none() && !incompatible {
            Some(("no proxy is in force that could be replaced", "`weft status` says why"))
        } else {
            None
        };
        if let Some((message, remedy)) = refusal {
            return request.refuse(Failure::new(message, remedy));
        }
        match self.launch() {
            Ok(pid) => self.upgrade = Some(request.begun(pid)),
            Err(why) => request.refuse(Failure::new(why, "")),
        }
    }

    /// A proxy that an agent of another build has left is replaced once it has all that this agent tells: it would be of a
    /// version that nobody understands any more after the next update. One that cannot hold the maps of two layouts is
    /// replaced before it has them: it goes on by those that it has until another one holds both. Once only: if the next one
    /// fails, it goes on.
    pub(super) fn replace_left(&mut self) {
        let is_other = |generation: &&Generation| generation.hello.build != self.shared.settings.build;
        let of_other_build = self.generations.in_force().filter(is_other);
        let Some(left) = self.generations.left_behind().or(of_other_build) else { return };
        // The next one has no certificates but those of this agent.
        let incomplete = self.identities.borrow().as_ref().is_some_and(|identities| !identities.complete);
        let Hello { pid, build, .. } = &left.hello;
        if self.replaced || self.upgrade.is_some() || incomplete || self.processes.contains_key(pid) {
            return;
        }
        let behind = left.progress.left_behind;
        tracing::info!(pid, build, behind, "the proxy is of another build and is replaced");
        self.replaced = true;
        self.begin_upgrade(Request::nobodys());
    }

    fn launch(&mut self) -> Result<u32, String> {
        let program = &self.shared.settings.program;
        let started = Process::start(program, &self.log, &self.tasks, self.events.clone());
        let process = started.map_err(|error| error.to_string())?;
        let pid = process.pid;
        tracing::info!(pid, log = %self.log.path().display(), "proxy started");
        self.processes.insert(pid, process);
        Ok(pid)
    }

    /// A process of this agent's has ended.
    pub(super) fn exited(&mut self, pid: u32, ending: &str) {
        let Some(process) = self.processes.remove(&pid) else { return };
        // The end of its connection may come later, and would be taken for another death.
        self.generations.gone(pid);
        let why = process.doom.unwrap_or_else(|| {
            let log = self.log.path().display();
            match self.log.last_line(process.log_length) {
                Some(line) => format!("the proxy with pid {pid} {ending}; its last line in {log}: {line}"),
                None => format!("the proxy with pid {pid} {ending}; it wrote nothing to {log}"),
            }
        });
        let upgrading = self.upgrade.as_ref().is_some_and(|upgrade| upgrade.pid == pid);
        self.fail_upgrade(pid, &why);
        if process.retired {
            tracing::info!(pid, "a proxy that was replaced {ending}");
        } else if !upgrading {
            self.failed(why, process.started.elapsed());
        }
    }

    /// A process that an earlier agent started has ended.
    pub(super) fn died(&mut self, pid: i32, started: u64) {
        let lived = Duration::from_nanos(generation().saturating_sub(started));
        self.failed(format!("the proxy with pid {pid} is gone"), lived);
    }

    /// A proxy hangs. Another is started beside it, and takes over; should the first go on after all, it is told
    /// to finish.
    pub(super) fn silent(&mut self, pid: u32) {
        self.next_start = Some(Instant::now() + self.backoff.step());
        self.complain(format!("the proxy with pid {pid} does not answer; another is started beside it"));
    }

    /// A proxy that lived for some time may be replaced at once; one that dies again and again, less and less.
    fn failed(&mut self, why: String, lived: Duration) {
        if lived >= STEADY {
            self.backoff.reset();
        }
        self.restarts += 1;
        self.next_start = Some(Instant::now() + self.backoff.step());
        self.complain(why);
    }

    /// What took too long.
    pub(super) fn look_at_the_time(&mut self, now: Instant) {
        for process in self.processes.values_mut().filter(|process| !process.met) {
            if now.duration_since(process.started) > START {
                process.kill(format!("the proxy with pid {} did not connect within {START:?}", process.pid));
            }
        }
        if self.strangers.is_overdue(now) {
            let silent = self.processes.values_mut().filter(|process| process.met && !process.retired);
            for process in silent.filter(|process| self.generations.of(process.pid).is_none()) {
                process.kill(format!("the proxy with pid {} did not connect again", process.pid));
            }
        }
        let late = self.upgrade.as_ref().filter(|upgrade| upgrade.is_late(now)).map(|upgrade| upgrade.pid);
        if let Some(pid) = late {
            self.generations.retire(pid);
            let patience = upgrade::PATIENCE;
            self.fail_upgrade(pid, &format!("the new proxy had not taken everything within {patience:?}"));
        }
    }

    pub(super) fn fail_upgrade(&mut self, pid: u32, why: &str) {
        if let Some(upgrade) = self.upgrade.take_if(|upgrade| upgrade.pid == pid) {
            upgrade.failed(why, format!("see {}", self.log.path().display()));
        }
    }

    /// Those with whom nothing can be said understand a signal.
    pub(super) fn dismiss_incompatible(&mut self) {
        if self.strangers.all_incompatible().is_empty() {
            return;
        }
        let found = Living::living(&self.shared.settings.run_dir, &self.shared.group);
        let ended = found.and_then(|all| {
            let strange = all.iter().filter(|one| self.strangers.all_incompatible().contains_key(&one.pid()));
            strange.map(Living::terminate).collect::<Result<Vec<()>, _>>()
        });
        self.strangers.dismissed();
        if let Err(error) = ended {
            self.complain(error.to_string());
        }
    }
}

/// How long a proxy may take until it has connected.
const START: Duration = Duration::from_secs(10);
/// One that lived so long did not die of its start.
const STEADY: Duration = Duration::from_secs(10);
