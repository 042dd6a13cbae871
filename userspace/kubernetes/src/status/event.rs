//! Events: that an object is not accepted, told once for each change of that.

use std::{
    collections::BTreeSet,
    hash::{DefaultHasher, Hash as _, Hasher as _},
};

use serde_json::{Value, json};

use super::{Judged, said::cut};
use crate::{kinds::CONTROLLER_NAME, object::Key};

/// An Event of `events.k8s.io/v1`.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Event {
    /// The object that it is about.
    pub(super) about: Key,
    /// Where it is kept: beside the object.
    pub(super) namespace: String,
    pub(super) object: Value,
}

impl Event {
    /// One for each way in which the object is not accepted by its `new` status and was not by its `old` one.
    pub(super) fn of(key: &Key, judged: &Judged, (old, new): (&Value, &Value), replica: &str) -> Vec<Self> {
        let (before, now) = (rejections(old), rejections(new));
        now.difference(&before)
            .map(|(reason, message)| Self::new(key, judged, reason, message, replica))
            .collect()
    }

    fn new(key: &Key, judged: &Judged, reason: &str, message: &str, replica: &str) -> Self {
        let revision = &judged.revision;
        // One name for the same words about the same version: whoever else tells it finds it there.
        let mut hash = DefaultHasher::new();
        (&revision.uid, revision.generation, reason, message).hash(&mut hash);
        let name =
            format!("{}.{:016x}", cut(&key.name.name, LONGEST_NAME).trim_end_matches('.'), hash.finish());
        let namespace = if key.name.namespace.is_empty() { CLUSTER } else { &*key.name.namespace };
        let mut regarding = json!({
            "apiVersion": revision.api_version, "kind": key.kind.name(), "name": &*key.name.name, "uid": revision.uid,
        });
        if !key.name.namespace.is_empty() {
            regarding["namespace"] = namespace.into();
        }
        let object = json!({
            "apiVersion": "events.k8s.io/v1",
            "kind": "Event",
            "metadata": {"name": name, "namespace": namespace},
            "eventTime": jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%S%.6fZ").to_string(),
            "type": "Warning",
            "reason": reason,
            "action": "Judged",
            "note": cut(message, LONGEST_NOTE),
            "regarding": regarding,
            "reportingController": CONTROLLER_NAME,
            "reportingInstance": cut(replica, LONGEST_REPLICA),
        });
        Self { about: key.clone(), namespace: namespace.to_owned(), object }
    }
}

/// In which ways a status says that we do not accept the object: reason and message.
fn rejections(status: &Value) -> BTreeSet<(&str, &str)> {
    let lists = ["parents", "ancestors"].into_iter().filter_map(|list| status.get(list)?.as_array());
    let ours = lists.flatten().filter(|entry| entry["controllerName"] == CONTROLLER_NAME);
    let conditions = ours.chain([status]).filter_map(|entry| entry.get("conditions")?.as_array()).flatten();
    let rejected =
        conditions.filter(|condition| condition["type"] == "Accepted" && condition["status"] == "False");
    rejected
        .filter_map(|condition| Some((condition["reason"].as_str()?, condition["message"].as_str()?)))
        .collect()
}

/// Where Events of objects are kept that are in no namespace.
const CLUSTER: &str = "default";
/// What the API server lets through, less the hash.
const LONGEST_NAME: usize = 230;
const LONGEST_NOTE: usize = 1024;
const LONGEST_REPLICA: usize = 128;

#[cfg(test)]
mod tests;
