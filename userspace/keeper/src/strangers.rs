//! Proxies that live and are not known: an earlier agent's, or one whose connection was lost.

use std::collections::{BTreeMap, BTreeSet};
use std::mem::take;
use std::time::{Duration, Instant};

/// Whom the keeper waits for before it makes listeners or starts a proxy: whoever lives may hold the very
/// listeners, and connections in them.
#[derive(Debug, Default)]
pub(crate) struct Strangers {
    since: Option<Instant>,
    /// Those with whom nothing can be said, and why. They go on with what they have.
    incompatible: BTreeMap<i32, String>,
    /// Those of them that were asked to end.
    dismissed: BTreeSet<i32>,
    /// One whose connection has ended, and when it was started.
    lost: Option<(i32, u64)>,
}

impl Strangers {
    /// Looks at who lives now beside those who are `known`. The one whose connection has ended is returned if
    /// it has ended itself.
    pub(crate) fn look(
        &mut self,
        living: &BTreeSet<i32>,
        known: &BTreeSet<i32>,
        now: Instant,
    ) -> Option<(i32, u64)> {
        self.incompatible.retain(|pid, _| living.contains(pid));
        self.dismissed.retain(|pid| living.contains(pid));
        let is_strange = |pid: &i32| {
            !known.contains(pid) && !self.incompatible.contains_key(pid) && !self.dismissed.contains(pid)
        };
        let strange = living.iter().any(is_strange);
        self.since = strange.then(|| self.since.unwrap_or(now));
        self.lost.take_if(|(pid, _)| !living.contains(pid))
    }

    /// Whether one may still connect.
    pub(crate) fn may_come(&self, now: Instant) -> bool {
        self.since.is_some_and(|since| now.duration_since(since) < PATIENCE)
    }

    /// Whether somebody is there who has had his time.
    pub(crate) fn is_overdue(&self, now: Instant) -> bool {
        self.since.is_some() && !self.may_come(now)
    }

    /// Whether somebody is there at all.
    pub(crate) fn any(&self) -> bool {
        self.since.is_some() || !self.incompatible.is_empty()
    }

    /// The connection to a proxy has ended.
    pub(crate) fn lost(&mut self, pid: i32, generation: u64) {
        self.lost = Some((pid, generation));
    }

    /// A proxy has connected.
    pub(crate) fn met(&mut self, pid: i32) {
        self.incompatible.remove(&pid);
        self.lost.take_if(|(lost, _)| *lost == pid);
    }

    /// Nothing can be said to this one.
    pub(crate) fn incompatible(&mut self, pid: i32, why: String) {
        if !self.dismissed.contains(&pid) {
            self.incompatible.insert(pid, why);
        }
    }

    /// Those with whom nothing can be said were asked to end, and count no more.
    pub(crate) fn dismissed(&mut self) {
        self.dismissed.extend(take(&mut self.incompatible).into_keys());
    }

    /// Those with whom nothing can be said, and why.
    pub(crate) fn all_incompatible(&self) -> &BTreeMap<i32, String> {
        &self.incompatible
    }
}

/// How long a living proxy may take to connect. It tries again every second or sooner.
const PATIENCE: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_lives_and_is_not_known_is_waited_for_but_not_for_ever() {
        let (mut strangers, start) = (Strangers::default(), Instant::now());
        let (seven, none) = (BTreeSet::from([7]), BTreeSet::new());
        strangers.look(&seven, &none, start);
        assert!(strangers.may_come(start));
        let later = start + Duration::from_secs(3);
        strangers.look(&seven, &none, later);
        assert!(strangers.may_come(later));
        let late = start + PATIENCE;
        strangers.look(&seven, &none, late);
        assert!(!strangers.may_come(late) && strangers.any());
        strangers.look(&seven, &seven, late);
        assert!(!strangers.any());
    }

    #[test]
    fn one_with_whom_nothing_can_be_said_is_not_waited_for_and_forgotten_when_it_is_gone() {
        let (mut strangers, now) = (Strangers::default(), Instant::now());
        strangers.incompatible(7, "version 9".into());
        strangers.look(&BTreeSet::from([7]), &BTreeSet::new(), now);
        assert!(!strangers.may_come(now) && strangers.any());
        strangers.look(&BTreeSet::new(), &BTreeSet::new(), now);
        assert!(!strangers.any());
    }

    #[test]
    fn a_lost_connection_is_a_death_only_once_the_process_is_gone() {
        let (mut strangers, now) = (Strangers::default(), Instant::now());
        let (seven, none) = (BTreeSet::from([7]), BTreeSet::new());
        strangers.lost(7, 1);
        assert_eq!(strangers.look(&seven, &none, now), None);
        assert_eq!(strangers.look(&none, &none, now), Some((7, 1)));
        assert_eq!(strangers.look(&none, &none, now), None, "it dies once");
        strangers.lost(7, 1);
        strangers.met(7);
        assert_eq!(strangers.look(&none, &none, now), None);
    }
}
