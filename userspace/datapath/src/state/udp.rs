//! Connected UDP sockets whose backend is gone.

use std::collections::HashSet;

use weft_abi::config_flags;

use super::State;
use crate::sweep;

impl State {
    /// The backends before a change, where there is one; `None` at the first, before which nobody knows them.
    pub(super) fn backends_of_udp(&self, unchanged: bool) -> Option<HashSet<u64>> {
        (!unchanged && self.snapshot.is_some()).then(|| self.services.udp_backends())
    }

    /// Whether a backend of UDP is there no more: only then are all connected sockets looked at.
    pub(super) fn has_lost_one_of(&self, before: Option<HashSet<u64>>) -> bool {
        before.is_some_and(|before| !before.is_subset(&self.services.udp_backends()))
    }

    /// Ends the UDP sockets that are connected to a backend that none of their Services has any more.
    pub(super) fn cut_stale_udp(&mut self) {
        let now = self.services.udp_backends();
        let connected = self.maps.udp_connected.entries().into_iter();
        let stale = connected.filter(|(_, backend)| !now.contains(&backend.id));
        let stale: HashSet<_> = stale.map(|(socket, _)| socket.cookie).collect();
        if stale.is_empty() {
            return;
        }
        let ended = if self.config.flags & config_flags::SCOPE_NODE == 0 {
            sweep::stale_udp(&mut self.namespaces, &stale)
        } else {
            sweep::stale_udp_anywhere(&stale)
        };
        tracing::debug!(sockets = ended, "connected UDP to removed backends ended");
    }
}
