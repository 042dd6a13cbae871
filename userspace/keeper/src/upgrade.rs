//! `weft proxy upgrade`: the next generation beside the one in force.

use std::time::{Duration, Instant};

use tokio::sync::oneshot;
use weft_telemetry::api::{Failure, ProxyUpgraded};

/// Somebody asks for an upgrade.
pub(crate) struct Request {
    /// Whom to answer.
    pub reply: oneshot::Sender<Result<ProxyUpgraded, Failure>>,
}

/// One that is under way.
pub(crate) struct Upgrade {
    /// The new process.
    pub pid: u32,
    request: Request,
    deadline: Instant,
}

impl Request {
    /// Nobody waits for the answer: it is in the log, and in status.
    pub(crate) fn nobodys() -> Self {
        Self { reply: oneshot::channel().0 }
    }

    /// It was not begun.
    pub(crate) fn refuse(self, failure: Failure) {
        // Whoever asked may be gone.
        let _ = self.reply.send(Err(failure));
    }

    /// It is under way, with this process.
    pub(crate) fn begun(self, pid: u32) -> Upgrade {
        Upgrade { pid, request: self, deadline: Instant::now() + PATIENCE }
    }
}

impl Upgrade {
    /// Whether the new process took too long.
    pub(crate) fn is_late(&self, now: Instant) -> bool {
        now >= self.deadline
    }

    /// The new process has taken over.
    pub(crate) fn done(self, upgraded: ProxyUpgraded) {
        tracing::info!(pid = upgraded.pid, draining = ?upgraded.draining, "proxy upgraded");
        let _ = self.request.reply.send(Ok(upgraded));
    }

    /// The new process cannot take over.
    pub(crate) fn failed(self, why: &str, remedy: impl Into<String>) {
        tracing::error!(pid = self.pid, why, "proxy not upgraded; the one before stays in force");
        let message = format!("the proxy was not upgraded, the one before stays in force: {why}");
        self.request.refuse(Failure::new(message, remedy));
    }
}

/// How long a new process may take until it has everything.
pub(crate) const PATIENCE: Duration = Duration::from_mins(1);
