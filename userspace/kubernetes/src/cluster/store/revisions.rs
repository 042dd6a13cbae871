//! What an API server says of objects that have a status, beside what is in them: which generation each is, and, for who
//! writes statuses, how its status is now.

use std::{collections::BTreeMap, sync::Arc};

use serde_json::Value;
use weft_model::{Generations, ObjectName};

use crate::{
    object::{Key, Kind},
    status::Revision,
};

/// By object.
#[derive(Debug, Default)]
pub(super) struct Revisions {
    generations: Arc<Generations>,
    /// `None` where nobody judges.
    judged: Option<BTreeMap<Key, Arc<Revision>>>,
    changed: bool,
}

/// What one object says, before it is trimmed.
#[derive(Debug)]
pub(super) struct Seen {
    generation: i64,
    revision: Option<Revision>,
}

impl Revisions {
    /// From now on, all is kept that is needed to write statuses.
    pub(super) fn judge(&mut self) {
        self.judged.get_or_insert_default();
    }

    /// What there is to keep of an object of `kind`, as the API server has sent it.
    pub(super) fn see(&self, kind: Kind, api_version: &str, object: &Value) -> Option<Seen> {
        if !has_status(kind) {
            return None;
        }
        let generation = object.pointer("/metadata/generation").and_then(Value::as_i64).unwrap_or_default();
        let revision = self.judged.as_ref().map(|_| Revision::of(kind, object, api_version, generation));
        Some(Seen { generation, revision })
    }

    /// Keeps it. What is not `good` is not in force: the generation before it stays, if there was one.
    pub(super) fn keep(&mut self, kind: Kind, name: &ObjectName, seen: Seen, good: bool) {
        let key = Key { kind, name: name.clone() };
        let text = key.to_string();
        if good && self.generations.get(&*text) != Some(&seen.generation) {
            Arc::make_mut(&mut self.generations).insert(text.into(), seen.generation);
        }
        if let (Some(judged), Some(revision)) = (&mut self.judged, seen.revision)
            && judged.get(&key).is_none_or(|known| **known != revision)
        {
            judged.insert(key, Arc::new(revision));
            self.changed = true;
        }
    }

    /// The object is gone.
    pub(super) fn forget(&mut self, key: &Key) {
        if !has_status(key.kind) {
            return;
        }
        let text = key.to_string();
        if self.generations.contains_key(&*text) {
            Arc::make_mut(&mut self.generations).remove(&*text);
        }
        let known = self.judged.as_mut().and_then(|judged| judged.remove(key));
        self.changed |= known.is_some();
    }

    /// Of what is in force.
    pub(super) fn generations(&self) -> &Arc<Generations> {
        &self.generations
    }

    /// All that is kept; `None` where nobody judges.
    pub(super) fn all(&self) -> Option<&BTreeMap<Key, Arc<Revision>>> {
        self.judged.as_ref()
    }

    /// Whether any has changed since this was asked last.
    pub(super) fn have_changed(&mut self) -> bool {
        std::mem::take(&mut self.changed)
    }
}

/// The kinds whose statuses weft writes.
fn has_status(kind: Kind) -> bool {
    let policies =
        [Kind::TrafficPolicy, Kind::AuthorizationPolicy, Kind::AuthenticationPolicy, Kind::TelemetryPolicy];
    kind.route().is_some() || policies.contains(&kind) || matches!(kind, Kind::MeshConfig | Kind::XMesh)
}
