//! A parsed document that remembers its lines.

use std::borrow::Cow;

/// The line of what comes from no file.
pub(super) const NO_LINE: u32 = 0;

/// A value and the line it begins at, counted from the document's first line as 1.
#[derive(Clone, Debug)]
pub(crate) struct Node<'a> {
    pub(crate) line: u32,
    pub(crate) value: Value<'a>,
}

/// What a YAML node holds.
#[derive(Clone, Debug)]
pub(crate) enum Value<'a> {
    /// A scalar; `plain` is one without quotes, which may mean a number, a boolean or null.
    Scalar { text: Cow<'a, str>, plain: bool },
    /// A list.
    List(Vec<Node<'a>>),
    /// A mapping, in the document's order, without doubled keys.
    Map(Vec<(Key<'a>, Node<'a>)>),
}

/// The key of a mapping's entry.
#[derive(Clone, Debug)]
pub(crate) struct Key<'a> {
    pub(crate) line: u32,
    pub(crate) text: Cow<'a, str>,
}

/// What a scalar means (YAML 1.2 core schema).
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Scalar<'n> {
    Null,
    Bool(bool),
    Int(i64),
    Float(f64),
    Text(&'n str),
}

impl<'a> Node<'a> {
    /// The value of `key`, where this is a mapping that has it.
    pub(crate) fn get(&self, key: &str) -> Option<&Node<'a>> {
        self.entry(key).map(|(_, node)| node)
    }

    /// The text of the scalar at `key`.
    pub(crate) fn text(&self, key: &str) -> Option<&str> {
        match self.get(key)?.scalar()? {
            Scalar::Text(text) => Some(text),
            _ => None,
        }
    }

    /// What this scalar means; `None` for lists and mappings.
    pub(crate) fn scalar(&self) -> Option<Scalar<'_>> {
        match &self.value {
            Value::Scalar { text, plain: true } => Some(resolve(text)),
            Value::Scalar { text, plain: false } => Some(Scalar::Text(text)),
            _ => None,
        }
    }

    /// Whether this is null, which Kubernetes reads as "not there".
    pub(crate) fn is_null(&self) -> bool {
        self.scalar() == Some(Scalar::Null)
    }

    /// The line of `field` (`spec.rules[0].action`), or of the deepest part of its path that is there.
    pub(crate) fn line_of(&self, field: &str) -> u32 {
        let (mut node, mut line) = (self, self.line);
        for step in steps(field) {
            let next = match &node.value {
                Value::List(items) => {
                    step.parse().ok().and_then(|i: usize| items.get(i)).map(|n| (n.line, n))
                }
                Value::Map(_) => node.entry(step).map(|(key, node)| (key.line, node)),
                Value::Scalar { .. } => None,
            };
            let Some((at, child)) = next else { break };
            (line, node) = (at, child);
        }
        line
    }

    fn entry(&self, key: &str) -> Option<(&Key<'a>, &Node<'a>)> {
        let Value::Map(entries) = &self.value else { return None };
        entries.iter().find(|(k, _)| k.text == key).map(|(k, node)| (k, node))
    }
}

/// The steps of a path: `a.b[0]`, and `labels[weft.dev/mesh]` for keys that have a dot or a slash.
fn steps(field: &str) -> impl Iterator<Item = &str> {
    let mut rest = field;
    std::iter::from_fn(move || {
        rest = rest.strip_prefix('.').unwrap_or(rest);
        if let Some(bracket) = rest.strip_prefix('[') {
            let (step, after) = bracket.split_once(']')?;
            rest = after;
            return Some(step);
        }
        let end = rest.find(['.', '[']).unwrap_or(rest.len());
        let (step, after) = rest.split_at(end);
        rest = after;
        (!step.is_empty()).then_some(step)
    })
}

fn resolve(text: &str) -> Scalar<'_> {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Scalar::Null,
        "true" | "True" | "TRUE" => return Scalar::Bool(true),
        "false" | "False" | "FALSE" => return Scalar::Bool(false),
        _ => {}
    }
    // Most scalars are words: look no further than the first byte.
    if !text.as_bytes()[0].is_ascii_digit() && !text.starts_with(['-', '+', '.']) {
        return Scalar::Text(text);
    }
    if let Some(int) = integer(text) {
        return Scalar::Int(int);
    }
    let numeric = text.bytes().all(|b| b.is_ascii_digit() || b".eE+-".contains(&b))
        && text.bytes().any(|b| b.is_ascii_digit());
    match text.parse() {
        Ok(float) if numeric => Scalar::Float(float),
        _ => Scalar::Text(text),
    }
}

fn integer(text: &str) -> Option<i64> {
    if let Some(hex) = text.strip_prefix("0x") {
        return i64::from_str_radix(hex, 16).ok();
    }
    if let Some(octal) = text.strip_prefix("0o") {
        return i64::from_str_radix(octal, 8).ok();
    }
    text.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::{Scalar, resolve, steps};

    #[test]
    fn a_plain_scalar_means_what_the_core_schema_says() {
        let cases = [
            ("80", Scalar::Int(80)),
            ("-1", Scalar::Int(-1)),
            ("0x1f", Scalar::Int(31)),
            ("1.5", Scalar::Float(1.5)),
            ("10.0.0.1", Scalar::Text("10.0.0.1")),
            ("10s", Scalar::Text("10s")),
            ("2026-11-21", Scalar::Text("2026-11-21")),
            ("-", Scalar::Text("-")),
            ("yes", Scalar::Text("yes")),
            ("~", Scalar::Null),
        ];
        for (text, meaning) in cases {
            assert_eq!(resolve(text), meaning, "{text}");
        }
    }

    #[test]
    fn a_path_is_walked_step_by_step() {
        let path = "metadata.labels[weft.dev/mesh].x[3]";
        assert_eq!(steps(path).collect::<Vec<_>>(), ["metadata", "labels", "weft.dev/mesh", "x", "3"]);
        assert_eq!(steps("").count(), 0);
    }
}
