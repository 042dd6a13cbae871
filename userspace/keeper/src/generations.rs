//! The proxies that live, and which of them is in force.

use std::collections::BTreeMap;

use tokio::sync::watch;
use weft_telemetry::api::Time;
use weft_transport::handover::Hello;

use crate::event::Met;
use crate::given::Progress;
use crate::wishes::Wishes;

/// The proxies with which there is a session, by its number.
#[derive(Debug, Default)]
pub(crate) struct Generations {
    by_session: BTreeMap<u64, Generation>,
}

/// One proxy.
#[derive(Debug)]
pub(crate) struct Generation {
    /// What it said about itself.
    pub hello: Hello,
    /// The version of the protocol that is spoken with it.
    pub version: u32,
    /// How far it is.
    pub progress: Progress,
    /// It was told to finish.
    pub retired: bool,
    /// Since when there is a session.
    pub since: Time,
    wishes: watch::Sender<Option<Wishes>>,
}

/// What follows from how far the proxies are.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Wait.
    Stay,
    /// The newest one has all: it alone goes on.
    Switch,
    /// The newest one cannot take its place: the one before goes on.
    Reject {
        /// The newest's process.
        pid: u32,
        /// What it refused.
        why: String,
    },
}

impl Generations {
    /// A proxy was met. One that connects again replaces what is known of its old connection.
    pub(crate) fn met(&mut self, met: Met) {
        let Met { session, hello, version, wishes, .. } = met;
        self.by_session.retain(|_, known| known.hello.generation != hello.generation);
        let (retired, progress, since) = (hello.draining, Progress::default(), Time::now());
        self.by_session.insert(session, Generation { hello, version, progress, retired, since, wishes });
    }

    /// How far a proxy is; unless it has connected again meanwhile. The one that has just fallen silent is
    /// returned.
    pub(crate) fn progressed(&mut self, session: u64, progress: Progress) -> Option<&Generation> {
        let generation = self.by_session.get_mut(&session)?;
        let fell_silent = progress.silent && !generation.progress.silent && !generation.retired;
        if let Some(trouble) =
            progress.trouble.as_ref().filter(|_| progress.trouble != generation.progress.trouble)
        {
            tracing::warn!(pid = generation.hello.pid, trouble, "the proxy refuses something");
        }
        generation.progress = progress;
        fell_silent.then_some(generation)
    }

    /// The session is over.
    pub(crate) fn ended(&mut self, session: u64) -> Option<Generation> {
        self.by_session.remove(&session)
    }

    /// The process has ended.
    pub(crate) fn gone(&mut self, pid: u32) {
        self.by_session.retain(|_, generation| generation.hello.pid != pid);
    }

    /// Decides whether the newest takes over.
    pub(crate) fn verdict(&self) -> Verdict {
        let serving: Vec<_> = self.by_age().into_iter().filter(|generation| !generation.retired).collect();
        let Some((newest, older)) = serving.split_last() else { return Verdict::Stay };
        match &newest.progress {
            _ if older.is_empty() => Verdict::Stay,
            Progress { filled: true, silent: false, .. } => Verdict::Switch,
            Progress { refusal: Some(why), .. } => {
                Verdict::Reject { pid: newest.hello.pid, why: why.clone() }
            }
            _ => Verdict::Stay,
        }
    }

    /// The newest goes on alone.
    pub(crate) fn retire_older(&mut self) {
        let newest = self.newest().map(|newest| newest.hello.generation);
        for generation in self.by_session.values_mut() {
            generation.retired |= Some(generation.hello.generation) != newest;
        }
    }

    /// The one of this process is no use.
    pub(crate) fn retire(&mut self, pid: u32) {
        for generation in self.by_session.values_mut() {
            generation.retired |= generation.hello.pid == pid;
        }
    }

    fn newest(&self) -> Option<&Generation> {
        self.by_age().into_iter().rfind(|generation| !generation.retired)
    }

    /// Whether there is one that serves, or is about to.
    pub(crate) fn serve(&self) -> bool {
        self.by_session.values().any(|generation| !generation.retired && !generation.progress.silent)
    }

    /// The one to which connections may be left.
    pub(crate) fn in_force(&self) -> Option<&Generation> {
        let can = |generation: &&Generation| {
            !generation.retired && generation.progress.filled && !generation.progress.silent
        };
        self.by_age().into_iter().rfind(can)
    }

