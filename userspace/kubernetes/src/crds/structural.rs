//! From JSON Schema as schemars writes it to the structural schema that an API server takes.
//!
//! - `Option` is no `nullable`: absent is the one way to say nothing, and an API server drops a null where the field is not
//!   nullable. schemars' `null` goes, from `type` and from `enum`.
//! - Empty defaults go: they come from `#[serde(default)]` and would be stored as if the user had set them.
//! - A description is plain text in paragraphs, not lines with the marks of rustdoc.

use serde_json::{Map, Value};

/// `schema` in the form of an API server.
pub(super) fn structural(schema: Value) -> Value {
    let Value::Object(mut schema) = schema else { return schema };
    for foreign in ["$schema", "title"] {
        schema.remove(foreign);
    }
    if let Some(Value::Array(types)) = schema.get_mut("type") {
        types.retain(|word| word != "null");
        if let [one] = &types[..] {
            let one = one.clone();
            schema.insert("type".into(), one);
        }
    }
    if let Some(Value::Array(words)) = schema.get_mut("enum") {
        words.retain(|word| !word.is_null());
    }
    // Where an object without anything stands for its members' defaults, it is said on purpose.
    let members = schema.contains_key("properties");
    if schema.get("default").is_some_and(|default| is_empty(default) && !(members && default.is_object())) {
        schema.remove("default");
    }
    if let Some(Value::String(text)) = schema.get_mut("description") {
        *text = paragraphs(text);
    }
    for below in ["items", "additionalProperties"] {
        if let Some(inner) = schema.remove(below) {
            schema.insert(below.into(), structural(inner));
        }
    }
    if let Some(Value::Object(properties)) = schema.remove("properties") {
        let properties: Map<_, _> =
            properties.into_iter().map(|(name, inner)| (name, structural(inner))).collect();
        schema.insert("properties".into(), properties.into());
    }
    Value::Object(schema)
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Array(items) => items.is_empty(),
        Value::Object(entries) => entries.is_empty(),
        _ => false,
    }
}

/// Lines joined, but for empty ones; without backticks.
fn paragraphs(text: &str) -> String {
    let joined = |paragraph: &str| paragraph.split_whitespace().collect::<Vec<_>>().join(" ");
    text.replace('`', "").split("\n\n").map(joined).collect::<Vec<_>>().join("\n\n")
}
