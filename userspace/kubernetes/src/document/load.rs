//! Text to tree.

use std::collections::HashMap;

use saphyr_parser::{Event, Parser, ScalarStyle, ScanError, StrInput};

use super::{Fault, Node, Value, node::Key};

/// Deeper nesting than any Kubernetes object has, and safe for the stack.
const MAX_DEPTH: u32 = 100;
/// Bounds what aliases may expand to ("billion laughs").
const MAX_ALIASED_NODES: usize = 100_000;

/// Parses one document's text. Empty documents are left out; usually one remains.
pub(crate) fn load(text: &str) -> Result<Vec<Node<'_>>, Fault> {
    let mut loader = Loader { text, parser: Parser::new_from_str(text), anchors: HashMap::new(), aliased: 0 };
    let mut roots = Vec::new();
    loop {
        match loader.next()? {
            (Event::StreamEnd, _) => return Ok(roots),
            (Event::StreamStart | Event::DocumentStart(_) | Event::DocumentEnd | Event::Nothing, _) => {}
            (event, line) => {
                let root = loader.node(event, line, 0)?;
                if !root.is_null() {
                    roots.push(root);
                }
            }
        }
    }
}

struct Loader<'a> {
    text: &'a str,
    parser: Parser<'a, StrInput<'a>>,
    anchors: HashMap<usize, Node<'a>>,
    aliased: usize,
}

impl<'a> Loader<'a> {
    fn next(&mut self) -> Result<(Event<'a>, u32), Fault> {
        match self.parser.next_event() {
            Some(Ok((event, span))) => Ok((event, line(span.start.line()))),
            Some(Err(error)) => Err(self.syntax(&error)),
            None => Ok((Event::StreamEnd, 0)),
        }
    }

    fn node(&mut self, event: Event<'a>, line: u32, depth: u32) -> Result<Node<'a>, Fault> {
        if depth > MAX_DEPTH {
            return Err(fault(
                line,
                "nested too deeply",
                "no Kubernetes object is this deep: check the brackets",
            ));
        }
        let (anchor, value) = match event {
            Event::Scalar(text, style, anchor, tag) => {
                let plain = style == ScalarStyle::Plain && tag.is_none_or(|tag| tag.suffix != "str");
                (anchor, Value::Scalar { text, plain })
            }
            Event::SequenceStart(anchor, _) => (anchor, self.list(depth)?),
            Event::MappingStart(anchor, _) => (anchor, self.map(depth)?),
            Event::Alias(anchor) => return self.alias(anchor, line),
            _ => return Err(fault(line, "a value is missing", "complete the document")),
        };
        let node = Node { line, value };
        if anchor != 0 {
            self.anchors.insert(anchor, node.clone());
        }
        Ok(node)
    }

    fn list(&mut self, depth: u32) -> Result<Value<'a>, Fault> {
        let mut items = Vec::new();
        loop {
            match self.next()? {
                (Event::SequenceEnd, _) => return Ok(Value::List(items)),
                (event, line) => items.push(self.node(event, line, depth + 1)?),
            }
        }
    }

    fn map(&mut self, depth: u32) -> Result<Value<'a>, Fault> {
        let mut entries: Vec<(Key<'a>, Node<'a>)> = Vec::new();
        let mut merged = Vec::new();
        loop {
            let key = match self.next()? {
                (Event::MappingEnd, _) => break,
                (Event::Scalar(text, ..), line) => Key { line, text },
                (_, line) => {
                    return Err(fault(line, "the key is not a word", "keys of a mapping are strings"));
                }
            };
            let (event, line) = self.next()?;
            let node = self.node(event, line, depth + 1)?;
            if key.text == "<<" {
                merged.push(node);
            } else if entries.iter().any(|(other, _)| other.text == key.text) {
                let message = format!("the key {} is there twice", key.text);
                return Err(fault(key.line, message, "remove one of the two"));
            } else {
                entries.push((key, node));
            }
        }
        for node in merged {
            merge(&mut entries, node);
        }
        Ok(Value::Map(entries))
    }

    fn alias(&mut self, anchor: usize, line: u32) -> Result<Node<'a>, Fault> {
        let Some(node) = self.anchors.get(&anchor) else {
            return Err(fault(line, "the alias names no anchor before it", "define the anchor first"));
        };
        self.aliased += size(node);
        if self.aliased > MAX_ALIASED_NODES {
            return Err(fault(line, "aliases expand to too much", "write the values out, or split the file"));
        }
        Ok(node.clone())
    }

    fn syntax(&self, error: &ScanError) -> Fault {
        let at = error.marker().line();
        let indented_by_tab = |line: &str| {
            line.trim_start_matches(' ').starts_with('\t')
                && !line.trim_ascii().starts_with(['{', '}', '[', ']', '"'])
        };
        let near = self.text.lines().enumerate().skip(at.saturating_sub(2)).take(2);
        if let Some((i, _)) = near.into_iter().find(|(_, text)| indented_by_tab(text)) {
            return fault(
                line(i + 1),
                "a tab is used to indent",
                "YAML indents with spaces only: replace the tab",
            );
        }
        let message = format!("not valid YAML: {}", error.info());
        fault(line(at), message, "correct the syntax; what the file held before stays in force")
    }
}

