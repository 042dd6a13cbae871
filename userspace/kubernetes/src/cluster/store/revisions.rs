//! What an API server says of objects that have a status, beside what is in them: which generation each is, and, for who
//! writes statuses, how its status is now.

use std::{collections::BTreeMap, ops::Bound, sync::Arc};

use serde_json::Value;
use weft_model::{Generations, ObjectName, incarnation};

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
    uid: String,
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
        let uid = object.pointer("/metadata/uid").and_then(Value::as_str).unwrap_or_default().to_owned();
        let revision = self.judged.as_ref().map(|_| Revision::of(kind, object, api_version, generation));
        Some(Seen { uid, generation, revision })
    }

    /// Keeps it. What is not `good` is not in force: the generation before it stays, if there was one.
    pub(super) fn keep(&mut self, kind: Kind, name: &ObjectName, seen: Seen, good: bool) {
        let key = Key { kind, name: name.clone() };
        let itself = incarnation(&key.to_string(), &seen.uid);
        if good && self.generations.get(&*itself) != Some(&seen.generation) {
            // Its namesake, too, whose deletion nobody has told: a list does not.
            self.drop_generations(&key);
            Arc::make_mut(&mut self.generations).insert(itself.into(), seen.generation);
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
        self.drop_generations(key);
        let known = self.judged.as_mut().and_then(|judged| judged.remove(key));
        self.changed |= known.is_some();
    }

    fn drop_generations(&mut self, key: &Key) {
        let any = incarnation(&key.to_string(), "");
        let known = self.generations.range::<str, _>((Bound::Included(&*any), Bound::Unbounded)).next();
        if let Some(known) = known.map(|(known, _)| Arc::clone(known)).filter(|known| known.starts_with(&any))
        {
            Arc::make_mut(&mut self.generations).remove(&known);
        }
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

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_object_that_was_made_anew_takes_its_namesakes_place_and_nobody_elses() {
        let mut revisions = Revisions::default();
        let mut keep = |name: &str, uid: &str, generation: i64, good| {
            let object = json!({"metadata": {"uid": uid, "generation": generation}});
            let seen = revisions.see(Kind::TrafficPolicy, "weft.dev/v1alpha1", &object).unwrap();
            revisions.keep(Kind::TrafficPolicy, &ObjectName::new("shop", name), seen, good);
            let known = revisions.generations().iter();
            known.map(|(name, generation)| format!("{name} {generation}")).collect::<Vec<_>>()
        };
        keep("web", "old", 7, true);
        keep("web-2", "x", 1, true);
        let both = ["TrafficPolicy shop/web old 7", "TrafficPolicy shop/web-2 x 1"];
        assert_eq!(keep("web", "new", 1, false), both, "what is refused is not in force");
        assert_eq!(keep("web", "new", 2, true), ["TrafficPolicy shop/web new 2", both[1]]);
        revisions.forget(&Key { kind: Kind::TrafficPolicy, name: ObjectName::new("shop", "web") });
        assert_eq!(revisions.generations().len(), 1);
    }
}
