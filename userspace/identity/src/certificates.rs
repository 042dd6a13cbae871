//! The certificates of a node: one for each ServiceAccount that has a pod there, issued when it is first wanted and
//! renewed for as long as it is.
//!
//! ```text
//! want(accounts) ──► [one task] ── due? ──► Issuer (AT_ONCE under way, each within ISSUE_TIME)
//!                        │                      │ fails: the last valid one serves on, tried again later and later
//!                        │◄─────────────────────┘
//!                        └──► Held (what is in force), Status (what people see)
//! ```
//!
//! A certificate is renewed when half of its life is over, give or take a tenth, so that those that were issued
//! together are not renewed together; at once when the trusted roots do not vouch for it any more. Times are the
//! system clock's, looked at every [`LOOK`]: a clock that jumps or a machine that slept is seen then.

mod keeper;
mod status;

use std::{
    collections::{BTreeMap, BTreeSet},
    convert::Infallible,
    sync::Arc,
    time::Duration,
};

use tokio::sync::watch;
use weft_model::ServiceAccount;
use weft_runtime::Stop;

use self::keeper::Keeper;
pub use self::status::{CertificateStatus, Failure, Status};
use crate::{Clock, Issuer, Svid, Trust, TrustDomains};

/// The certificates of a node. Clones share them.
#[derive(Clone, Debug)]
pub struct Certificates {
    wanted: watch::Sender<Wanted>,
    held: watch::Sender<Arc<Held>>,
    status: watch::Sender<Arc<Status>>,
}

/// What the node needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// The trust domain of the mesh, and its aliases.
    pub domains: TrustDomains,
    /// How long certificates should be valid.
    pub ttl: Duration,
    /// The ServiceAccounts of the node's pods.
    pub accounts: BTreeSet<ServiceAccount>,
}

/// What is in force: the last valid certificate of each wanted account that has one, and whom to trust.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Held {
    /// Whom to trust; `None` until an issuer has said it.
    pub trust: Option<Arc<Trust>>,
    /// Valid certificates.
    pub svids: BTreeMap<ServiceAccount, Arc<Svid>>,
    /// Wanted accounts that have none here. A proxy that was given one by an agent before this one keeps it.
    pub missing: BTreeSet<ServiceAccount>,
}

impl Certificates {
    /// No certificates yet. They come while [`Certificates::run`] runs.
    pub fn new(wanted: Wanted) -> Self {
        let (held, status) = (Held::nothing(&wanted), Status::nothing(&wanted));
        Self {
            wanted: watch::Sender::new(wanted),
            held: watch::Sender::new(Arc::new(held)),
            status: watch::Sender::new(Arc::new(status)),
        }
    }

    /// Changes what the node needs: new accounts get certificates, those of others are forgotten.
    pub fn want(&self, change: impl FnOnce(&mut Wanted)) {
        self.wanted.send_if_modified(|wanted| {
            let before = wanted.clone();
            change(wanted);
            *wanted != before
        });
    }

    /// What is in force, and each change of it.
    pub fn held(&self) -> watch::Receiver<Arc<Held>> {
        self.held.subscribe()
    }

    /// The certificate of a wanted account, as soon as there is one.
    pub async fn of(&self, account: &ServiceAccount) -> Arc<Svid> {
        let mut held = self.held.subscribe();
        let held = held.wait_for(|held| held.svids.contains_key(account)).await;
        let held = held.expect("the sender lives as long as self");
        Arc::clone(&held.svids[account])
    }

    /// How the certificates are.
    pub fn status(&self) -> Arc<Status> {
        Arc::clone(&self.status.borrow())
    }

    /// Issues and renews until `stop`. One of these at a time.
    pub async fn run(self, issuer: Arc<dyn Issuer>, clock: Clock, stop: Stop) -> Result<(), Infallible> {
        let mut wanted = self.wanted.subscribe();
        let mut keeper = Keeper::new(issuer, clock, wanted.borrow_and_update().clone());
        loop {
            keeper.begin_what_is_due();
            self.publish(&keeper);
            tokio::select! {
                () = stop.cancelled() => return Ok(()),
                () = keeper.work() => {}
                changed = wanted.changed() => {
                    changed.expect("self holds the sender");
                    keeper.take(wanted.borrow_and_update().clone());
                }
            }
        }
    }

    fn publish(&self, keeper: &Keeper) {
        let held = keeper.held();
        self.held.send_if_modified(|before| {
            let changed = !before.is_same(&held);
            if changed {
                *before = Arc::new(held);
            }
            changed
        });
        self.status.send_replace(Arc::new(keeper.status()));
    }
}

impl Held {
    fn nothing(wanted: &Wanted) -> Self {
        Self { missing: wanted.accounts.clone(), ..Self::default() }
    }

    /// Whether nobody would notice the difference.
    fn is_same(&self, other: &Self) -> bool {
        let trust = match (&self.trust, &other.trust) {
            (Some(one), Some(other)) => Arc::ptr_eq(one, other),
            (one, other) => one.is_none() && other.is_none(),
        };
        trust
            && self.missing == other.missing
            && self.svids.len() == other.svids.len()
            && self
                .svids
                .iter()
                .all(|(account, svid)| other.svids.get(account).is_some_and(|other| Arc::ptr_eq(svid, other)))
    }
}

/// How often the issuer and the clock are looked at.
pub(crate) const LOOK: Duration = Duration::from_secs(10);

/// Certificates that are being issued at a time.
const AT_ONCE: usize = 16;

/// How long an issuer may take for one.
const ISSUE_TIME: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests;
