//! The keys of providers that are elsewhere: fetched when they are first wanted, and again for as long as they are.
//!
//! ```text
//! want(where) ──► [one task] ── due? ──► GET (AT_ONCE under way, each within FETCH_TIME, at most LARGEST bytes)
//!                     │                     │ fails: the last good keys stay, tried again later and later
//!                     │◄────────────────────┘
//!                     └──► JwksHeld (the last good keys), status (what people see), a file (for the next agent)
//! ```
//!
//! Keys are fetched anew every [`REFRESH`], give or take a tenth. A new key is there that much later on each node, so a
//! provider has to publish it for that long before it signs with it, which those that rotate do for hours; and a key
//! that is withdrawn is believed that much longer. It is Envoy's default, and one small request a node.
//!
//! No redirect is followed: whoever names a place means that place.

mod error;
mod fetch;
mod keeper;
mod memory;
mod roots;

use std::{
    collections::BTreeMap,
    convert::Infallible,
    net::SocketAddr,
    path::PathBuf,
    sync::Arc,
    time::{Duration, SystemTime},
};

use tokio::sync::watch;
use weft_model::JwksHeld;
use weft_runtime::Stop;

use self::{fetch::Fetch, keeper::Keeper, memory::Memory};
use crate::Failure;

/// The keys of the providers that a node's pods trust. Clones share them.
#[derive(Clone, Debug)]
pub struct KeySets {
    wanted: watch::Sender<JwksWanted>,
    held: watch::Sender<Arc<JwksHeld>>,
    status: watch::Sender<Arc<[KeySetStatus]>>,
}

/// Where keys are to be fetched, by [`weft_model::JwksSource::location`].
pub type JwksWanted = BTreeMap<Arc<str>, JwksPlace>;

/// Where keys are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum JwksPlace {
    /// At this `http` or `https` URL.
    Uri(Arc<str>),
    /// At one of these addresses, by HTTP in clear text.
    Endpoints {
        /// Whom to ask, one after the other; none is a failure.
        addresses: Vec<SocketAddr>,
        /// What to call it: the `Host` of the request.
        host: Arc<str>,
        /// What to ask for.
        path: Arc<str>,
    },
}

/// How the keys of one place are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeySetStatus {
    /// Where they are.
    pub location: Arc<str>,
    /// How many there are.
    pub keys: usize,
    /// When they were fetched, maybe by an agent before this one; `None` before the first time.
    pub fetched: Option<SystemTime>,
    /// Why they cannot be fetched now. The last good ones serve on.
    pub failure: Option<Failure>,
}

/// How keys are fetched.
#[derive(Clone, Debug, Default)]
pub struct JwksOptions {
    /// PEM certificates of authorities that are believed beside the public ones. Read for each fetch.
    pub ca_bundle: Option<PathBuf>,
    /// The file in which the last good keys are kept; `None` keeps them in memory alone.
    pub last_good: Option<PathBuf>,
}

impl KeySets {
    /// No keys yet. They come while [`KeySets::run`] runs.
    pub fn new(wanted: JwksWanted) -> Self {
        Self {
            wanted: watch::Sender::new(wanted),
            held: watch::Sender::default(),
            status: watch::Sender::new(Arc::default()),
        }
    }

    /// Changes where keys are wanted from: new places are asked at once, the keys of others are forgotten.
    pub fn want(&self, wanted: JwksWanted) {
        self.wanted.send_if_modified(|before| {
            let changed = *before != wanted;
            *before = wanted;
            changed
        });
    }

    /// The last good keys, and each change of them.
    pub fn held(&self) -> watch::Receiver<Arc<JwksHeld>> {
        self.held.subscribe()
    }

    /// How they are, by place.
    pub fn status(&self) -> Arc<[KeySetStatus]> {
        Arc::clone(&self.status.borrow())
    }

    /// Fetches until `stop`. One of these at a time.
    pub async fn run(self, options: JwksOptions, stop: Stop) -> Result<(), Infallible> {
        self.run_at(options, Pace::default(), stop).await
    }

    async fn run_at(self, options: JwksOptions, pace: Pace, stop: Stop) -> Result<(), Infallible> {
        let JwksOptions { ca_bundle, last_good } = options;
        let mut wanted = self.wanted.subscribe();
        let memory = Memory::open(last_good).await;
        let mut keeper = Keeper::new(Fetch::new(ca_bundle), memory, pace);
        keeper.take(wanted.borrow_and_update().clone());
        loop {
            keeper.begin_what_is_due();
            self.publish(&mut keeper).await;
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

    async fn publish(&self, keeper: &mut Keeper) {
        let held = keeper.held();
        let changed = self.held.send_if_modified(|before| {
            let changed = **before != held;
            if changed {
                *before = Arc::new(held);
            }
            changed
        });
        self.status.send_replace(keeper.status());
        keeper.remember(changed).await;
    }
}

/// How often, and how often again.
#[derive(Clone, Copy, Debug)]
struct Pace {
    refresh: Duration,
    first_retry: Duration,
    last_retry: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Self { refresh: REFRESH, first_retry: Duration::from_secs(1), last_retry: Duration::from_mins(1) }
    }
}

/// How old keys become before they are fetched anew.
pub const REFRESH: Duration = Duration::from_mins(5);

/// How long one fetch may take, from the name's look-up to the last byte.
const FETCH_TIME: Duration = Duration::from_secs(5);

/// Bytes of a document that are read.
const LARGEST: usize = 1 << 20;

/// Fetches under way at a time.
const AT_ONCE: usize = 8;

/// Places that keys are fetched from.
const MOST_PLACES: usize = 256;

#[cfg(test)]
mod tests;
