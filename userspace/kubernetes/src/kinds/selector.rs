//! Label selectors as objects write them.

use std::collections::BTreeMap;

use serde::Deserialize;
use weft_model::{Expression, Operator, Selector};

use crate::{document::entry_path, finding::Report, syntax};

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct LabelSelector {
    #[serde(default)]
    match_labels: BTreeMap<String, String>,
    #[serde(default)]
    match_expressions: Vec<Requirement>,
}

#[derive(Debug, Deserialize)]
struct Requirement {
    key: String,
    operator: Word,
    #[serde(default)]
    values: Vec<String>,
}

#[derive(Clone, Copy, Debug, Deserialize)]
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
