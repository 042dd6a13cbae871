//! The name of a namespaced object.

use std::{fmt, sync::Arc};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _, ser::Error as _};

/// `namespace/name` of a Kubernetes object. Cheap to clone.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectName {
    /// The namespace; empty for objects of cluster scope.
    pub namespace: Arc<str>,
    /// The name.
    pub name: Arc<str>,
}

impl ObjectName {
    /// A name from its two parts, which the caller has taken from a valid object.
    pub fn new(namespace: impl Into<Arc<str>>, name: impl Into<Arc<str>>) -> Self {
        Self { namespace: namespace.into(), name: name.into() }
    }

    /// Parses `namespace/name`; `None` unless there is exactly one `/` with text on both sides.
    pub fn parse(text: &str) -> Option<Self> {
        let (namespace, name) = text.split_once('/')?;
        let valid = !namespace.is_empty() && !name.is_empty() && !name.contains('/');
        valid.then(|| Self::new(namespace, name))
    }
}

impl fmt::Display for ObjectName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.namespace.is_empty() {
            f.write_str(&self.name)
        } else {
            write!(f, "{}/{}", self.namespace, self.name)
        }
    }
}

impl fmt::Debug for ObjectName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for ObjectName {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.namespace.is_empty() {
            return serializer.serialize_str(&self.name);
        }
        as_one(&[&self.namespace, "/", &self.name], serializer)
    }
}

/// Writes a text without an allocation: a busy proxy tells of a hundred thousand names a second.
pub(crate) fn as_one<S: Serializer>(parts: &[&str], serializer: S) -> Result<S::Ok, S::Error> {
    let mut text = [0; LONGEST];
    let mut end = 0;
    for part in parts {
        let Some(room) = text.get_mut(end..end + part.len()) else {
            return serializer.serialize_str(&parts.concat());
        };
        room.copy_from_slice(part.as_bytes());
        end += part.len();
    }
    serializer.serialize_str(str::from_utf8(&text[..end]).map_err(S::Error::custom)?)
}

/// A kind, a namespace and a name, each as long as Kubernetes lets it be, and what stands between them.
const LONGEST: usize = 384;

impl<'de> Deserialize<'de> for ObjectName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
        match text.split_once('/') {
            Some((namespace, name)) => Ok(Self::new(namespace, name)),
            None if text.is_empty() => Err(D::Error::custom("an object's name is empty")),
            None => Ok(Self::new("", &*text)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::ObjectName;

    #[test]
    fn a_name_reads_back_as_it_is_written() {
        let name = ObjectName::parse("shop/web").unwrap();
        assert_eq!(name.to_string(), "shop/web");
        for bad in ["web", "/web", "shop/", "a/b/c"] {
            assert!(ObjectName::parse(bad).is_none(), "{bad}");
        }
    }
}
