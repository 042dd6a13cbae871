//! Pods that have left the mesh while they run: what the proxy carries of theirs goes on, for as long as in a proxy that was
//! replaced.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use weft_transport::NetnsId;

use crate::LocalPod;

/// See the module. Holds no namespace.
pub(crate) struct Withdrawn {
    /// Where the namespaces of those are that have not left, by cookie.
    members: BTreeMap<u64, Place>,
    left: BTreeMap<u64, (Place, Instant)>,
    drain: Duration,
}

struct Place {
    path: PathBuf,
    id: NetnsId,
}

impl Withdrawn {
    /// None yet; each may take that long.
    pub(crate) fn new(drain: Duration) -> Self {
        Self { members: BTreeMap::new(), left: BTreeMap::new(), drain }
    }

    /// These are the members now: the others have left, and who is among them again has not.
    pub(crate) fn follow(&mut self, members: &[LocalPod], now: Instant) {
        let place = |pod: &LocalPod| (pod.cookie, Place { path: pod.path.clone(), id: pod.netns.id() });
        let before = std::mem::replace(&mut self.members, members.iter().map(place).collect());
        let until = now + self.drain;
        let gone = before.into_iter().filter(|(cookie, _)| !self.members.contains_key(cookie));
        self.left.extend(gone.map(|(cookie, place)| (cookie, (place, until))));
        let members = &self.members;
        self.left.retain(|cookie, (place, until)| {
            !members.contains_key(cookie) && now < *until && place.is_there()
        });
    }

    /// Whether the pod with this cookie has left and is still served.
    pub(crate) fn has(&self, cookie: u64) -> bool {
        self.left.contains_key(&cookie)
    }

    /// Whether there is any such pod.
    pub(crate) fn any(&self) -> bool {
        !self.left.is_empty()
    }
}

impl Place {
    fn is_there(&self) -> bool {
        matches!(NetnsId::at(&self.path), Ok(Some(id)) if id == self.id)
    }
}
