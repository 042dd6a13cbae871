//! How far nodes are, as their agents report. What many nodes have in common is kept once.

mod follow;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::{Arc, Weak},
    time::{Duration, Instant},
};

use weft_model::{BEAT, Generations, Progress, Report, ReportAnswer, digest};

pub(crate) use self::follow::Reports;

/// What each node has told last.
#[derive(Debug, Default)]
pub(crate) struct Nodes {
    heard: BTreeMap<Arc<str>, Heard>,
    /// What any node has, by its digest.
    known: HashMap<String, Weak<Set>>,
    /// What this controller itself would have in force: most nodes will have it, too.
    own: Arc<Set>,
    /// Nodes that an agent should run on, and when that was seen last.
    desired: BTreeMap<Arc<str>, Instant>,
    /// When that was asked first.
    began: Option<Instant>,
}

/// Generations and what they are called.
#[derive(Debug, Default)]
struct Set {
    digest: String,
    generations: Arc<Generations>,
}

#[derive(Debug)]
struct Heard {
    has: Arc<Set>,
    failure: Option<Arc<str>>,
    at: Instant,
}

impl Nodes {
    /// This is what a node has that has taken over everything.
    pub(crate) fn own(&mut self, generations: &Arc<Generations>) {
        if !Arc::ptr_eq(&self.own.generations, generations) {
            self.own = self.kept(digest(generations), || Arc::clone(generations));
        }
    }

    /// Agents should run on these nodes.
    pub(crate) fn expect(&mut self, nodes: &BTreeSet<Arc<str>>, now: Instant) {
        self.began.get_or_insert(now);
        self.desired.retain(|node, seen| nodes.contains(node) || now < *seen + ABSENCE);
        for node in nodes {
            self.desired.insert(Arc::clone(node), now);
        }
        let Self { heard, desired, .. } = self;
        heard.retain(|node, heard| desired.contains_key(node) || now < heard.at + SILENCE);
        self.known.retain(|_, set| set.strong_count() > 0);
    }

    /// Takes over what `node` reports.
    pub(crate) fn take(&mut self, node: &Arc<str>, report: Report, now: Instant) -> ReportAnswer {
        let Report { digest: name, content, failure } = report;
        let failure = failure.map(|why| cut(&why, LONGEST).into());
        let before = self.heard.get(node).map(|heard| Arc::clone(&heard.has));
        let known = self.known.get(&name).and_then(Weak::upgrade).or_else(|| {
            let before = before.as_ref().map(|set| (&*set.digest, &*set.generations));
            let generations = content.resolve(before)?;
            // What it is called is looked at: nobody can make another node's report mean something else.
            (digest(&generations) == name).then(|| self.kept(name, || Arc::new(generations)))
        });
        let answer = ReportAnswer { known: known.is_some() };
        // Of a node whose words are not understood yet, what it had still is in force.
        if let Some(has) = known.or(before) {
            self.heard.insert(Arc::clone(node), Heard { has, failure, at: now });
        }
        answer
    }

    /// What that comes to.
    pub(crate) fn progress(&self, now: Instant) -> Progress {
        let mut progress =
            Progress { desired: self.desired.keys().cloned().collect(), ..Progress::default() };
        let mut sets: BTreeMap<&str, (Arc<Generations>, BTreeSet<Arc<str>>)> = BTreeMap::new();
        for (node, heard) in self.heard.iter().filter(|(node, _)| self.desired.contains_key(*node)) {
            let Set { digest, generations } = &*heard.has;
            let set = sets.entry(digest).or_insert_with(|| (Arc::clone(generations), BTreeSet::new()));
            set.1.insert(Arc::clone(node));
            if now < heard.at + SILENCE {
                progress.ready.insert(Arc::clone(node));
            }
            if let Some(failure) = &heard.failure {
                progress.failing.insert(Arc::clone(node), Arc::clone(failure));
            }
        }
        progress.in_force = sets.into_values().collect();
        let all_have_told = self.desired.keys().all(|node| self.heard.contains_key(node));
        let is_young = self.began.is_none_or(|began| now < began + PATIENCE);
        progress.awaited = is_young && (self.desired.is_empty() || !all_have_told);
        progress
    }

    fn kept(&mut self, digest: String, generations: impl FnOnce() -> Arc<Generations>) -> Arc<Set> {
        if let Some(set) = self.known.get(&digest).and_then(Weak::upgrade) {
            return set;
        }
        let set = Arc::new(Set { digest: digest.clone(), generations: generations() });
        self.known.insert(digest, Arc::downgrade(&set));
        set
    }
}

fn cut(text: &str, longest: usize) -> &str {
    let end = (0..=longest.min(text.len())).rev().find(|end| text.is_char_boundary(*end));
    &text[..end.unwrap_or_default()]
}

/// After so long a silence an agent does not count as ready. What it had in force counts on: the kernel goes on with it.
const SILENCE: Duration = BEAT.saturating_mul(3);
/// How long a node may have no agent's pod: one that is replaced is away for a moment.
const ABSENCE: Duration = Duration::from_secs(30);
/// How long a controller that has just begun waits for nodes that it has never heard: agents look for controllers each second.
const PATIENCE: Duration = Duration::from_secs(20);
/// Of a failure's words, in bytes.
const LONGEST: usize = 256;

#[cfg(test)]
mod tests {
    use weft_model::Told;

    use super::*;

