//! Tree to typed object: a serde deserializer that knows where it is.

use std::{cell::RefCell, fmt};

use serde::de::{
    self, DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor, value::CowStrDeserializer,
};

use super::{
    Fault, Node, Value, nearest,
    node::{Key, Scalar},
};

/// A field that its type does not have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Unknown {
    pub(crate) field: String,
    pub(crate) line: u32,
    /// What may have been meant.
    pub(crate) nearest: Option<&'static str>,
}

/// Reads a `T` from `node`, and which fields of the document `T` does not have.
pub(crate) fn read<'n, T: de::Deserialize<'n>>(node: &'n Node<'n>) -> Result<(T, Vec<Unknown>), Fault> {
    let unknown = RefCell::new(Vec::new());
    let root = Place { parent: None, step: Step::Root };
    let value = T::deserialize(Reader { node, place: &root, unknown: &unknown, lenient: false })
        .map_err(|fault| fault.placed(node.line, String::new))?;
    Ok((value, unknown.into_inner()))
}

#[derive(Clone, Copy)]
struct Reader<'n, 'p> {
    node: &'n Node<'n>,
    place: &'p Place<'p>,
    unknown: &'p RefCell<Vec<Unknown>>,
    /// A number may stand for a string: Kubernetes' quantities are written either way.
    lenient: bool,
}

/// A path on the stack; written out only when something is wrong.
struct Place<'p> {
    parent: Option<&'p Place<'p>>,
    step: Step<'p>,
}

enum Step<'p> {
    Root,
    Field(&'p str),
    Index(usize),
}

impl fmt::Display for Place<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(parent) = self.parent else { return Ok(()) };
        parent.fmt(f)?;
        match self.step {
            Step::Root => Ok(()),
            Step::Index(index) => write!(f, "[{index}]"),
            Step::Field(name) if name.contains(['.', '/']) => write!(f, "[{name}]"),
            Step::Field(name) if parent.parent.is_none() => f.write_str(name),
            Step::Field(name) => write!(f, ".{name}"),
        }
    }
}

impl<'n> Reader<'n, '_> {
    fn expected<T>(self, what: &str, remedy: impl Into<String>) -> Result<T, Fault> {
        let found = match (&self.node.value, self.node.scalar()) {
            (_, Some(Scalar::Null)) => "nothing".into(),
            (_, Some(Scalar::Bool(value))) => format!("the boolean {value}"),
            (_, Some(Scalar::Int(value))) => format!("the number {value}"),
            (_, Some(Scalar::Float(value))) => format!("the number {value}"),
            (_, Some(Scalar::Text(text))) => format!("\"{text}\""),
            (Value::List(_), None) => "a list".into(),
            _ => "a mapping".into(),
        };
        Err(Fault::new(format!("expected {what}, found {found}"), remedy))
    }

    fn note_unknown(self, entries: &[(Key<'n>, Node<'n>)], fields: &'static [&'static str]) {
        for (key, _) in entries.iter().filter(|(key, _)| !fields.contains(&&*key.text)) {
            let place = Place { parent: Some(self.place), step: Step::Field(&key.text) };
            self.unknown.borrow_mut().push(Unknown {
                field: place.to_string(),
                line: key.line,
                nearest: nearest(&key.text, fields.iter().copied()),
            });
        }
    }

    fn entries<V: Visitor<'n>>(self, skip_null: bool, visitor: V) -> Result<V::Value, Fault> {
        let Value::Map(entries) = &self.node.value else {
            return self.expected("a mapping", "indent its fields below it");
        };
        visitor.visit_map(Entries { reader: self, rest: entries.iter(), next: None, skip_null })
    }

    fn number(self) -> Result<i64, Fault> {
        match self.node.scalar() {
            Some(Scalar::Int(value)) => Ok(value),
            Some(Scalar::Text(text)) if text.parse::<i64>().is_ok() => {
                self.expected("a whole number", format!("write {text} without quotes"))
            }
            _ => self.expected("a whole number", "write a number without quotes"),
        }
    }
}