    /// The newest one, where it cannot hold the maps of all layouts.
    pub(crate) fn left_behind(&self) -> Option<&Generation> {
        self.newest().filter(|newest| newest.progress.left_behind)
    }

    /// The one of this process.
    pub(crate) fn of(&self, pid: u32) -> Option<&Generation> {
        self.by_session.values().find(|generation| generation.hello.pid == pid)
    }

    /// All, oldest first.
    pub(crate) fn by_age(&self) -> Vec<&Generation> {
        let mut all: Vec<_> = self.by_session.values().collect();
        all.sort_by_key(|generation| generation.hello.generation);
        all
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.by_session.len()
    }

    /// Tells every session what its proxy should have.
    pub(crate) fn wish(&self, wishes: impl Fn(&Generation) -> Wishes) {
        for generation in self.by_session.values() {
            let wanted = wishes(generation);
            generation.wishes.send_if_modified(|now| {
                let new = now.as_ref().is_none_or(|now| !now.same(&wanted));
                if new {
                    *now = Some(wanted);
                }
                new
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use weft_transport::handover::{OURS, Versions};

    use super::*;

    #[test]
    fn the_newest_takes_over_once_it_is_filled_and_not_before() {
        let mut proxies = proxies(&[(1, true, None), (2, false, None)]);
        assert_eq!(proxies.verdict(), Verdict::Stay);
        assert_eq!(proxies.in_force().map(number), Some(1));
        proxies.progressed(2, progress(true, None));
        assert_eq!(proxies.verdict(), Verdict::Switch);
        proxies.retire_older();
        assert_eq!((proxies.verdict(), proxies.in_force().map(number)), (Verdict::Stay, Some(2)));
        assert_eq!(retired(&proxies), [1]);
    }

    #[test]
    fn one_that_cannot_be_filled_leaves_the_one_before_in_force() {
        let mut proxies = proxies(&[(1, true, None), (2, false, Some("no memory"))]);
        assert_eq!(proxies.verdict(), Verdict::Reject { pid: 2, why: "no memory".into() });
        proxies.retire(2);
        assert_eq!((proxies.verdict(), proxies.in_force().map(number)), (Verdict::Stay, Some(1)));
        assert_eq!(retired(&proxies), [2]);
    }

    #[test]
    fn a_single_one_stays_whatever_it_refuses() {
        assert_eq!(proxies(&[(1, false, Some("no memory"))]).verdict(), Verdict::Stay);
        assert_eq!(proxies(&[]).verdict(), Verdict::Stay);
    }

    #[test]
    fn age_is_told_by_the_generation_and_not_by_who_connected_first() {
        let mut proxies = proxies(&[(9, true, None), (4, true, None)]);
        assert_eq!(proxies.verdict(), Verdict::Switch);
        proxies.retire_older();
        assert_eq!(retired(&proxies), [4]);
    }

    #[test]
    fn one_that_connects_again_replaces_its_old_session() {
        let mut proxies = proxies(&[(1, true, None)]);
        proxies.met(met(7, 1));
        assert_eq!(proxies.len(), 1);
        assert!(proxies.ended(1).is_none(), "the end of the old session is no news");
        assert!(proxies.ended(7).is_some());
    }

    fn proxies(table: &[(u64, bool, Option<&str>)]) -> Generations {
        let mut proxies = Generations::default();
        for &(number, filled, refusal) in table {
            proxies.met(met(number, number));
            proxies.progressed(number, progress(filled, refusal));
        }
        proxies
    }

    fn met(session: u64, generation: u64) -> Met {
        let (versions, build): (Versions, _) = (OURS, "weft".to_owned());
        let pid = u32::try_from(generation).unwrap();
        let hello = Hello { versions, generation, pid, build, draining: false };
        Met { session, hello, version: 1, pods: Vec::new(), wishes: watch::channel(None).0 }
    }

    fn progress(filled: bool, refusal: Option<&str>) -> Progress {
        Progress { filled, refusal: refusal.map(Into::into), ..Progress::default() }
    }

    fn number(generation: &Generation) -> u64 {
        generation.hello.generation
    }

    fn retired(proxies: &Generations) -> Vec<u64> {
        proxies.by_age().into_iter().filter(|g| g.retired).map(number).collect()
    }
}