    fn of(pairs: &[(&str, i64)]) -> Arc<Generations> {
        Arc::new(pairs.iter().map(|(name, generation)| ((*name).into(), *generation)).collect())
    }

    fn names(names: &[&str]) -> BTreeSet<Arc<str>> {
        names.iter().map(|name| (*name).into()).collect()
    }

    /// Has `node` report until it is understood; how often it had to say something.
    fn report(nodes: &mut Nodes, told: &mut Told, node: &str, has: &Arc<Generations>, now: Instant) -> u32 {
        let mut said = 0;
        while let Some(report) = told.due(has, None, now) {
            let answer = nodes.take(&node.into(), report.clone(), now);
            told.answered(report, has, answer, now);
            said += 1;
            assert!(said < 4, "it is never understood");
        }
        said
    }

    #[test]
    fn a_node_that_has_what_the_controller_knows_says_one_word() {
        let (mut nodes, now) = (Nodes::default(), Instant::now());
        let all = of(&[("TrafficPolicy shop/a", 2)]);
        nodes.expect(&names(&["n1", "n2"]), now);
        nodes.own(&all);
        assert_eq!(report(&mut nodes, &mut Told::default(), "n1", &all, now), 1);
        let progress = nodes.progress(now);
        assert_eq!(progress.of("TrafficPolicy shop/a", "", 2).programmed, 1);
        assert_eq!((progress.desired.len(), progress.ready), (2, names(&["n1"])));
    }

    #[test]
    fn what_is_not_known_is_told_whole_once_and_then_in_changes() {
        let (mut nodes, now) = (Nodes::default(), Instant::now());
        nodes.expect(&names(&["n1", "n2"]), now);
        let (first, second) = (of(&[("a", 1), ("b", 1)]), of(&[("a", 2)]));
        let (mut n1, mut n2) = (Told::default(), Told::default());
        assert_eq!(report(&mut nodes, &mut n1, "n1", &first, now), 2, "its name, then all of it");
        assert_eq!(report(&mut nodes, &mut n2, "n2", &first, now), 1, "another has it");
        assert_eq!(report(&mut nodes, &mut n1, "n1", &second, now), 1, "what is different");
        let progress = nodes.progress(now);
        assert_eq!((progress.of("a", "", 2).programmed, progress.of("a", "", 1).programmed), (1, 2));
        assert_eq!(progress.of("b", "", 1).programmed, 1, "it is gone from n1");
        assert_eq!(nodes.known.len(), 2, "each set is there once");
        report(&mut nodes, &mut n2, "n2", &second, now);
        nodes.expect(&names(&["n1", "n2"]), now);
        assert_eq!(nodes.known.len(), 1, "what nobody has any more goes");
    }

    #[test]
    fn a_controller_that_has_just_begun_waits_for_each_node_but_not_for_ever() {
        let (mut nodes, now) = (Nodes::default(), Instant::now());
        assert!(nodes.progress(now).awaited, "it has not even looked for them");
        nodes.expect(&names(&["n1", "n2"]), now);
        report(&mut nodes, &mut Told::default(), "n1", &of(&[("a", 1)]), now);
        assert!(nodes.progress(now).awaited);
        assert!(!nodes.progress(now + PATIENCE).awaited);
        report(&mut nodes, &mut Told::default(), "n2", &of(&[("a", 1)]), now);
        assert!(!nodes.progress(now).awaited);
    }

    #[test]
    fn nobody_gives_another_meaning_to_a_digest() {
        let (mut nodes, now) = (Nodes::default(), Instant::now());
        let generations = (*of(&[("a", 9)])).clone();
        let digest = digest(&of(&[("a", 1)]));
        let forged = Report { digest, content: weft_model::Content::Whole { generations }, failure: None };
        assert!(!nodes.take(&"n1".into(), forged, now).known);
        assert!(nodes.known.is_empty());
    }

    #[test]
    fn a_silent_agent_is_not_ready_and_what_it_has_counts_until_its_node_goes() {
        let (mut nodes, now) = (Nodes::default(), Instant::now());
        let all = of(&[("a", 1)]);
        nodes.expect(&names(&["n1"]), now);
        report(&mut nodes, &mut Told::default(), "n1", &all, now);
        let later = now + SILENCE;
        nodes.expect(&names(&["n1"]), later);
        assert!(nodes.progress(later).ready.is_empty());
        assert_eq!(nodes.progress(later).of("a", "", 1).programmed, 1);
        nodes.expect(&names(&[]), later + ABSENCE / 2);
        assert_eq!(nodes.progress(later).desired.len(), 1, "its agent is being replaced");
        nodes.expect(&names(&[]), later + ABSENCE);
        let progress = nodes.progress(later + ABSENCE);
        assert_eq!((progress.desired.len(), progress.of("a", "", 1).programmed), (0, 0));
        assert!(nodes.heard.is_empty());
    }

    #[test]
    fn why_a_node_is_late_is_told_in_its_words() {
        let (mut nodes, now) = (Nodes::default(), Instant::now());
        nodes.expect(&names(&["n1"]), now);
        let content = weft_model::Content::Whole { generations: Generations::new() };
        let failure = Some("map weft_policy is full ".repeat(100));
        nodes.take(&"n1".into(), Report { digest: digest(&Generations::new()), content, failure }, now);
        let (node, why) = nodes.progress(now).of("a", "", 1).late.unwrap();
        assert_eq!((&*node, why.len()), ("n1", LONGEST));
    }
}
