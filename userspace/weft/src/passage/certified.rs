//! Whether an agent has what its pods need: it is ready once it had, and a pod that comes later takes nothing of that.

use std::{
    collections::BTreeSet,
    sync::atomic::{AtomicBool, Ordering},
};

use tokio::sync::watch;
use weft_model::{ServiceAccount, Snapshot};
use weft_telemetry::api::Failure;

use crate::identities::wanted;

/// See the module.
pub(crate) struct Certified {
    /// The ServiceAccounts that the proxy shows; `None` where nobody issues certificates.
    shown: Option<watch::Receiver<BTreeSet<ServiceAccount>>>,
    once: AtomicBool,
}

impl Certified {
    pub(crate) fn of(shown: Option<watch::Receiver<BTreeSet<ServiceAccount>>>) -> Self {
        Self { shown, once: AtomicBool::new(false) }
    }

    /// Whether all of the node's pods had certificates once. The proxy may have so many `held` of an earlier agent, while the
    /// issuer is away.
    pub(crate) fn check(&self, snapshot: &Snapshot, held: Option<u64>) -> Result<(), Failure> {
        let Some(shown) = self.shown.as_ref().filter(|_| !self.once.load(Ordering::Relaxed)) else {
            return Ok(());
        };
        let wanted = wanted(snapshot).accounts;
        let lacking: Vec<_> = wanted.difference(&shown.borrow()).map(ToString::to_string).collect();
        let has_all = held.is_some_and(|held| held >= wanted.len() as u64);
        if lacking.is_empty() || has_all {
            self.once.store(true, Ordering::Relaxed);
            return Ok(());
        }
        Err(Failure::new(
            format!("pods of this node cannot prove who they are yet: {}", lacking.join(", ")),
            "see: weft get certificates",
        ))
    }
}
