//! Which matches have to be looked at for a path: an exact map, a tree of prefixes by element, and the rest.
//!
//! Matches are numbers, what takes precedence is smaller: the smallest that holds is the answer, whatever list it is in.

use std::collections::HashMap;

use crate::route::path;

/// Where to look.
#[derive(Debug, Default)]
pub(super) struct Index {
    exact: HashMap<String, Vec<usize>>,
    anywhere: Vec<usize>,
    root: Node,
}

/// The matches on a prefix, and longer ones by their next element. As deep as the longest prefix of the set.
#[derive(Debug, Default)]
struct Node {
    here: Vec<usize>,
    below: HashMap<String, Node>,
}

/// Where a match stands.
#[derive(Debug)]
pub(super) enum Place {
    /// At this path alone.
    Exact(String),
    /// At this path and below, by elements.
    Below(String),
    /// It has to be looked at for every path.
    Anywhere,
}

impl Index {
    /// Numbers come in ascending order.
    pub(super) fn insert(&mut self, place: Place, number: usize) {
        let list = match place {
            Place::Exact(path) => self.exact.entry(path).or_default(),
            Place::Anywhere => &mut self.anywhere,
            Place::Below(path) => {
                let node = path::elements(&path)
                    .fold(&mut self.root, |node, element| node.below.entry(element.to_owned()).or_default());
                &mut node.here
            }
        };
        list.push(number);
    }

    /// The smallest number that stands where `path` is and `holds`.
    pub(super) fn find(&self, path: &str, holds: &impl Fn(usize) -> bool) -> Option<usize> {
        let exact = if self.exact.is_empty() { None } else { self.exact.get(path) };
        let mut best = exact.and_then(|list| smallest(list, None, holds));
        best = smallest(&self.anywhere, best, holds);
        self.root.find(&mut path::elements(path), best, holds)
    }
}

impl Node {
    fn find<'p>(
        &self,
        elements: &mut impl Iterator<Item = &'p str>,
        mut best: Option<usize>,
        holds: &impl Fn(usize) -> bool,
    ) -> Option<usize> {
        // Longer prefixes first: what holds there ends the search here at the first number.
        if !self.below.is_empty()
            && let Some(node) = elements.next().and_then(|element| self.below.get(element))
        {
            best = node.find(elements, best, holds);
        }
        smallest(&self.here, best, holds)
    }
}

/// The first of `list` that is below `best` and holds, else `best`.
fn smallest(list: &[usize], best: Option<usize>, holds: &impl Fn(usize) -> bool) -> Option<usize> {
    let better = list.iter().copied().take_while(|number| best.is_none_or(|best| *number < best));
    better.into_iter().find(|number| holds(*number)).or(best)
}
