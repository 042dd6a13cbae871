//! A value for each request of a group. A column of nothing but usual values is not told.

use std::fmt;

use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{DeserializeSeed, Error, SeqAccess, Visitor},
    ser::SerializeSeq as _,
};

use super::is_default;

/// Numbers.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub(super) struct Column<T>(Vec<T>);

/// Texts, beside each other in one allocation.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Texts {
    all: String,
    /// Where each ends.
    ends: Vec<usize>,
}

impl<T: Copy + Default + PartialEq> Column<T> {
    pub(super) fn push(&mut self, value: T) {
        self.0.push(value);
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// The value at this place; the usual one where the column was not told.
    pub(super) fn at(&self, place: usize) -> T {
        self.0.get(place).copied().unwrap_or_default()
    }

    pub(super) fn is_plain(&self) -> bool {
        self.0.iter().all(is_default)
    }
}

impl Texts {
    pub(super) fn push(&mut self, text: &str) {
        self.all.push_str(text);
        self.ends.push(self.all.len());
    }

    pub(super) fn len(&self) -> usize {
        self.ends.len()
    }

    /// Each of them, and empty ones without end.
    pub(super) fn iter(&self) -> impl Iterator<Item = &str> {
        self.told().chain(std::iter::repeat(""))
    }

    pub(super) fn is_plain(&self) -> bool {
        self.all.is_empty()
    }

    fn told(&self) -> impl Iterator<Item = &str> {
        let mut begin = 0;
        self.ends.iter().map(move |end| &self.all[std::mem::replace(&mut begin, *end)..*end])
    }
}

impl Serialize for Texts {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut texts = serializer.serialize_seq(Some(self.len()))?;
        self.told().try_for_each(|text| texts.serialize_element(text))?;
        texts.end()
    }
}

impl<'de> Deserialize<'de> for Texts {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct All;

        impl<'de> Visitor<'de> for All {
            type Value = Texts;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("texts")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Texts, A::Error> {
                let mut texts = Texts::default();
                while seq.next_element_seed(OneMore(&mut texts))?.is_some() {}
                Ok(texts)
            }
        }

        deserializer.deserialize_seq(All)
    }
}

/// Reads a text to where the others are.
struct OneMore<'a>(&'a mut Texts);

impl<'de> DeserializeSeed<'de> for OneMore<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for OneMore<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a text")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<(), E> {
        self.0.push(text);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_read_back_as_they_were_written() {
        let mut texts = Texts::default();
        assert!(texts.is_plain());
        for text in ["/a", "", "/ö"] {
            texts.push(text);
        }
        let read: Texts = rmp_serde::from_slice(&rmp_serde::to_vec(&texts).unwrap()).unwrap();
        assert_eq!(read, texts);
        assert_eq!(read.told().collect::<Vec<_>>(), ["/a", "", "/ö"]);
        assert!(!read.is_plain());
    }

    #[test]
    fn a_column_that_was_not_told_has_usual_values() {
        let column = Column::<u64>::default();
        assert_eq!((column.len(), column.at(7)), (0, 0));
        assert_eq!(Texts::default().iter().nth(7), Some(""));
    }
}
