//! Whether a DaemonSet wants a node, as its controller decides: by node selector, required affinity, and taints that evict.
//!
//! Whatever is not understood is wanted: an update is the usual end of an agent.

use serde_json::Value;

/// Whether `daemonset` keeps a pod on `node`.
pub(super) fn wants(daemonset: &Value, node: &Value) -> bool {
    let Some(pod) = daemonset.pointer("/spec/template/spec") else { return true };
    let selected = entries(&pod["nodeSelector"]).all(|(key, value)| label(node, key) == value.as_str());
    let terms = pod
        .pointer("/affinity/nodeAffinity/requiredDuringSchedulingIgnoredDuringExecution/nodeSelectorTerms");
    let placed = terms.is_none_or(|terms| items(terms).any(|term| fits(term, node)));
    let tolerated = items(node.pointer("/spec/taints").unwrap_or(&Value::Null))
        .filter(|taint| taint["effect"] == "NoExecute" && !is_own(taint))
        .all(|taint| items(&pod["tolerations"]).any(|toleration| tolerates(toleration, taint)));
    selected && placed && tolerated
}

/// One term; one without requirements fits no node.
fn fits(term: &Value, node: &Value) -> bool {
    let (labels, fields) = (&term["matchExpressions"], &term["matchFields"]);
    let some = items(labels).next().is_some() || items(fields).next().is_some();
    let name = node.pointer("/metadata/name").and_then(Value::as_str);
    some && items(labels).all(|wanted| meets(wanted, label(node, wanted["key"].as_str().unwrap_or_default())))
        && items(fields).all(|wanted| meets(wanted, name))
}

fn meets(wanted: &Value, found: Option<&str>) -> bool {
    let is_one = || items(&wanted["values"]).any(|value| value.as_str() == found);
    let compared = || {
        let number = |text: Option<&str>| text.and_then(|text| text.parse::<i64>().ok());
        Some(number(found)?.cmp(&number(wanted["values"][0].as_str())?))
    };
    match wanted["operator"].as_str() {
        Some("In") => found.is_some() && is_one(),
        Some("NotIn") => found.is_none() || !is_one(),
        Some("Exists") => found.is_some(),
        Some("DoesNotExist") => found.is_none(),
        Some("Gt") => compared().is_some_and(std::cmp::Ordering::is_gt),
        Some("Lt") => compared().is_some_and(std::cmp::Ordering::is_lt),
        _ => true,
    }
}

/// The controller gives every pod of a DaemonSet tolerations of what its own node may have.
fn is_own(taint: &Value) -> bool {
    matches!(taint["key"].as_str(), Some("node.kubernetes.io/not-ready" | "node.kubernetes.io/unreachable"))
}

fn tolerates(toleration: &Value, taint: &Value) -> bool {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let effect = text(&toleration["effect"]);
    let key = text(&toleration["key"]);
    let exists = toleration["operator"] == "Exists";
    let same_key = if key.is_empty() { exists } else { key == text(&taint["key"]) };
    (effect.is_empty() || effect == "NoExecute")
        && same_key
        && (exists || text(&toleration["value"]) == text(&taint["value"]))
}

fn label<'a>(node: &'a Value, key: &str) -> Option<&'a str> {
    node.pointer("/metadata/labels")?.get(key)?.as_str()
}

fn items(list: &Value) -> impl Iterator<Item = &Value> {
    list.as_array().into_iter().flatten()
}

fn entries(object: &Value) -> impl Iterator<Item = (&str, &Value)> {
    object.as_object().into_iter().flatten().map(|(key, value)| (key.as_str(), value))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn node() -> Value {
        json!({
            "metadata": {"name": "n1", "labels": {"disk": "ssd", "cores": "8"}},
            "spec": {"taints": [
                {"key": "gpu", "value": "yes", "effect": "NoExecute"},
                {"key": "node.kubernetes.io/unreachable", "effect": "NoExecute"},
                {"key": "quiet", "effect": "NoSchedule"},
            ]},
        })
    }

    fn wanted(pod: Value) -> bool {
        let mut pod = pod;
        if pod.get("tolerations").is_none() {
            pod["tolerations"] = json!([{"operator": "Exists"}]);
        }
        wants(&json!({"spec": {"template": {"spec": pod}}}), &node())
    }

    #[test]
    fn a_node_is_wanted_that_has_every_label_of_the_selector() {
        assert!(wanted(json!({})));
        assert!(wanted(json!({"nodeSelector": {"disk": "ssd"}})));
        assert!(!wanted(json!({"nodeSelector": {"disk": "ssd", "zone": "a"}})));
        assert!(!wanted(json!({"nodeSelector": {"disk": "hdd"}})));
    }

    #[test]
    fn required_affinity_is_one_term_of_which_everything_holds() {
        let by = |terms: Value| {
            let required =
                json!({"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": terms}});
            wanted(json!({"affinity": {"nodeAffinity": required}}))
        };
        let wants = |key: &str, operator: &str, values: Value| json!({"matchExpressions": [{"key": key, "operator": operator, "values": values}]});
        for (key, operator, values, holds) in [
            ("disk", "In", json!(["hdd", "ssd"]), true),
            ("disk", "In", json!(["hdd"]), false),
            ("zone", "In", json!(["a"]), false),
            ("disk", "NotIn", json!(["hdd"]), true),
            ("zone", "NotIn", json!(["a"]), true),
            ("disk", "NotIn", json!(["ssd"]), false),
            ("disk", "Exists", json!([]), true),
            ("zone", "Exists", json!([]), false),
            ("zone", "DoesNotExist", json!([]), true),
            ("disk", "DoesNotExist", json!([]), false),
            ("cores", "Gt", json!(["7"]), true),
            ("cores", "Gt", json!(["8"]), false),
            ("cores", "Lt", json!(["9"]), true),
            ("disk", "Lt", json!(["9"]), false),
        ] {
            assert_eq!(by(json!([wants(key, operator, values)])), holds, "{key} {operator}");
        }
        let (no, yes) = (wants("zone", "Exists", json!([])), wants("disk", "Exists", json!([])));
        assert!(by(json!([no.clone(), yes])), "one term is enough");
        assert!(!by(json!([{}])), "an empty term fits nothing");
        let name = |name: &str| json!([{"matchFields": [{"key": "metadata.name", "operator": "In", "values": [name]}]}]);
        assert!(by(name("n1")) && !by(name("n2")));
    }

    #[test]
    fn a_taint_that_evicts_has_to_be_tolerated() {
        let tolerating = |tolerations: Value| wanted(json!({"tolerations": tolerations}));
        assert!(!tolerating(json!([])));
        assert!(tolerating(json!([{"operator": "Exists"}])));
        assert!(tolerating(json!([{"key": "gpu", "operator": "Exists"}])));
        assert!(tolerating(json!([{"key": "gpu", "value": "yes", "effect": "NoExecute"}])));
        assert!(!tolerating(json!([{"key": "gpu", "value": "no"}])));
        assert!(!tolerating(json!([{"key": "gpu", "operator": "Exists", "effect": "NoSchedule"}])));
    }
}