macro_rules! numbers {
    ($($method:ident $type:ident)*) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
            let number = self.number()?;
            if $type::try_from(number).is_err() {
                let range = format!("a whole number from {} to {}", $type::MIN, $type::MAX);
                return self.expected(&range, "write a number of that size");
            }
            visitor.visit_i64(number)
        }
    )*};
}

impl<'de> Deserializer<'de> for Reader<'de, '_> {
    type Error = Fault;

    numbers! {
        deserialize_i8 i8 deserialize_i16 i16 deserialize_i32 i32 deserialize_i64 i64
        deserialize_u8 u8 deserialize_u16 u16 deserialize_u32 u32 deserialize_u64 u64
    }

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        match (&self.node.value, self.node.scalar()) {
            (_, Some(Scalar::Null)) => visitor.visit_unit(),
            (_, Some(Scalar::Bool(value))) => visitor.visit_bool(value),
            (_, Some(Scalar::Int(value))) => visitor.visit_i64(value),
            (_, Some(Scalar::Float(value))) => visitor.visit_f64(value),
            (_, Some(Scalar::Text(text))) => visitor.visit_borrowed_str(text),
            (Value::List(_), None) => self.deserialize_seq(visitor),
            _ => self.entries(false, visitor),
        }
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        match self.node.scalar() {
            Some(Scalar::Bool(value)) => visitor.visit_bool(value),
            _ => self.expected("true or false", "write true or false, without quotes"),
        }
    }

    fn deserialize_f64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        match self.node.scalar() {
            Some(Scalar::Float(value)) => visitor.visit_f64(value),
            _ => visitor.visit_i64(self.number()?),
        }
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        match (self.node.scalar(), &self.node.value) {
            (Some(Scalar::Text(text)), _) => visitor.visit_borrowed_str(text),
            (Some(Scalar::Int(_) | Scalar::Float(_)), Value::Scalar { text, .. }) if self.lenient => {
                visitor.visit_borrowed_str(text)
            }
            (Some(Scalar::Null), _) => self.expected("a string", "write a value"),
            (Some(_), Value::Scalar { text, .. }) => {
                self.expected("a string", format!("put it in quotes: \"{text}\""))
            }
            _ => self.expected("a string", "write a single value here"),
        }
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        self.deserialize_str(visitor)
    }

    fn deserialize_identifier<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        self.deserialize_str(visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        if self.node.is_null() { visitor.visit_none() } else { visitor.visit_some(self) }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Fault> {
        visitor.visit_newtype_struct(Self { lenient: name == "Quantity", ..self })
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        let Value::List(items) = &self.node.value else {
            return self.expected("a list", "begin each item with \"- \", or write [item, item]");
        };
        visitor.visit_seq(Items { reader: self, rest: items.iter().enumerate() })
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        self.entries(false, visitor)
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        if let Value::Map(entries) = &self.node.value {
            self.note_unknown(entries, fields);
        }
        self.entries(true, visitor)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        match self.node.scalar() {
            Some(Scalar::Text(text)) if variants.contains(&text) => {
                visitor.visit_enum(CowStrDeserializer::<Fault>::new(text.into()))
            }
            Some(Scalar::Text(text)) => {
                let remedy = match nearest(text, variants.iter().copied()) {
                    Some(nearest) => format!("did you mean {nearest}?"),
                    None => format!("write one of {}", variants.join(", ")),
                };
                self.expected(&format!("one of {}", variants.join(", ")), remedy)
            }
            _ => self.expected(&format!("one of {}", variants.join(", ")), "write one of these words"),
        }
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        visitor.visit_unit()
    }

    serde::forward_to_deserialize_any! {
        i128 u128 f32 char bytes byte_buf unit unit_struct tuple tuple_struct
    }
}

struct Items<'n, 'p> {
    reader: Reader<'n, 'p>,
    rest: std::iter::Enumerate<std::slice::Iter<'n, Node<'n>>>,
}

impl<'n> SeqAccess<'n> for Items<'n, '_> {
    type Error = Fault;

