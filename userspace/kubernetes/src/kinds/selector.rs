//! Label selectors as objects write them.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;
use weft_model::{Expression, Operator, Selector};

use super::schema;
use crate::{document::entry_path, finding::Report, syntax};

#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-map-type" = "atomic"))]
pub(super) struct LabelSelector {
    /// Labels that an object has, each with this value.
    #[serde(default)]
    #[schemars(with = "schema::Labels")]
    match_labels: BTreeMap<String, String>,
    /// What else is asked of its labels. All of it has to hold.
    #[serde(default)]
    #[schemars(length(max = 16), extend("x-kubernetes-list-type" = "atomic"))]
    match_expressions: Vec<Requirement>,
}

/// What is asked of one label.
#[derive(Debug, Deserialize, JsonSchema)]
#[schemars(extend("x-kubernetes-validations" = [schema::rule_at(
    ".values",
    "(self.operator in ['In', 'NotIn']) == (has(self.values) && self.values.size() > 0)",
    "In and NotIn need values, Exists and DoesNotExist take none: add values, or change the operator",
)]))]
struct Requirement {
    /// The label's key.
    #[schemars(with = "schema::LabelKey")]
    key: String,
    /// How the label is compared. `NotIn` and `DoesNotExist` hold where it is not there, too.
    operator: Word,
    /// What In and `NotIn` compare the label with.
    #[serde(default)]
    #[schemars(with = "Vec<schema::Label>", length(max = 32), extend("x-kubernetes-list-type" = "atomic"))]
    values: Vec<String>,
}

#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
enum Word {
    In,
    NotIn,
    Exists,
    DoesNotExist,
}

impl LabelSelector {
    /// The selector meant, with what is wrong reported below `field`.
    pub(super) fn check(&self, field: &str, report: &mut Report<'_>) -> Selector {
        for (key, value) in &self.match_labels {
            let field = entry_path(&format!("{field}.matchLabels"), key);
            check_key(key, &field, report);
            check_value(value, &field, report);
        }
        let expressions = self.match_expressions.iter().enumerate();
        let expressions = expressions
            .map(|(i, requirement)| requirement.check(&format!("{field}.matchExpressions[{i}]"), report))
            .collect();
        Selector { labels: self.match_labels.clone(), expressions }
    }
}

impl Requirement {
    fn check(&self, field: &str, report: &mut Report<'_>) -> Expression {
        check_key(&self.key, &format!("{field}.key"), report);
        for (i, value) in self.values.iter().enumerate() {
            check_value(value, &format!("{field}.values[{i}]"), report);
        }
        let listed = matches!(self.operator, Word::In | Word::NotIn);
        if listed == self.values.is_empty() {
            let word = self.operator;
            let (message, remedy) = if listed {
                (format!("operator {word:?} needs values"), "add values, or use Exists")
            } else {
                (format!("operator {word:?} takes no values"), "remove values, or use In")
            };
            report.error(&format!("{field}.values"), message, remedy);
        }
        let operator = match self.operator {
            Word::In => Operator::In(self.values.clone()),
            Word::NotIn => Operator::NotIn(self.values.clone()),
            Word::Exists => Operator::Exists,
            Word::DoesNotExist => Operator::DoesNotExist,
        };
        Expression { key: self.key.clone(), operator }
    }
}

fn check_key(key: &str, field: &str, report: &mut Report<'_>) {
    if let Err(why) = syntax::label_key(key) {
        report.error(field, format!("\"{key}\" {why}"), "correct the label's key");
    }
}

fn check_value(value: &str, field: &str, report: &mut Report<'_>) {
    if let Err(why) = syntax::label_value(value) {
        report.error(field, format!("\"{value}\" {why}"), "correct the label's value");
    }
}
