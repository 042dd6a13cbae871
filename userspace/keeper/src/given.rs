//! What one proxy was given and what it answered, and so what to say to it next.

mod older;

use std::collections::{BTreeMap, BTreeSet};

use weft_transport::handover::{Nack, Report, Unheard};

use self::older::HeldMaps;
use crate::Identities;
use crate::wishes::{Lent, Older, Snapshot, Wishes};

/// What a proxy was given.
#[derive(Debug, Default)]
pub(crate) struct Given {
    /// It has served before: it has a snapshot, of an earlier agent.
    adopted: bool,
    maps: Option<Answer>,
    /// Of older layouts.
    older: HeldMaps,
    /// `None` for one of a version that takes no identities.
    identities: Option<Shown>,
    /// The snapshot that was sent last.
    snapshot: Option<(u64, Answer)>,
    in_force: Option<u64>,
    refused: BTreeSet<u64>,
    pods: BTreeMap<u64, (u64, Answer)>,
    drained: bool,
    /// Whether to say something only to hear whether it answers.
    knocks: bool,
    unanswered: BTreeMap<u64, About>,
    report: Option<Report>,
    trouble: Option<String>,
}

/// Which identities a proxy shows.
#[derive(Debug, Default)]
struct Shown {
    /// Those that were sent last.
    sent: Option<(u64, Answer)>,
    in_force: Option<u64>,
}

/// What has come of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Answer {
    None,
    Ack,
    Nack,
}

/// What a message was about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum About {
    Maps,
    OlderMaps(u64),
    Identities(u64),
    Snapshot(u64),
    Pod { cookie: u64, revision: u64 },
    PodGone,
    Drain,
}

/// The next thing to say.
#[derive(Debug)]
pub(crate) enum Step {
    Maps,
    OlderMaps(Older),
    Identities(Identities),
    Snapshot(Snapshot),
    Pod(Lent),
    PodGone(u64),
    Drain,
}

/// How far a proxy is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Progress {
    /// It has all that it should have: connections may be left to it alone.
    pub filled: bool,
    /// It owes an answer for long.
    pub silent: bool,
    /// Why it will not be filled.
    pub refusal: Option<String>,
    /// It cannot hold the maps of several layouts, as there are now: another one has to take its place.
    pub left_behind: bool,
    /// What it refused last, also where it can do without.
    pub trouble: Option<String>,
    /// Pods that it serves.
    pub pods: usize,
    /// The snapshot of this agent by which it decides.
    pub snapshot: Option<u64>,
    /// The identities of this agent that it shows.
    pub identities: Option<u64>,
    /// Connections that it carries, where it says.
    pub connections: Option<u64>,
    /// Identities of which it has a valid certificate, where it says.
    pub certificates: Option<u64>,
    /// Where apps are not heard by the way that their namespaces have for it.
    pub unheard: Vec<Unheard>,
}

impl Given {
    /// A proxy that has handed back these pods. Each is given to it again: what it has may be out of date.
    pub(crate) fn handed_back(cookies: impl IntoIterator<Item = u64>, takes_identities: bool) -> Self {
        let pods = cookies.into_iter().map(|cookie| (cookie, (NO_REVISION, Answer::Ack)));
        let pods: BTreeMap<_, _> = pods.collect();
        let identities = takes_identities.then(Shown::default);
        Self { adopted: !pods.is_empty(), identities, pods, ..Self::default() }
    }

    /// What to say next; `None` when all is said, or has to be answered first.
    pub(crate) fn next(&self, wishes: &Wishes) -> Option<Step> {
        // First of all: what it still holds keeps a namespace alive.
        if let Some(cookie) = self.pods.keys().find(|cookie| !wishes.pods.contains_key(cookie)) {
            return Some(Step::PodGone(*cookie));
        }
        if wishes.drain.is_some() && !self.drained {
            return Some(Step::Drain);
        }
        if let Some(older) = self.older.next(&wishes.older) {
            return Some(Step::OlderMaps(older.clone()));
        }
        // Those that it has may be the older ones: it keeps them until it holds both.
        if self.maps.is_none() && self.older.are_all(&wishes.older) {
            return Some(Step::Maps);
        }
        if let Some(identities) = self.next_identities(wishes) {
            return Some(Step::Identities(identities.clone()));
        }
        if let Some(snapshot) = self.next_snapshot(wishes) {
            return Some(Step::Snapshot(snapshot.clone()));
        }
        if let Some(new) = self.next_pod(wishes) {
            return Some(new);
        }
        self.knocks.then_some(Step::PodGone(NOBODY))
    }

