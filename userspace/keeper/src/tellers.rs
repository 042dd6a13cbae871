//! Proxies that have told something, until the last of it was taken and they are gone.

use std::collections::{BTreeMap, BTreeSet};

/// One proxy may have several connections in its life, and its process may end before its last connection was read.
#[derive(Debug, Default)]
pub(crate) struct Tellers {
    /// The generation behind each open session.
    sessions: BTreeMap<u64, u64>,
    /// The process of each generation.
    processes: BTreeMap<u64, i32>,
}

impl Tellers {
    /// A proxy has connected.
    pub(crate) fn met(&mut self, session: u64, generation: u64, pid: i32) {
        self.sessions.insert(session, generation);
        self.processes.insert(generation, pid);
    }

    /// A connection was read to its end.
    pub(crate) fn ended(&mut self, session: u64) {
        self.sessions.remove(&session);
    }

    /// The generations that are gone since the last look, now that these processes live.
    pub(crate) fn gone(&mut self, living: &BTreeSet<i32>) -> Vec<u64> {
        let connected: BTreeSet<u64> = self.sessions.values().copied().collect();
        let is_gone = |generation: &u64, pid: &i32| !connected.contains(generation) && !living.contains(pid);
        let gone: Vec<u64> = self
            .processes
            .iter()
            .filter(|(generation, pid)| is_gone(generation, pid))
            .map(|(g, _)| *g)
            .collect();
        self.processes.retain(|generation, _| !gone.contains(generation));
        gone
    }

    /// Whether a proxy is not connected any more, and not known to be gone.
    pub(crate) fn any_leaves(&self) -> bool {
        self.processes.keys().any(|generation| !self.sessions.values().any(|open| open == generation))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_is_gone_once_its_process_and_its_last_connection_are() {
        let mut tellers = Tellers::default();
        tellers.met(1, 70, 7);
        tellers.met(2, 80, 8);
        let none = BTreeSet::new();
        assert_eq!(tellers.gone(&none), [0; 0], "their connections are still read");
        tellers.ended(1);
        assert!(tellers.any_leaves());
        assert_eq!(tellers.gone(&BTreeSet::from([7])), [0; 0], "it may connect again");
        tellers.met(3, 70, 7);
        assert!(!tellers.any_leaves());
        tellers.ended(3);
        assert_eq!(tellers.gone(&BTreeSet::from([8])), [70]);
        assert_eq!(tellers.gone(&BTreeSet::from([8])), [0; 0], "it ends once");
    }
}
