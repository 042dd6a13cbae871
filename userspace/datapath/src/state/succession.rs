//! One layout of maps follows another, and no connection falls between the two.
//!
//! ```text
//! the older programs decide; the proxy gets both layouts' maps         prepare
//!   ├─ it has all: the new programs are attached beside the older ones  apply
//!   ├─ those of the older ones that decide are taken off                succeed
//!   └─ those that remember follow, and the maps, once they are empty    let_go
//! ```
//! A connection that an older program has sent to the proxy is in the older maps, until the proxy has accepted it. An
//! agent that ends anywhere in between leaves what the next one goes on from: all of it is pinned.

use std::{sync::Arc, time::Duration};

use tokio::{sync::watch, time::Instant};
use weft_model::Snapshot;

use super::{State, local};
use crate::{
    accelerate, attach,
    load::Loaded,
    pins::Pins,
    proxy::{LocalPod, ProxyMaps},
};

/// Older layouts whose programs decide no more.
pub(crate) struct Succession {
    leaving: Vec<Leaving>,
    /// The proxy's maps of all layouts that are older than this agent's.
    older: watch::Sender<Arc<[Arc<ProxyMaps>]>>,
}

struct Leaving {
    pins: Pins,
    maps: Option<Arc<ProxyMaps>>,
    since: Instant,
    /// Nothing of it is attached, so nothing was under way by it.
    is_bare: bool,
}

impl Succession {
    /// Of the layouts that an earlier agent has left.
    pub(super) fn of(loaded: &Loaded) -> Self {
        let older = loaded.retired.iter().filter_map(maps_of).collect();
        Self { leaving: Vec::new(), older: watch::Sender::new(older) }
    }

    /// The proxy's maps of older layouts, as long as anything may be in them.
    pub(crate) fn older(&self) -> watch::Receiver<Arc<[Arc<ProxyMaps>]>> {
        self.older.subscribe()
    }
}

impl State {
    /// Whether programs of an older layout do the work until the proxy has what it needs for those of this one.
    pub(crate) fn follows_another_layout(&self) -> bool {
        self.snapshot.is_none() && self.loaded.retired.iter().any(attach::decides)
    }

    /// The pods that the proxy is to be ready for. Nothing changes for them yet.
    pub(crate) fn prepare(&mut self, snapshot: &Snapshot) -> Vec<LocalPod> {
        self.moved |= self.namespaces.follow(local(snapshot));
        self.pods_of(snapshot)
    }

    /// The programs of this layout alone decide from now on: nothing of it is missing.
    pub(super) fn succeed(&mut self) {
        let since = Instant::now();
        for pins in self.loaded.retired.drain(..) {
            let is_bare = !pins.is_attached();
            // Sockets that are paired outlive the pins.
            let taken_off = accelerate::stop(&pins).and_then(|()| attach::decide_no_more(&pins));
            match taken_off {
                Ok(()) => tracing::info!(version = pins.version, "an earlier layout of maps decides no more"),
                Err(error) => {
                    tracing::warn!(version = pins.version, %error, "programs of an earlier layout remain");
                }
            }
            self.succession.leaving.push(Leaving { maps: maps_of(&pins), pins, since, is_bare });
        }
        self.let_go(since);
    }

    /// Lets go of older layouts that nothing is in any more.
    pub(super) fn let_go(&mut self, now: Instant) {
        let over: Vec<_> = self.succession.leaving.extract_if(.., |leaving| leaving.is_over(now)).collect();
        if over.is_empty() {
            return;
        }
        for Leaving { pins, .. } in over {
            match pins.remove() {
                Ok(()) => tracing::info!(version = pins.version, "pins of an earlier layout removed"),
                Err(error) => {
                    tracing::warn!(version = pins.version, %error, "pins of an earlier layout remain");
                }
            }
        }
        let left = self.succession.leaving.iter().filter_map(|leaving| leaving.maps.clone());
        self.succession.older.send_replace(left.collect());
    }
}

impl Leaving {
    fn is_over(&self, now: Instant) -> bool {
        let age = now.duration_since(self.since);
        let is_taken = || self.maps.as_ref().is_none_or(|maps| maps.are_taken());
        self.is_bare || age >= LONGEST || (age >= SHORTEST && is_taken())
    }
}

fn maps_of(pins: &Pins) -> Option<Arc<ProxyMaps>> {
    let maps = ProxyMaps::of(pins).unwrap_or_else(|error| {
        tracing::warn!(version = pins.version, %error, "the proxy cannot be lent maps of an earlier layout");
        None
    });
    maps.map(Arc::new)
}

/// For answers to datagrams that an older program has sent elsewhere, and for SYNs that are sent again.
const SHORTEST: Duration = Duration::from_secs(5);
/// A row whose connection has broken off unseen is nobody's.
const LONGEST: Duration = Duration::from_secs(30);