    fn next_pod(&self, wishes: &Wishes) -> Option<Step> {
        if !wishes.serves || !self.can_serve(wishes) || self.unanswered.len() >= MOST_UNANSWERED {
            return None;
        }
        let is_new = |(cookie, lent): &(&u64, &Lent)| {
            self.pods.get(cookie).is_none_or(|(revision, _)| *revision != lent.revision)
        };
        wishes.pods.iter().find(is_new).map(|(_, lent)| Step::Pod(lent.clone()))
    }

    /// A pod is in force only where maps and a snapshot are, so it is not asked for before.
    fn can_serve(&self, wishes: &Wishes) -> bool {
        let undecided = matches!(self.snapshot, Some((_, Answer::None)));
        let decides = self.in_force.is_some() || (self.adopted && !undecided) || wishes.snapshot.is_none();
        self.maps == Some(Answer::Ack) && decides
    }

    /// One at a time, as snapshots.
    fn next_identities<'a>(&self, wishes: &'a Wishes) -> Option<&'a Identities> {
        let (latest, shown) = (wishes.identities.as_ref()?, self.identities.as_ref()?);
        let is_said = |(sent, answer): (u64, Answer)| answer == Answer::None || sent == latest.version;
        (!shown.sent.is_some_and(is_said)).then_some(latest)
    }

    /// One at a time, so that of many in quick succession only the last is read.
    fn next_snapshot<'a>(&self, wishes: &'a Wishes) -> Option<&'a Snapshot> {
        let latest = wishes.snapshot.as_ref()?;
        match self.snapshot {
            Some((_, Answer::None)) => None,
            Some((sent, _)) if sent == latest.version || self.refused.contains(&latest.version) => {
                self.fallback(wishes)
            }
            _ => Some(latest),
        }
    }

    /// The last good one, for a proxy that has refused the last and has none; unless it refused that too.
    fn fallback<'a>(&self, wishes: &'a Wishes) -> Option<&'a Snapshot> {
        let has_none = self.in_force.is_none() && !self.adopted;
        let untried = |good: &&Snapshot| has_none && !self.refused.contains(&good.version);
        wishes.last_good.as_ref().filter(untried)
    }

    /// A message was sent under this id.
    pub(crate) fn sent(&mut self, id: u64, step: &Step) {
        let about = match step {
            Step::Maps => {
                self.maps = Some(Answer::None);
                About::Maps
            }
            Step::OlderMaps(older) => {
                self.older.sent(older);
                About::OlderMaps(older.revision)
            }
            Step::Identities(Identities { version, .. }) => {
                self.settle(About::Identities(*version), Answer::None);
                About::Identities(*version)
            }
            Step::Snapshot(snapshot) => {
                self.snapshot = Some((snapshot.version, Answer::None));
                About::Snapshot(snapshot.version)
            }
            Step::Pod(Lent { pod, revision }) => {
                self.pods.insert(pod.cookie, (*revision, Answer::None));
                About::Pod { cookie: pod.cookie, revision: *revision }
            }
            Step::PodGone(cookie) => {
                self.pods.remove(cookie);
                self.knocks &= *cookie != NOBODY;
                About::PodGone
            }
            Step::Drain => {
                self.drained = true;
                About::Drain
            }
        };
        self.unanswered.insert(id, about);
    }

    /// What this message asked for is in force.
    pub(crate) fn acked(&mut self, of: u64) {
        match self.unanswered.remove(&of) {
            Some(About::Snapshot(version)) => {
                self.in_force = Some(version);
                // What was refused after it is still refused.
                self.refused.retain(|refused| *refused > version);
                self.settle(About::Snapshot(version), Answer::Ack);
                self.forget_trouble();
            }
            Some(about @ About::Identities(_)) => {
                self.settle(about, Answer::Ack);
                self.forget_trouble();
            }
            Some(about) => self.settle(about, Answer::Ack),
            None => {}
        }
    }

    /// This message was refused.
    pub(crate) fn nacked(&mut self, nack: &Nack) {
        let Some(about) = self.unanswered.remove(&nack.of) else { return };
        if let About::Snapshot(version) = about {
            self.refused.insert(version);
        }
        self.settle(about, Answer::Nack);
        self.trouble = Some(format!("{about} was refused: {}", nack.error));
    }

    /// Unless it still refuses something.
    fn forget_trouble(&mut self) {
        let shown = self.identities.as_ref().and_then(|shown| shown.sent);
        let without = matches!(shown, Some((_, Answer::Nack))) || self.older.were_refused();
        let refuses = !self.refused.is_empty() || without;
        self.trouble.take_if(|_| !refuses);
    }

    /// How the proxy says it is.
    pub(crate) fn reported(&mut self, report: Report) {
        self.report = Some(report);
    }

    /// Says something next, if there is nothing else to say and no answer is due.
    pub(crate) fn knock(&mut self) {
        self.knocks = self.unanswered.is_empty();
    }

    /// Whether it owes an answer.
    pub(crate) fn owes_an_answer(&self) -> bool {
        !self.unanswered.is_empty()
    }

    /// Pods and identities that were refused may be asked for again: what was short then may not be now.
    pub(crate) fn ask_again(&mut self) {
        if let Some(shown) = &mut self.identities {
            shown.sent.take_if(|(_, answer)| *answer == Answer::Nack);
        }
        self.pods.retain(|_, (_, answer)| *answer != Answer::Nack);
    }

    fn settle(&mut self, about: About, answer: Answer) {
        match about {
            About::Maps => self.maps = Some(answer),
            About::OlderMaps(revision) => self.older.settle(revision, answer),
            About::Identities(version) => {
                if let Some(shown) = &mut self.identities {
                    shown.sent = Some((version, answer));
                    shown.in_force = if answer == Answer::Ack { Some(version) } else { shown.in_force };
                }
            }
            About::Snapshot(version) => self.snapshot = Some((version, answer)),
            About::Pod { cookie, revision } => {
                // Only if it was not said anew meanwhile.
                if let Some(pod) = self.pods.get_mut(&cookie).filter(|(given, _)| *given == revision) {
                    pod.1 = answer;
                }
            }
            About::PodGone | About::Drain => {}
        }
    }

    /// How far it is.
    pub(crate) fn progress(&self, wishes: Option<&Wishes>) -> Progress {
        let in_force = self.pods.values().filter(|(_, answer)| *answer == Answer::Ack).count();
        Progress {
            filled: wishes.is_some_and(|wishes| self.filled(wishes)),
            silent: false,
            refusal: wishes.and_then(|wishes| self.refusal(wishes)),
            left_behind: wishes.is_some_and(|wishes| self.older.are_refused(&wishes.older)),
            trouble: self.trouble.clone(),
            pods: in_force,
            snapshot: self.in_force,
            identities: self.identities.as_ref().and_then(|shown| shown.in_force),
            connections: self.report.as_ref().map(|report| report.connections),
            certificates: self.report.as_ref().map(|report| report.certificates),
            unheard: self.report.as_ref().map(|report| report.unheard.clone()).unwrap_or_default(),
        }
    }

    fn filled(&self, wishes: &Wishes) -> bool {
        let Some(latest) = &wishes.snapshot else { return false };
        let decided = self.in_force == Some(latest.version)
            || ((self.in_force.is_some() || self.adopted) && self.refused.contains(&latest.version));
        let served =
            |(cookie, lent): (&u64, &Lent)| self.pods.get(cookie) == Some(&(lent.revision, Answer::Ack));
        // A renewal that is under way is no reason to wait: the certificate before it is valid.
        let has_some = self.identities.as_ref().is_none_or(|shown| shown.in_force.is_some());
        let shows = has_some || wishes.identities.is_none();
        let has_maps = self.maps == Some(Answer::Ack) && self.older.are_all(&wishes.older);
        has_maps && shows && decided && wishes.pods.iter().all(served)
    }

    /// A snapshot that is refused is no reason while another may still be taken.
    fn refusal(&self, wishes: &Wishes) -> Option<String> {
        let latest = wishes.snapshot.as_ref();
        let undecided = latest.is_some_and(|latest| self.refused.contains(&latest.version))
            && self.in_force.is_none()
            && !self.adopted
            && !matches!(self.snapshot, Some((_, Answer::None)))
            && self.fallback(wishes).is_none();
        let unserved = self.pods.values().any(|(_, answer)| *answer == Answer::Nack);
        let unshown = self
            .identities
            .as_ref()
            .is_some_and(|shown| shown.in_force.is_none() && matches!(shown.sent, Some((_, Answer::Nack))));
        let without_maps = self.maps == Some(Answer::Nack) || self.older.are_refused(&wishes.older);
        let refuses = undecided || unserved || unshown || without_maps;
        refuses.then(|| self.trouble.clone().unwrap_or_else(|| "it refused what it was given".to_owned()))
    }
}

impl std::fmt::Display for About {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Maps => f.write_str("the eBPF maps"),
            Self::OlderMaps(_) => f.write_str("to hold the eBPF maps of an older layout, too,"),
            Self::Identities(_) => f.write_str("the set of certificates"),
            Self::Snapshot(version) => write!(f, "snapshot {version}"),
            Self::Pod { cookie, .. } => write!(f, "the pod with cookie {cookie}"),
            Self::PodGone => f.write_str("the end of a pod"),
            Self::Drain => f.write_str("to drain"),
        }
    }
}

/// No namespace has this cookie: every proxy can say at once that it holds nothing of it.
const NOBODY: u64 = 0;
/// No pod is lent under it.
pub(crate) const NO_REVISION: u64 = 0;
/// Messages that may wait for their answers at once.
const MOST_UNANSWERED: usize = 32;

#[cfg(test)]
mod tests;
