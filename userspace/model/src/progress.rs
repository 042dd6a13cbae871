//! How far the nodes of a mesh are with what objects say.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use crate::{Generations, incarnation};

/// What each node has in force, as far as it has told.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Progress {
    /// The nodes that an agent should run on.
    pub desired: BTreeSet<Arc<str>>,
    /// Those of them whose agents are heard.
    pub ready: BTreeSet<Arc<str>>,
    /// What is in force, and on which of these nodes. Most have the same, so there are few.
    pub in_force: Vec<(Arc<Generations>, BTreeSet<Arc<str>>)>,
    /// Why the newest configuration is not in force on a node, in the words of its agent.
    pub failing: BTreeMap<Arc<str>, Arc<str>>,
    /// Whoever counts has just begun, and nodes that have not told yet may have everything.
    pub awaited: bool,
}

/// How many nodes have one object in force.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Count {
    /// Nodes that should.
    pub desired: usize,
    /// Nodes that do.
    pub programmed: usize,
    /// The first node that does not though its agent tries, and why.
    pub late: Option<(Arc<str>, Arc<str>)>,
    /// As [`Progress::awaited`].
    pub awaited: bool,
}

impl Progress {
    /// The nodes that have `generation` of the `object` (`Kind namespace/name`) with this `uid` in force, or a later one.
    pub fn of(&self, object: &str, uid: &str, generation: i64) -> Count {
        let object_itself = incarnation(object, uid);
        // Agents of version 0.1 tell no UID.
        let has = |generations: &Generations| {
            let known = generations.get(&*object_itself).or_else(|| generations.get(object));
            known.is_some_and(|known| *known >= generation)
        };
        let (there, behind): (Vec<_>, Vec<_>) =
            self.in_force.iter().partition(|(generations, _)| has(generations));
        let behind = behind.into_iter().flat_map(|(_, nodes)| nodes);
        let late =
            behind.filter_map(|node| Some((Arc::clone(node), Arc::clone(self.failing.get(node)?)))).min();
        let programmed = there.into_iter().map(|(_, nodes)| nodes.len()).sum();
        Count { desired: self.desired.len(), programmed, late, awaited: self.awaited }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nodes(names: &[&str]) -> BTreeSet<Arc<str>> {
        names.iter().map(|name| (*name).into()).collect()
    }

    #[test]
    fn a_node_counts_from_the_generation_on_and_one_that_fails_is_named() {
        let object = "TrafficPolicy shop/web";
        let at =
            |generation: i64| Arc::new(Generations::from([(incarnation(object, "1").into(), generation)]));
        let progress = Progress {
            desired: nodes(&["a", "b", "c", "d"]),
            ready: nodes(&["a", "b", "c"]),
            in_force: vec![(at(3), nodes(&["a"])), (at(2), nodes(&["b", "c"]))],
            failing: [("c".into(), "a map is full".into())].into(),
            awaited: false,
        };
        let count = |generation| progress.of(object, "1", generation);
        assert_eq!((count(2).programmed, count(2).desired, count(2).late), (3, 4, None));
        assert_eq!(count(3).programmed, 1);
        assert_eq!(count(3).late, Some(("c".into(), "a map is full".into())));
        assert_eq!(progress.of("TrafficPolicy shop/other", "1", 1).programmed, 0);
    }

    #[test]
    fn an_object_that_was_made_anew_has_nothing_of_its_namesake() {
        let object = "TrafficPolicy shop/web";
        let of = |known: &str| Progress {
            desired: nodes(&["a"]),
            in_force: vec![(Arc::new(Generations::from([(known.into(), 5)])), nodes(&["a"]))],
            ..Progress::default()
        };
        assert_eq!(of(&incarnation(object, "old")).of(object, "new", 1).programmed, 0);
        assert_eq!(of(&incarnation(object, "new")).of(object, "new", 1).programmed, 1);
        assert_eq!(of(object).of(object, "new", 1).programmed, 1, "of an agent that tells no UID");
    }
}