    fn next_element_seed<T: DeserializeSeed<'n>>(&mut self, seed: T) -> Result<Option<T::Value>, Fault> {
        let Some((index, node)) = self.rest.next() else { return Ok(None) };
        let place = Place { parent: Some(self.reader.place), step: Step::Index(index) };
        let reader = Reader { node, place: &place, lenient: false, ..self.reader };
        seed.deserialize(reader).map(Some).map_err(|fault| fault.placed(node.line, || place.to_string()))
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.rest.len())
    }
}

struct Entries<'n, 'p> {
    reader: Reader<'n, 'p>,
    rest: std::slice::Iter<'n, (Key<'n>, Node<'n>)>,
    next: Option<&'n (Key<'n>, Node<'n>)>,
    /// In a struct, null counts as not there, as the API server has it.
    skip_null: bool,
}

impl<'n> MapAccess<'n> for Entries<'n, '_> {
    type Error = Fault;

    fn next_key_seed<K: DeserializeSeed<'n>>(&mut self, seed: K) -> Result<Option<K::Value>, Fault> {
        let skip_null = self.skip_null;
        self.next = self.rest.find(|(_, node)| !(skip_null && node.is_null()));
        let Some((key, _)) = self.next else { return Ok(None) };
        seed.deserialize(de::value::BorrowedStrDeserializer::new(&key.text)).map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'n>>(&mut self, seed: V) -> Result<V::Value, Fault> {
        let (key, node) = self.next.expect("serde asks for a value only after its key");
        let place = Place { parent: Some(self.reader.place), step: Step::Field(&key.text) };
        let reader = Reader { node, place: &place, lenient: false, ..self.reader };
        seed.deserialize(reader).map_err(|fault| fault.placed(key.line, || place.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde::Deserialize;

    use super::{super::load, Fault, Unknown, read};

    #[derive(Debug, Deserialize, PartialEq)]
    #[serde(rename_all = "camelCase")]
    struct Sample {
        action: Option<Action>,
        #[serde(default)]
        some_ports: Vec<u16>,
        #[serde(default)]
        labels: BTreeMap<String, String>,
    }

    #[derive(Debug, Deserialize, PartialEq)]
    enum Action {
        #[serde(rename = "ALLOW")]
        Allow,
        #[serde(rename = "DENY")]
        Deny,
    }

    fn parse(text: &str) -> Result<(Sample, Vec<Unknown>), Fault> {
        read(&load(text).unwrap()[0])
    }

    fn fault(text: &str) -> (String, u32, String, String) {
        let fault = parse(text).unwrap_err();
        (fault.field, fault.line, fault.message, fault.remedy)
    }

    #[test]
    fn a_good_document_is_read_and_null_counts_as_absent() {
        let (sample, unknown) = parse("action: DENY\nsomePorts: ~\nlabels: {a: b}\n").unwrap();
        assert_eq!(sample.action, Some(Action::Deny));
        assert_eq!(sample.labels["a"], "b");
        assert!(unknown.is_empty());
    }

    #[test]
    fn a_wrong_value_is_reported_with_its_path_line_and_remedy() {
        let (field, line, message, remedy) = fault("somePorts:\n- 1\n- x\n");
        assert_eq!((&*field, line, &*message), ("somePorts[1]", 3, "expected a whole number, found \"x\""));
        assert_eq!(remedy, "write a number without quotes");
        let (field, line, message, _) = fault("somePorts: [70000]\n");
        assert_eq!((&*field, line), ("somePorts[0]", 1));
        assert_eq!(message, "expected a whole number from 0 to 65535, found the number 70000");
        let (field, _, message, remedy) = fault("labels:\n  weft.dev/x: true\n");
        assert_eq!((&*field, &*message), ("labels[weft.dev/x]", "expected a string, found the boolean true"));
        assert_eq!(remedy, "put it in quotes: \"true\"");
    }

    #[test]
    fn a_misspelt_word_is_answered_with_the_right_one() {
        assert_eq!(fault("action: allow\n").3, "did you mean ALLOW?");
        let (_, unknown) = parse("\nactoin: ALLOW\n").unwrap();
        let expected = Unknown { field: "actoin".into(), line: 2, nearest: Some("action") };
        assert_eq!(unknown, [expected]);
    }
}
