//! The status that an object should have, where it has another one.

use serde_json::{Map, Value, json};
use weft_model::{Count, Progress};

use super::{
    judgement::{Entry, Judged, Verdict},
    said::{Opinion, Stamp},
};
use crate::{kinds::CONTROLLER_NAME, object::Key};

/// The status to write where `stored` is there now; `None` where it says all of that already, or comes from somebody who
/// has seen a newer object. What other controllers have written stays as it is.
pub(super) fn wanted(
    key: &Key,
    judged: &Judged,
    stored: &Value,
    progress: &Progress,
    now: &str,
) -> Option<Value> {
    let count = &match judged.verdict {
        // Nodes have nothing of it: they have to be there.
        Verdict::XMesh(_) => Count {
            desired: progress.desired.len(),
            programmed: progress.ready.len(),
            late: None,
            awaited: progress.awaited,
        },
        _ => progress.of(&key.to_string(), &judged.revision.uid, judged.revision.generation),
    };
    let stamp = Stamp { generation: judged.revision.generation, now };
    let empty = Map::new();
    let mut status = stored.as_object().unwrap_or(&empty).clone();
    match &judged.verdict {
        Verdict::Parents(entries) => list("parents", "parentRef", entries, count, stamp, &mut status),
        Verdict::Ancestors(entries) => list("ancestors", "ancestorRef", entries, count, stamp, &mut status),
        Verdict::MeshConfig(opinion, trust_domain) => {
            let nodes = json!({"desired": progress.desired.len(), "ready": progress.ready.len()});
            let beside = [("trustDomain", json!(trust_domain)), ("nodes", nodes)];
            one(opinion, &beside, count, stamp, &mut status)
        }
        Verdict::XMesh(opinion) => {
            let beside = [("supportedFeatures", supported_features())];
            one(opinion, &beside, count, stamp, &mut status)
        }
    }?;
    Some(status.into())
}

/// Puts our entries into the list `name`; `None` where they are there already.
fn list(
    name: &str,
    reference: &str,
    entries: &[Entry],
    count: &Count,
    stamp: Stamp<'_>,
    status: &mut Map<String, Value>,
) -> Option<()> {
    let stored = status.get(name).and_then(Value::as_array).cloned().unwrap_or_default();
    let (own, others): (Vec<_>, Vec<_>) =
        stored.into_iter().partition(|entry| entry["controllerName"] == CONTROLLER_NAME);
    if own.iter().any(|entry| is_newer(&entry["conditions"], stamp)) {
        return None;
    }
    let entry = |entry: &Entry| {
        let old = own.iter().find(|old| old[reference] == entry.reference);
        let old = old.map_or(&Value::Null, |old| &old["conditions"]);
        json!({
            reference: entry.reference,
            "controllerName": CONTROLLER_NAME,
            "conditions": entry.opinion.conditions(count, stamp, old),
        })
    };
    let room = if name == "parents" { MOST_PARENTS } else { MOST_ANCESTORS }.saturating_sub(others.len());
    let new: Vec<_> = entries.iter().take(room).map(entry).collect();
    if new == own {
        return None;
    }
    status.insert(name.to_owned(), others.into_iter().chain(new).collect());
    Some(())
}

/// Puts the conditions of an object that nobody else judges, and what stands beside them.
fn one(
    opinion: &Opinion,
    beside: &[(&str, Value)],
    count: &Count,
    stamp: Stamp<'_>,
    status: &mut Map<String, Value>,
) -> Option<()> {
    let old = status.get("conditions").cloned().unwrap_or_default();
    let conditions = opinion.conditions(count, stamp, &old);
    let stays = old == conditions && beside.iter().all(|(name, value)| status.get(*name) == Some(value));
    if is_newer(&old, stamp) || stays {
        return None;
    }
    status.insert("conditions".to_owned(), conditions);
    status.extend(beside.iter().map(|(name, value)| ((*name).to_owned(), value.clone())));
    Some(())
}

/// Whether these conditions are about a version of the object that we have not seen yet.
fn is_newer(conditions: &Value, stamp: Stamp<'_>) -> bool {
    let conditions = conditions.as_array().into_iter().flatten();
    conditions
        .filter_map(|condition| condition["observedGeneration"].as_i64())
        .any(|seen| seen > stamp.generation)
}

fn supported_features() -> Value {
    let mut features = FEATURES.to_vec();
    features.sort_unstable();
    features.into_iter().map(|name| json!({"name": name})).collect()
}

/// What of the Gateway API weft can do in a mesh, in the words of its conformance suite.
const FEATURES: [&str; 17] = [
    "Mesh",
    "MeshClusterIPMatching",
    "MeshConsumerRoute",
    "HTTPRoute",
    "HTTPRouteParentRefPort",
    "HTTPRouteResponseHeaderModification",
    "HTTPRoute303RedirectStatusCode",
    "HTTPRoute307RedirectStatusCode",
    "HTTPRoute308RedirectStatusCode",
    "MeshHTTPRouteBackendRequestHeaderModification",
    "MeshHTTPRouteNamedRouteRule",
    "MeshHTTPRouteQueryParamMatching",
    "MeshHTTPRouteRedirectPath",
    "MeshHTTPRouteRedirectPort",
    "MeshHTTPRouteRewritePath",
    "MeshHTTPRouteSchemeRedirect",
    "GRPCRoute",
];
/// As the CRDs have it.
const MOST_PARENTS: usize = 32;
const MOST_ANCESTORS: usize = 16;

#[cfg(test)]
mod tests;
