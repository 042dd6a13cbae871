//! JSON to tree: what an API server sends has no lines.

use std::borrow::Cow;

use serde_json::Value as Json;

use super::{
    Node, Value,
    node::{Key, NO_LINE},
};

impl<'a> Node<'a> {
    /// The tree of `json`.
    pub(crate) fn of_json(json: &'a Json) -> Self {
        let plain = |text: Cow<'a, str>| Value::Scalar { text, plain: true };
        let value = match json {
            Json::Null => plain("null".into()),
            Json::Bool(true) => plain("true".into()),
            Json::Bool(false) => plain("false".into()),
            Json::Number(number) => plain(number.to_string().into()),
            Json::String(text) => Value::Scalar { text: text.into(), plain: false },
            Json::Array(items) => Value::List(items.iter().map(Self::of_json).collect()),
            Json::Object(entries) => {
                Value::Map(entries.iter().map(|(key, value)| entry(key, value)).collect())
            }
        };
        Self { line: NO_LINE, value }
    }

    /// Whether it was read from a file: then somebody wrote it as it is, and has its lines before them.
    pub(crate) fn is_of_a_file(&self) -> bool {
        self.line != NO_LINE
    }
}

fn entry<'a>(key: &'a str, value: &'a Json) -> (Key<'a>, Node<'a>) {
    (Key { line: NO_LINE, text: key.into() }, Node::of_json(value))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::document::{load, read};

    #[test]
    fn json_means_the_same_as_the_yaml_that_it_is() {
        let json = json!({
            "text": "80", "word": "null", "number": 80, "minus": -1, "share": 0.5, "on": true, "off": false,
            "nothing": null, "list": [1, "two", {"three": []}], "odd": "a\n--- \u{0} \u{85} \"b\"",
        });
        let text = json.to_string();
        let (of_json, of_text) = (Node::of_json(&json), load(&text).unwrap().remove(0));
        let [read_json, read_text] =
            [of_json, of_text].map(|node| read::<serde_json::Value>(&node).unwrap().0);
        assert_eq!(read_json, json);
        assert_eq!(read_text, json);
    }
}
