//! Which version of a kind to ask for, as its `CustomResourceDefinition` says.

use serde_json::Value;

use crate::{decode::versions, object::Kind};

/// The `apiVersion` to ask for `kind` in: the best that we read of those that `definition` serves by now. `None` while there
/// is none.
pub(super) fn served(kind: Kind, definition: &Value) -> Option<&'static str> {
    let conditions = definition.pointer("/status/conditions").and_then(Value::as_array);
    let word = |of: &Value, key: &str| of.get(key).and_then(Value::as_str).map(ToOwned::to_owned);
    let established = conditions.into_iter().flatten().any(|condition| {
        word(condition, "type").as_deref() == Some("Established")
            && word(condition, "status").as_deref() == Some("True")
    });
    if !established || !definition.pointer("/metadata/deletionTimestamp").is_none_or(Value::is_null) {
        return None;
    }
    let group = definition.pointer("/spec/group").and_then(Value::as_str)?;
    let all = definition.pointer("/spec/versions").and_then(Value::as_array)?;
    let is_served = |wanted: &str| {
        all.iter().any(|version| {
            version.get("served").and_then(Value::as_bool) == Some(true)
                && word(version, "name").is_some_and(|name| format!("{group}/{name}") == wanted)
        })
    };
    versions(kind).iter().copied().find(|version| is_served(version))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn definition(versions: &[(&str, bool)], established: &str) -> Value {
        let versions: Vec<_> =
            versions.iter().map(|(name, served)| json!({"name": name, "served": served})).collect();
        json!({
            "metadata": {"name": "tlsroutes.gateway.networking.k8s.io"},
            "spec": {"group": "gateway.networking.k8s.io", "versions": versions},
            "status": {"conditions": [{"type": "NamesAccepted", "status": "True"},
                {"type": "Established", "status": established}]}
        })
    }

    #[test]
    fn the_best_version_is_taken_that_both_sides_know() {
        let choose = |versions: &[(&str, bool)]| served(Kind::TlsRoute, &definition(versions, "True"));
        let (new, old) = ("gateway.networking.k8s.io/v1", "gateway.networking.k8s.io/v1alpha2");
        assert_eq!(choose(&[("v1alpha2", true), ("v1", true), ("v2", true)]), Some(new));
        assert_eq!(
            choose(&[("v1alpha2", true), ("v1", false)]),
            Some(old),
            "one that is there and not served"
        );
        assert_eq!(choose(&[("v1alpha3", true)]), None, "none that we read");
    }

    #[test]
    fn a_definition_that_serves_nothing_yet_or_goes_is_none() {
        assert_eq!(served(Kind::TlsRoute, &definition(&[("v1", true)], "False")), None);
        let mut going = definition(&[("v1", true)], "True");
        going["metadata"]["deletionTimestamp"] = "2026-11-27T10:00:00Z".into();
        assert_eq!(served(Kind::TlsRoute, &going), None);
        assert_eq!(served(Kind::TlsRoute, &json!({})), None);
    }
}
