//! Names and texts that come again: most requests of a batch have the same client, Service, route and host.
//!
//! Each thread keeps those that it has read last, in a table of [`SLOTS`]. One that is in it again costs a comparison
//! and a count of references; without this, reading a record made two dozen allocations.

use std::{cell::RefCell, fmt, marker::PhantomData, sync::Arc, thread::LocalKey};

use serde::{
    Deserializer,
    de::{Error, Visitor, value::StrDeserializer},
};
use weft_model::{ObjectName, RouteName};

/// What is written as a text, and cheap to clone.
pub(super) trait Shared: Clone + 'static {
    /// Where this thread keeps those that it has read last.
    fn table() -> &'static LocalKey<Table<Self>>;
    /// Reads one that is not in the table.
    fn read<E: Error>(text: &str) -> Result<Self, E>;
}

/// Values by the texts that they were read from. One that comes takes the place of the one in its slot.
pub(super) struct Table<T>(RefCell<[Slot<T>; SLOTS]>);

type Slot<T> = Option<(Arc<str>, T)>;

/// Reads a value by way of its table.
pub(super) fn deserialize<'de, T: Shared, D: Deserializer<'de>>(deserializer: D) -> Result<T, D::Error> {
    deserializer.deserialize_str(Read(PhantomData))
}

/// A text by way of its table.
pub(super) fn text(text: &str) -> Arc<str> {
    let read = Arc::table().with(|table| table.read::<serde::de::value::Error>(text));
    read.expect("any text is one")
}

struct Read<T>(PhantomData<T>);

impl<T: Shared> Visitor<'_> for Read<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a text")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<T, E> {
        T::table().with(|table| table.read(text))
    }
}

impl<T: Shared> Table<T> {
    const fn new() -> Self {
        Self(RefCell::new([const { None }; SLOTS]))
    }

    fn read<E: Error>(&self, text: &str) -> Result<T, E> {
        let slot = &mut self.0.borrow_mut()[slot(text)];
        if let Some((known, value)) = slot
            && **known == *text
        {
            return Ok(value.clone());
        }
        let value = T::read(text)?;
        *slot = Some((text.into(), value.clone()));
        Ok(value)
    }
}

/// By the ends of a text, where those that are alike differ, and its length.
fn slot(text: &str) -> usize {
    let bytes = text.as_bytes();
    let number = |part: &[u8]| part.iter().fold(0_u64, |number, byte| number << 8 | u64::from(*byte));
    let (first, last) = (&bytes[..bytes.len().min(8)], &bytes[bytes.len().saturating_sub(8)..]);
    let mixed = number(first) ^ number(last).rotate_left(31) ^ bytes.len() as u64;
    let high = mixed.wrapping_mul(GOLDEN_RATIO).to_be_bytes()[0];
    usize::from(high) % SLOTS
}

macro_rules! shared {
    ($($type:ty => $read:expr;)*) => {$(
        impl Shared for $type {
            fn table() -> &'static LocalKey<Table<Self>> {
                thread_local! {
                    static TABLE: Table<$type> = const { Table::new() };
                }
                &TABLE
            }

            fn read<E: Error>(text: &str) -> Result<Self, E> {
                $read(text)
            }
        }
    )*};
}

shared! {
    Arc<str> => |text: &str| Ok(text.into());
    ObjectName => by_serde;
    RouteName => by_serde;
}

fn by_serde<'de, T: serde::Deserialize<'de>, E: Error>(text: &'de str) -> Result<T, E> {
    T::deserialize(StrDeserializer::new(text))
}

/// A node's proxy serves a few dozen Services and routes; 64 texts of at most 512 bytes are 32 KiB for each thread that
/// reads batches.
const SLOTS: usize = 64;
/// 2^64 divided by it: neighbours land far from each other.
const GOLDEN_RATIO: u64 = 0x9e37_79b9_7f4a_7c15;

#[cfg(test)]
mod tests {
    use serde::de::value::Error;

    use super::*;

    fn read<T: Shared>(text: &str) -> Result<T, Error> {
        deserialize(StrDeserializer::<Error>::new(text))
    }

    #[test]
    fn a_text_that_comes_again_is_the_same_allocation() {
        let (one, again): (Arc<str>, Arc<str>) = (read("/v1/items").unwrap(), read("/v1/items").unwrap());
        assert!(Arc::ptr_eq(&one, &again));
        let (one, again): (ObjectName, ObjectName) = (read("shop/web").unwrap(), read("shop/web").unwrap());
        assert!(Arc::ptr_eq(&one.name, &again.name));
    }

    #[test]
    fn texts_of_one_slot_are_told_apart() {
        let mut of_slot: [Vec<String>; SLOTS] = std::array::from_fn(|_| Vec::new());
        for number in 0..1000 {
            let text = format!("/items/{number}");
            of_slot[slot(&text)].push(text);
        }
        assert!(of_slot.iter().all(|texts| texts.len() < 1000 / 8), "all in a few slots");
        for texts in of_slot {
            for text in texts.iter().chain(&texts) {
                assert_eq!(&*read::<Arc<str>>(text).unwrap(), text);
            }
        }
    }

    #[test]
    fn what_is_no_name_is_an_error_each_time() {
        for _ in 0..2 {
            assert!(read::<RouteName>("HTTPRoute").is_err());
            assert!(read::<ObjectName>("").is_err());
        }
    }
}
