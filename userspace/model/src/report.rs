//! What agents tell controllers of what they have in force, in as few words as that takes.
//!
//! All nodes of a mesh come to have the same in force. So a report says by one digest what that is, and what has changed
//! since the report before; a controller that knows the digest, its own or another node's, reads no further.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use serde::{Deserialize, Serialize};

use crate::{Generations, digest};

/// POST: a [`Report`] of the asking node, answered by a [`ReportAnswer`].
pub const PROGRAMMED: &str = "/v1/programmed";

/// What a node has in force. Which node that is, the agent's token says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// What the generations are called ([`digest`]).
    pub digest: String,
    /// Which they are, for who does not know that.
    pub content: Content,
    /// Why the newest configuration is not in force.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<String>,
}

/// Generations, or what makes them of others.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Content {
    /// They are the same as before, or have to be known.
    Named,
    /// Those of the report before were called `since`.
    #[serde(rename_all = "camelCase")]
    Changed {
        /// Their digest.
        since: String,
        /// What is different; `null` is gone.
        changes: BTreeMap<Arc<str>, Option<i64>>,
    },
    /// All of them.
    Whole {
        /// These.
        generations: Generations,
    },
}

/// Whether a controller knows what a report names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReportAnswer {
    /// If not, the agent sends the whole.
    pub known: bool,
}

/// What one controller was told by this agent, and when.
#[derive(Debug, Default)]
pub struct Told {
    last: Option<Last>,
    /// It has not known what was only named.
    wants_whole: bool,
}

#[derive(Debug)]
struct Last {
    generations: Arc<Generations>,
    digest: String,
    failure: Option<String>,
    at: Instant,
}

impl Told {
    /// The report that is due at `now`, where these generations are in force; `None` where the controller was told that, and
    /// not long ago.
    pub fn due(&self, generations: &Arc<Generations>, failure: Option<&str>, now: Instant) -> Option<Report> {
        let report =
            |digest: String, content| Report { digest, content, failure: failure.map(ToOwned::to_owned) };
        if self.wants_whole {
            let content = Content::Whole { generations: (**generations).clone() };
            return Some(report(digest(generations), content));
        }
        let Some(last) = &self.last else { return Some(report(digest(generations), Content::Named)) };
        if last.generations == *generations {
            let same = last.failure.as_deref() == failure && now < last.at + BEAT;
            return (!same).then(|| report(last.digest.clone(), Content::Named));
        }
        let changes = changes(&last.generations, generations);
        Some(report(digest(generations), Content::Changed { since: last.digest.clone(), changes }))
    }

    /// The controller has answered `report`, which was about these generations.
    pub fn answered(
        &mut self,
        report: Report,
        generations: &Arc<Generations>,
        answer: ReportAnswer,
        now: Instant,
    ) {
        self.wants_whole = !answer.known;
        let Report { digest, failure, .. } = report;
        self.last =
            answer.known.then(|| Last { generations: Arc::clone(generations), digest, failure, at: now });
    }
}

impl Content {
    /// The generations that are meant, where `before` are those that the report before was about.
    pub fn resolve(&self, before: Option<(&str, &Generations)>) -> Option<Generations> {
        match self {
            Self::Named => None,
            Self::Whole { generations } => Some(generations.clone()),
            Self::Changed { since, changes } => {
                let (_, before) = before.filter(|(digest, _)| digest == since)?;
                let mut now = before.clone();
                for (object, generation) in changes {
                    match generation {
                        Some(generation) => now.insert(Arc::clone(object), *generation),
                        None => now.remove(object),
                    };
                }
                Some(now)
            }
        }
    }
}

fn changes(old: &Generations, new: &Generations) -> BTreeMap<Arc<str>, Option<i64>> {
    let gone =
        old.keys().filter(|object| !new.contains_key(*object)).map(|object| (Arc::clone(object), None));
    let other = new.iter().filter(|(object, generation)| old.get(*object) != Some(generation));
    gone.chain(other.map(|(object, generation)| (Arc::clone(object), Some(*generation)))).collect()
}

/// How often a controller is told the same: it takes an agent for gone that is silent for three times as long.
pub const BEAT: Duration = Duration::from_mins(1);

#[cfg(test)]
mod tests {
    use super::*;

    fn of(pairs: &[(&str, i64)]) -> Arc<Generations> {
        Arc::new(pairs.iter().map(|(name, generation)| ((*name).into(), *generation)).collect())
    }

    const KNOWN: ReportAnswer = ReportAnswer { known: true };

    #[test]
    fn a_controller_is_told_the_name_then_what_it_does_not_know_then_changes() {
        let (mut told, now) = (Told::default(), Instant::now());
        let first = of(&[("a", 1), ("b", 1)]);
        let report = told.due(&first, None, now).unwrap();
        assert_eq!(report.content, Content::Named);
        told.answered(report, &first, ReportAnswer { known: false }, now);
        let report = told.due(&first, None, now).unwrap();
        assert_eq!(report.content.resolve(None).as_ref(), Some(&*first));
        told.answered(report.clone(), &first, KNOWN, now);
        assert_eq!(told.due(&first, None, now), None);
        let second = of(&[("a", 2), ("c", 1)]);
        let changed = told.due(&second, None, now).unwrap();
        let resolved = changed.content.resolve(Some((&report.digest, &first)));
        assert_eq!(resolved.as_ref(), Some(&*second));
        assert_eq!(digest(&second), changed.digest);
        assert_eq!(changed.content.resolve(Some(("another", &first))), None);
    }

    #[test]
    fn the_same_is_told_once_a_minute_and_a_failure_at_once() {
        let (mut told, now) = (Told::default(), Instant::now());
        let generations = of(&[("a", 1)]);
        let report = told.due(&generations, None, now).unwrap();
        told.answered(report, &generations, KNOWN, now);
        assert_eq!(told.due(&generations, None, now + BEAT / 2), None);
        assert_eq!(told.due(&generations, None, now + BEAT).unwrap().content, Content::Named);
        let failing = told.due(&generations, Some("a map is full"), now).unwrap();
        assert_eq!(failing.failure.as_deref(), Some("a map is full"));
    }

    #[test]
    fn a_change_is_a_few_bytes_however_many_objects_there_are() {
        let many = |generation| {
            let objects = (0..1000).map(|i| (format!("TrafficPolicy shop/policy-{i}").into(), 1));
            let one = ("TrafficPolicy shop/policy-0".into(), generation);
            Arc::new(objects.chain([one]).collect::<Generations>())
        };
        let (mut told, now) = (Told::default(), Instant::now());
        let report = told.due(&many(1), None, now).unwrap();
        assert!(serde_json::to_vec(&report).unwrap().len() < 100);
        told.answered(report, &many(1), KNOWN, now);
        let changed = serde_json::to_vec(&told.due(&many(2), None, now).unwrap()).unwrap();
        assert!(changed.len() < 200, "{}", changed.len());
        assert!(serde_json::from_slice::<Report>(&changed).is_ok());
    }
}
