//! What a proxy should have.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use weft_transport::handover::Pod;
use weft_transport::memfd::Sealed;

use crate::{Identities, Maps};

/// All that one proxy should have. Its session says whatever of it the proxy lacks.
#[derive(Debug, Clone)]
pub(crate) struct Wishes {
    /// The eBPF maps.
    pub maps: Arc<Maps>,
    /// Those of older layouts.
    pub older: Older,
    /// Certificates, and whom to trust.
    pub identities: Option<Identities>,
    /// The last snapshot.
    pub snapshot: Option<Snapshot>,
    /// The last one that a proxy has taken, for a proxy that refuses the last and has none.
    pub last_good: Option<Snapshot>,
    /// The pods, by cookie.
    pub pods: Arc<BTreeMap<u64, Lent>>,
    /// Whether it is given pods.
    pub serves: bool,
    /// Whether it should finish, and within which time.
    pub drain: Option<Duration>,
}

/// The eBPF maps of older layouts, whose programs may still send connections to proxies.
#[derive(Debug, Clone)]
pub(crate) struct Older {
    /// Another one, whenever they are others.
    pub revision: u64,
    /// Themselves.
    pub maps: Arc<[Maps]>,
}

/// A snapshot as a proxy gets it.
#[derive(Debug, Clone)]
pub(crate) struct Snapshot {
    /// Its version.
    pub version: u64,
    /// Its bytes.
    pub bytes: Arc<Sealed>,
}

/// A pod as the keeper lends it.
#[derive(Debug, Clone)]
pub(crate) struct Lent {
    /// Itself. Nobody keeps it for longer than it takes to send it: it holds the namespace.
    pub pod: Arc<Pod>,
    /// Another one, whenever something of it has changed.
    pub revision: u64,
}

impl Wishes {
    /// Whether there is nothing new in `self`.
    pub(crate) fn same(&self, other: &Self) -> bool {
        let version = |snapshot: &Option<Snapshot>| snapshot.as_ref().map(|snapshot| snapshot.version);
        let identities = |wishes: &Self| wishes.identities.as_ref().map(|identities| identities.version);
        Arc::ptr_eq(&self.pods, &other.pods)
            && self.older.revision == other.older.revision
            && identities(self) == identities(other)
            && version(&self.snapshot) == version(&other.snapshot)
            && version(&self.last_good) == version(&other.last_good)
            && (self.serves, self.drain) == (other.serves, other.drain)
    }
}
