//! What is said about an object when the objects around it are known.

use weft_model::{ObjectName, Severity};

use crate::{
    finding::Finding,
    object::{Key, Kind},
};

/// Something about an object that only the others around it show.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Notice {
    pub(crate) key: Key,
    pub(crate) finding: Finding,
    pub(crate) meaning: Meaning,
}

/// What that does to the object, or to the one of its targets that the field names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Meaning {
    /// It holds, in part or otherwise than its owner may expect.
    Partly,
    /// What it is for is not there.
    TargetNotFound,
    /// Another one holds in its place.
    Conflicted,
}

impl Notice {
    /// How the message of a conflict begins.
    pub(crate) const CONFLICTED: &str = "Conflicted: ";

    /// The object is used, and not as its owner may expect.
    pub(super) fn warning(
        key: impl Into<Key>,
        field: &str,
        message: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        let finding = Finding {
            severity: Severity::Warning,
            field: field.to_owned(),
            line: 0,
            message: message.into(),
            remedy: remedy.into(),
        };
        Self { key: key.into(), finding, meaning: Meaning::Partly }
    }

    /// What the object is for is not there.
    pub(super) fn missing(
        key: impl Into<Key>,
        field: &str,
        message: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        Self { meaning: Meaning::TargetNotFound, ..Self::warning(key, field, message, remedy) }
    }

    /// Another object of its kind holds for `target` already.
    pub(super) fn conflicted(
        loser: impl Into<Key>,
        field: &str,
        target: impl std::fmt::Display,
        winner: impl std::fmt::Display,
    ) -> Self {
        let message = format!("{}{winner} holds for {target} already", Self::CONFLICTED);
        let remedy = "the oldest wins, then the first by name: merge the two, or remove one";
        Self { meaning: Meaning::Conflicted, ..Self::warning(loser, field, message, remedy) }
    }
}

/// A MeshConfig of another mesh, as it seems.
pub(super) fn another_trust_domain(written: &str, installed: &str) -> Notice {
    let message = format!(
        "the mesh was installed with trust domain {installed}, and keeps it: {written} is a stranger's to all its \
         certificates; the other settings hold"
    );
    let remedy = "delete the MeshConfig and make it without trustDomain, or see trustDomainAliases; another trust domain \
                  is another installation: weft install --trust-domain";
    Notice::warning(mesh_config(), "spec.trustDomain", message, remedy)
}

/// The mesh's settings, as messages have them.
pub(super) fn mesh_config() -> Key {
    Key { kind: Kind::MeshConfig, name: ObjectName::new("", "default") }
}

/// The Service `name`, as messages have it.
pub(super) fn service(name: &ObjectName) -> Key {
    Key { kind: Kind::Service, name: name.clone() }
}
