//! What is to be said of objects, before anybody knows how far nodes are.

use std::{collections::BTreeMap, sync::Arc};

use serde_json::Value;
use weft_model::Snapshot;

use super::said::Opinion;
use crate::object::{Key, Kind};

/// What is to be said of each object that has a status.
#[derive(Debug, Default)]
pub struct Judgement {
    snapshot: Arc<Snapshot>,
    pub(crate) of: BTreeMap<Key, Arc<Judged>>,
}

/// What is to be said of one object.
#[derive(Debug, PartialEq)]
pub(crate) struct Judged {
    /// The object that was judged.
    pub(crate) revision: Arc<Revision>,
    pub(crate) verdict: Verdict,
}

/// An object as the API server had it, as far as its status goes.
#[derive(Debug, PartialEq)]
pub(crate) struct Revision {
    pub(crate) api_version: String,
    pub(crate) uid: String,
    pub(crate) generation: i64,
    pub(crate) resource_version: String,
    /// What it names as parents or targets, as it is written.
    pub(crate) references: Vec<Value>,
    pub(crate) status: Value,
}

/// By the kind of object.
#[derive(Debug, PartialEq)]
pub(crate) enum Verdict {
    /// A route: each Service that it names as a parent.
    Parents(Vec<Entry>),
    /// A policy: each of its targets.
    Ancestors(Vec<Entry>),
    /// The MeshConfig, and the trust domain that is in force.
    MeshConfig(Opinion, Arc<str>),
    /// An XMesh of ours.
    XMesh(Opinion),
}

/// What is to be said about one reference.
#[derive(Debug, PartialEq)]
pub(crate) struct Entry {
    pub(crate) reference: Value,
    pub(crate) opinion: Opinion,
}

impl Judgement {
    pub(super) fn new(snapshot: &Arc<Snapshot>, of: BTreeMap<Key, Arc<Judged>>) -> Self {
        Self { snapshot: Arc::clone(snapshot), of }
    }

    /// Whether it goes by `snapshot`.
    pub(crate) fn is_of(&self, snapshot: &Arc<Snapshot>) -> bool {
        Arc::ptr_eq(&self.snapshot, snapshot)
    }
}

impl Revision {
    /// Of an object of `kind`, as it was sent; it may lack `apiVersion`.
    pub(crate) fn of(kind: Kind, object: &Value, api_version: &str, generation: i64) -> Self {
        let text = |path: &str| object.pointer(path).and_then(Value::as_str).unwrap_or_default().to_owned();
        let references = if kind.route().is_some() { "/spec/parentRefs" } else { "/spec/targetRefs" };
        let references = object.pointer(references).and_then(Value::as_array).cloned();
        Self {
            api_version: api_version.to_owned(),
            uid: text("/metadata/uid"),
            generation,
            resource_version: text("/metadata/resourceVersion"),
            references: references.unwrap_or_default(),
            status: object.get("status").cloned().unwrap_or_default(),
        }
    }
}
