//! Label selectors, with Kubernetes' meaning.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Selects objects by their labels. The empty selector selects everything.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Selector {
    /// Each label must be there with this value.
    pub labels: BTreeMap<String, String>,
    /// Each expression must hold.
    pub expressions: Vec<Expression>,
}

/// One requirement on one label key.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Expression {
    /// The label key.
    pub key: String,
    /// What is asked of it.
    pub operator: Operator,
}

/// What an [`Expression`] asks of the label's value.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Operator {
    /// The label is there with one of these values.
    In(Vec<String>),
    /// The label is absent, or has none of these values.
    NotIn(Vec<String>),
    /// The label is there.
    Exists,
    /// The label is absent.
    DoesNotExist,
}

impl Selector {
    /// Whether `labels` are selected.
    pub fn matches(&self, labels: &BTreeMap<String, String>) -> bool {
        self.labels.iter().all(|(key, value)| labels.get(key) == Some(value))
            && self.expressions.iter().all(|expression| expression.holds(labels))
    }

    /// Whether this selector names no requirement at all.
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty() && self.expressions.is_empty()
    }
}

impl Expression {
    fn holds(&self, labels: &BTreeMap<String, String>) -> bool {
        let value = labels.get(&self.key);
        match &self.operator {
            Operator::In(values) => value.is_some_and(|value| values.contains(value)),
            Operator::NotIn(values) => value.is_none_or(|value| !values.contains(value)),
            Operator::Exists => value.is_some(),
            Operator::DoesNotExist => value.is_none(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
    }

    #[test]
    fn every_requirement_must_hold() {
        let web = labels(&[("app", "web"), ("tier", "front")]);
        let selector = |operator| Selector {
            labels: labels(&[("app", "web")]),
            expressions: vec![Expression { key: "tier".into(), operator }],
        };
        assert!(Selector::default().matches(&web));
        assert!(selector(Operator::In(vec!["front".into()])).matches(&web));
        assert!(!selector(Operator::In(vec!["back".into()])).matches(&web));
        assert!(selector(Operator::NotIn(vec!["back".into()])).matches(&labels(&[("app", "web")])));
        assert!(!selector(Operator::NotIn(vec!["front".into()])).matches(&web));
        assert!(selector(Operator::Exists).matches(&web));
        assert!(!selector(Operator::DoesNotExist).matches(&web));
        assert!(!selector(Operator::Exists).matches(&labels(&[("tier", "front")])));
    }
}