/// `<<: *anchor`: its entries count where the mapping has none of that name.
fn merge<'a>(entries: &mut Vec<(Key<'a>, Node<'a>)>, node: Node<'a>) {
    match node.value {
        Value::Map(more) => {
            for (key, node) in more {
                if !entries.iter().any(|(other, _)| other.text == key.text) {
                    entries.push((key, node));
                }
            }
        }
        Value::List(nodes) => nodes.into_iter().for_each(|node| merge(entries, node)),
        Value::Scalar { .. } => {}
    }
}

fn size(node: &Node<'_>) -> usize {
    match &node.value {
        Value::Scalar { .. } => 1,
        Value::List(items) => 1 + items.iter().map(size).sum::<usize>(),
        Value::Map(entries) => 1 + entries.iter().map(|(_, node)| size(node)).sum::<usize>(),
    }
}

fn fault(line: u32, message: impl Into<String>, remedy: &str) -> Fault {
    Fault { line, ..Fault::new(message, remedy) }
}

fn line(line: usize) -> u32 {
    u32::try_from(line).unwrap_or(u32::MAX).max(1)
}

#[cfg(test)]
mod tests {
    use super::load;

    fn fault(text: &str) -> (u32, String) {
        let fault = load(text).unwrap_err();
        (fault.line, fault.message)
    }

    #[test]
    fn a_field_is_found_on_its_line() {
        let roots = load("---\na:\n  b:\n  - c: 1\n  - c: 2\n").unwrap();
        assert_eq!(roots[0].line_of("a.b[1].c"), 5);
        assert_eq!(roots[0].line_of("a.b[1].missing"), 5);
        assert_eq!(roots[0].line_of("a.x.y"), 2);
    }

    #[test]
    fn a_doubled_key_is_refused_where_it_stands() {
        assert_eq!(fault("a: 1\nb: 2\na: 3\n"), (3, "the key a is there twice".into()));
    }

    #[test]
    fn a_tab_is_named_as_such() {
        assert_eq!(fault("a:\n\tb: 1\n"), (2, "a tab is used to indent".into()));
    }

    #[test]
    fn aliases_and_merge_keys_mean_what_they_name() {
        let roots = load("x: &x {a: 1, b: 2}\ny: {<<: *x, b: 3}\nz: *x\n").unwrap();
        assert!(roots[0].get("z").unwrap().get("b").is_some());
        let y = roots[0].get("y").unwrap();
        assert_eq!(y.get("a").unwrap().scalar(), Some(crate::document::node::Scalar::Int(1)));
        assert_eq!(y.get("b").unwrap().scalar(), Some(crate::document::node::Scalar::Int(3)));
    }

    #[test]
    fn aliases_that_explode_are_refused() {
        let level =
            |i: usize| format!("a{}: &a{} [{}]\n", i + 1, i + 1, vec![format!("*a{i}"); 10].join(", "));
        let levels: Vec<_> = (0..8).map(level).collect();
        let text = format!("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n{}", levels.concat());
        assert_eq!(fault(&text).1, "aliases expand to too much");
    }

    #[test]
    fn json_with_tabs_is_read_too() {
        let roots = load("{\n\t\"a\": {\n\t\t\"b\": [1, 2]\n\t}\n}\n").unwrap();
        assert_eq!(roots[0].line_of("a.b"), 3);
    }
}
