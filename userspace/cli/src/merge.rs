//! One list of what several nodes answer.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

use serde::Serialize;

/// Rows of several nodes. What they say alike is there once.
#[derive(Debug)]
pub(crate) struct Merged<T> {
    pub(crate) rows: Vec<Row<T>>,
    /// How many nodes answered.
    nodes: usize,
}

/// A row, and the nodes that say so.
#[derive(Debug, Serialize)]
pub(crate) struct Row<T> {
    pub(crate) nodes: BTreeSet<Arc<str>>,
    #[serde(flatten)]
    pub(crate) item: T,
}

impl<T: Serialize> Merged<T> {
    /// In the order of `key`, and of the nodes where that is the same.
    pub(crate) fn of<K: Ord>(answers: Vec<(Arc<str>, Vec<T>)>, key: impl Fn(&T) -> K) -> Self {
        let nodes = answers.len();
        let (mut rows, mut places) = (Vec::<Row<T>>::new(), HashMap::new());
        for (node, items) in answers {
            for item in items {
                let text = serde_json::to_string(&item).expect("answers have string keys only");
                let place = *places.entry(text).or_insert(rows.len());
                if place == rows.len() {
                    rows.push(Row { nodes: BTreeSet::new(), item });
                }
                rows[place].nodes.insert(Arc::clone(&node));
            }
        }
        rows.sort_by_cached_key(|row| key(&row.item));
        Self { rows, nodes }
    }

    /// Which nodes say each row, `all` or by name; `None` where all of them say all.
    pub(crate) fn tellers(&self) -> Option<Vec<String>> {
        let by_all = |row: &Row<T>| row.nodes.len() == self.nodes;
        if self.rows.iter().all(by_all) {
            return None;
        }
        let teller = |row: &Row<T>| {
            if by_all(row) {
                "all".to_owned()
            } else {
                row.nodes.iter().cloned().collect::<Vec<_>>().join(",")
            }
        };
        Some(self.rows.iter().map(teller).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn merged(answers: &[(&str, &[u8])]) -> Merged<Vec<u8>> {
        let answers = answers
            .iter()
            .map(|(node, items)| (Arc::from(*node), items.iter().map(|&item| vec![item]).collect()));
        Merged::of(answers.collect(), Clone::clone)
    }

    #[test]
    fn what_all_say_is_there_once_and_names_nobody() {
        let all = merged(&[("a", &[1, 2]), ("b", &[2, 1])]);
        assert_eq!(all.rows.iter().map(|row| row.item[0]).collect::<Vec<_>>(), [1, 2]);
        assert_eq!(all.tellers(), None);
        assert_eq!(merged(&[("a", &[]), ("b", &[])]).tellers(), None);
    }

    #[test]
    fn what_some_say_names_them() {
        let some = merged(&[("a", &[1, 3]), ("b", &[2, 3]), ("c", &[1, 3])]);
        assert_eq!(some.rows.iter().map(|row| row.item[0]).collect::<Vec<_>>(), [1, 2, 3]);
        assert_eq!(some.tellers().unwrap(), ["a,c", "b", "all"]);
    }
}
