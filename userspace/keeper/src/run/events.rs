//! What follows from one event.

use std::sync::Arc;

use weft_telemetry::api::{Failure, ProxyUpgraded};
use weft_transport::handover;
use weft_transport::memfd::Sealed;

use super::Run;
use crate::Error;
use crate::event::{Event, Met};
use crate::generations::{Generation, Verdict};
use crate::given::Progress;
use crate::living::holds;
use crate::wishes::{Older, Snapshot};

impl Run {
    pub(super) fn handle(&mut self, event: Event) {
        match event {
            Event::Met(met) => self.met(*met),
            Event::Unmet { error } => self.unmet(&error),
            Event::Progress { session, progress } => self.progressed(session, progress),
            Event::Ended { session, error } => self.ended(session, error),
            Event::Exited { pid, ending } => self.exited(pid, &ending),
        }
    }

    fn met(&mut self, mut met: Met) {
        let pid = i32::try_from(met.hello.pid).unwrap_or_default();
        self.tellers.met(met.session, met.hello.generation, pid);
        if !holds(&self.shared.settings.run_dir, pid) {
            // Its session ends with the wishes, which are dropped here.
            return self.complain(Error::NoProxy { pid }.to_string());
        }
        if let Err(error) = self.shared.group.admit(pid) {
            return self.complain(error.to_string());
        }
        if let Some(process) = self.processes.get_mut(&met.hello.pid) {
            process.met = true;
        }
        tracing::info!(pid, build = met.hello.build, pods = met.pods.len(), "proxy connected");
        self.strangers.met(pid);
        self.pods.take_back(std::mem::take(&mut met.pods));
        self.generations.met(met);
    }

    fn unmet(&mut self, error: &handover::Error) {
        let text = error.to_string();
        tracing::error!(error = text, "a proxy that connected cannot be used");
        if let handover::Error::Versions { pid, .. } = error {
            match self.processes.get_mut(pid) {
                // Another build lies at the path than this agent's.
                Some(process) => process.kill(text),
                None => self.strangers.incompatible(i32::try_from(*pid).unwrap_or_default(), text),
            }
        }
    }

    fn progressed(&mut self, session: u64, progress: Progress) {
        if let Some(latest) =
            self.snapshot.as_ref().filter(|latest| progress.snapshot == Some(latest.version))
        {
            self.last_good = Some(latest.clone());
        }
        if let Some(Generation { hello, .. }) = self.generations.progressed(session, progress) {
            let pid = hello.pid;
            self.silent(pid);
        }
        if self.generations.in_force().is_some() {
            self.failure = None;
        }
    }

    fn ended(&mut self, session: u64, error: Option<handover::Error>) {
        self.tellers.ended(session);
        let Some(Generation { hello, retired, .. }) = self.generations.ended(session) else { return };
        tracing::info!(pid = hello.pid, error = error.map(|e| e.to_string()), "proxy disconnected");
        // The end of a process that this agent has started comes as an event of its own.
        if !retired && !self.processes.contains_key(&hello.pid) {
            self.strangers.lost(i32::try_from(hello.pid).unwrap_or_default(), hello.generation);
        }
    }

    /// Which generation goes on.
    pub(super) fn judge(&mut self) {
        match self.generations.verdict() {
            Verdict::Stay => {}
            Verdict::Switch => self.generations.retire_older(),
            Verdict::Reject { pid, why } => {
                self.generations.retire(pid);
                self.fail_upgrade(pid, &why);
            }
        }
        for generation in self.generations.by_age().into_iter().filter(|generation| generation.retired) {
            if let Some(process) = self.processes.get_mut(&generation.hello.pid) {
                process.retired = true;
            }
        }
        if self.upgraded_to().is_some() {
            self.dismiss_incompatible();
        }
    }

    /// The process of the upgrade that is under way, once it is in force.
    fn upgraded_to(&self) -> Option<&Generation> {
        let pid = self.upgrade.as_ref()?.pid;
        self.generations.in_force().filter(|generation| generation.hello.pid == pid)
    }

    /// Answers whoever asked for an upgrade. After the status was published: it shows what was asked for.
    pub(super) fn finish_upgrade(&mut self) {
        let Some(Generation { hello, .. }) = self.upgraded_to() else { return };
        let (pid, build, drain_seconds) =
            (hello.pid, hello.build.clone(), self.shared.settings.drain.as_secs());
        let retired = self.generations.by_age().into_iter().filter(|generation| generation.retired);
        let draining = retired.map(|generation| generation.hello.pid).collect();
        if let Some(upgrade) = self.upgrade.take() {
            upgrade.done(ProxyUpgraded { pid, build, draining, drain_seconds });
        }
    }

    /// The next snapshot, for whoever is to get it. Of many in quick succession only the last is.
    pub(super) fn read_configuration(&mut self) {
        let Some(configuration) = self.configuration.borrow_and_update().clone() else { return };
        match tokio::task::block_in_place(|| Sealed::of(&configuration.bytes)) {
            Ok(bytes) => {
                self.snapshot = Some(Snapshot { version: configuration.version, bytes: Arc::new(bytes) });
            }
            Err(error) => self.complain(format!(
                "configuration {} is not given to the proxy, which goes on by the one before: {error}",
                configuration.version
            )),
        }
    }

    /// The maps of older layouts that there are now.
    pub(super) fn read_older_maps(&mut self) {
        let maps = Arc::clone(&self.older.borrow_and_update());
        self.older_maps = Older { revision: self.older_maps.revision + 1, maps };
    }

    pub(super) fn complain(&mut self, message: String) {
        tracing::error!("{message}");
        self.failure = Some(Failure::new(message, ""));
    }
}
