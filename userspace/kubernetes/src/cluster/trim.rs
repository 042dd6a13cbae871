//! An object as the API server sends it, to the part of it that is read.
//!
//! What is left out does not make an object anew when it changes: a pod's heartbeats, a route's status, who wrote what.

use std::{net::IpAddr, path::Path, sync::Arc};

use serde_json::{Map, Value, json};
use weft_model::ObjectName;

use super::resource::Resource;
use crate::core::{JOINED, NETNS};

/// The object's name.
pub(super) fn name(object: &Value) -> Option<ObjectName> {
    let metadata = object.get("metadata")?;
    let text = |key: &str| metadata.get(key).and_then(Value::as_str);
    Some(ObjectName::new(text("namespace").unwrap_or_default(), text("name")?))
}

/// `object`, of the kind `resource`, less what nobody reads.
pub(super) fn trim(resource: &Resource, object: &mut Value) {
    let Value::Object(fields) = object else { return };
    // Objects of a list do not say what they are, and metadata alone says that it is that.
    fields.insert("apiVersion".to_owned(), resource.api_version.as_str().into());
    fields.insert("kind".to_owned(), resource.name.into());
    if resource.plural == "pods" {
        pod(fields);
    } else {
        fields.remove("status");
    }
    let Some(Value::Object(metadata)) = fields.get_mut("metadata") else { return };
    metadata.retain(|key, _| METADATA.contains(&key.as_str()));
    if let Some(Value::Object(annotations)) = metadata.get_mut("annotations") {
        annotations.remove(LAST_APPLIED);
    }
}

/// A pod that the API server has, as far as it matters where it runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Placed {
    /// As the kubelet knows it.
    pub(super) uid: Arc<str>,
    /// It has a network namespace of its own now, or will have.
    pub(super) has_sandbox: bool,
    /// It has an address.
    pub(super) has_address: bool,
}

/// Where the pod `object` runs; `None` where that is not decided yet.
pub(super) fn node(object: &Value) -> Option<&str> {
    object.pointer("/spec/nodeName").and_then(Value::as_str).filter(|node| !node.is_empty())
}

/// What the kubelet of its node makes of the pod `object`; trimmed or not.
pub(super) fn placed(object: &Value) -> Option<Placed> {
    let text = |path: &str| object.pointer(path).and_then(Value::as_str);
    let uid = hash_of_file(object).or_else(|| text("/metadata/uid"))?;
    let over = matches!(text("/status/phase"), Some("Succeeded" | "Failed"));
    let of_the_host = object.pointer("/spec/hostNetwork").and_then(Value::as_bool).unwrap_or(false);
    let has_address = text("/status/podIP").is_some_and(|ip| !ip.is_empty())
        || object.pointer("/status/podIPs/0").is_some();
    Some(Placed { uid: uid.into(), has_sandbox: !over && !of_the_host, has_address })
}

/// The kubelet knows a static pod by the hash of its file, and shows it to the API server under another UID. Whoever may
/// make pods could write such annotations; but no other pod's UID looks like a hash, so he names no other pod.
fn hash_of_file(object: &Value) -> Option<&str> {
    let annotations = object.pointer("/metadata/annotations")?;
    annotations.get(MIRROR)?;
    let hash = annotations.get(HASH).and_then(Value::as_str)?;
    (hash.len() == 32 && hash.bytes().all(|byte| byte.is_ascii_hexdigit())).then_some(hash)
}

/// `object` with the path of its network namespace, and with the addresses that it has there where the runtime says which:
/// the kubelet tells of those some time after they are in use, and meanwhile of those that an earlier sandbox had.
pub(super) fn with_network(object: &Value, path: &Path, ips: Option<&[IpAddr]>) -> Value {
    let mut object = object.clone();
    if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
        let annotations = metadata.entry("annotations").or_insert_with(|| Map::new().into());
        if let Some(annotations) = annotations.as_object_mut() {
            annotations.insert(NETNS.to_owned(), path.to_string_lossy().into());
        }
    }
    if let (Some(ips), Some(fields)) = (ips, object.as_object_mut()) {
        let status = fields.entry("status").or_insert_with(|| Map::new().into());
        if let Some(status) = status.as_object_mut() {
            status.insert("podIP".to_owned(), ips.first().map(ToString::to_string).into());
            let all = ips.iter().map(|ip| json!({"ip": ip.to_string()}));
            status.insert("podIPs".to_owned(), all.collect());
        }
    }
    object
}

fn pod(fields: &mut Map<String, Value>) {
    keep(fields, &["apiVersion", "kind", "metadata", "spec", "status"]);
    if let Some(Value::Object(metadata)) = fields.get_mut("metadata") {
        if let Some(Value::Object(annotations)) = metadata.get_mut("annotations") {
            // Where a pod's namespace is nobody may say but this node: it could name any other.
            annotations.retain(|key, _| {
                let read =
                    [HASH, MIRROR, JOINED].contains(&key.as_str()) || key.starts_with("prometheus.io/");
                key != NETNS && read
            });
        }
        if let Some(Value::Array(owners)) = metadata.get_mut("ownerReferences") {
            owners.retain(|owner| owner.get("controller").and_then(Value::as_bool) == Some(true));
        }
    }
    if let Some(Value::Object(spec)) = fields.get_mut("spec") {
        keep(spec, &["nodeName", "serviceAccountName", "hostNetwork", "containers", "initContainers"]);
        for list in ["containers", "initContainers"] {
            for container in spec.get_mut(list).and_then(Value::as_array_mut).into_iter().flatten() {
                if let Value::Object(container) = container {
                    keep(container, &["name", "ports", "restartPolicy"]);
                }
            }
        }
    }
    if let Some(Value::Object(status)) = fields.get_mut("status") {
        keep(status, &["phase", "podIP", "podIPs", "conditions"]);
        if let Some(Value::Array(conditions)) = status.get_mut("conditions") {
            conditions.retain(|condition| condition.get("type").and_then(Value::as_str) == Some("Ready"));
            for condition in conditions.iter_mut().filter_map(Value::as_object_mut) {
                keep(condition, &["type", "status"]);
            }
        }
    }
}

fn keep(fields: &mut Map<String, Value>, wanted: &[&str]) {
    fields.retain(|key, _| wanted.contains(&key.as_str()));
}

const METADATA: [&str; 8] = [
    "annotations",
    "creationTimestamp",
    "deletionTimestamp",
    "labels",
    "name",
    "namespace",
    "ownerReferences",
    "uid",
];
/// The annotations of a static pod: that it is one, and the hash of its file.
const MIRROR: &str = "kubernetes.io/config.mirror";
const HASH: &str = "kubernetes.io/config.hash";
/// What `kubectl apply` keeps beside the object: the object once more.
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::object::Kind;

    /// A pod as a kubelet of 1.36 leaves it, with what its owner may try.
    fn running() -> Value {
        json!({
            "metadata": {
                "name": "web-1", "namespace": "shop", "uid": "5f0c", "resourceVersion": "812", "generation": 1,
                "labels": {"app": "web"}, "managedFields": [{"manager": "kubelet"}],
                "annotations": {
                    "weft.dev/netns": "/run/netns/someone-else", "prometheus.io/scrape": "true",
                    "kubectl.kubernetes.io/last-applied-configuration": "{}"
                },
                "ownerReferences": [
                    {"kind": "Foo", "name": "foo"}, {"kind": "ReplicaSet", "name": "web-abc", "controller": true}
                ]
            },
            "spec": {
                "nodeName": "n1", "serviceAccountName": "web", "restartPolicy": "Always", "volumes": [{}],
                "containers": [{"name": "app", "image": "x", "env": [{"name": "SECRET", "value": "s3cret"}],
                    "ports": [{"name": "http", "containerPort": 8080, "protocol": "TCP"}]}]
            },
            "status": {
                "phase": "Running", "podIP": "10.1.0.7", "podIPs": [{"ip": "10.1.0.7"}], "hostIP": "10.0.0.2",
                "conditions": [{"type": "Initialized", "status": "True"},
                    {"type": "Ready", "status": "False", "lastTransitionTime": "2026-11-27T10:00:00Z"}]
            }
        })
    }

    #[test]
    fn of_a_pod_remains_what_is_read_of_it() {
        let mut pod = running();
        trim(&Resource::core(Kind::Pod), &mut pod);
        let expected = json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {
                "name": "web-1", "namespace": "shop", "uid": "5f0c", "labels": {"app": "web"},
                "annotations": {"prometheus.io/scrape": "true"},
                "ownerReferences": [{"kind": "ReplicaSet", "name": "web-abc", "controller": true}]
            },
            "spec": {
                "nodeName": "n1", "serviceAccountName": "web",
                "containers": [{"name": "app", "ports": [{"name": "http", "containerPort": 8080, "protocol": "TCP"}]}]
            },
            "status": {"phase": "Running", "podIP": "10.1.0.7", "podIPs": [{"ip": "10.1.0.7"}],
                "conditions": [{"type": "Ready", "status": "False"}]}
        });
        assert_eq!(pod, expected);
    }

    #[test]
    fn no_owner_of_a_pod_says_where_its_network_namespace_is() {
        let mut pod = running();
        trim(&Resource::core(Kind::Pod), &mut pod);
        assert!(!pod.to_string().contains("someone-else"));
        let placed = with_network(&pod, Path::new("/proc/41/ns/net"), None);
        assert_eq!(placed["metadata"]["annotations"]["weft.dev/netns"], "/proc/41/ns/net");
        assert_eq!(placed["status"], pod["status"]);
    }

    #[test]
    fn addresses_that_the_runtime_tells_are_in_the_place_of_older_ones_and_of_none() {
        let ips = ["10.1.0.9".parse().unwrap(), "fd00::9".parse().unwrap()];
        let mut new = running();
        new.as_object_mut().unwrap().remove("status");
        for pod in [running(), new] {
            let placed = with_network(&pod, Path::new("/run/netns/cni-1"), Some(&ips));
            assert_eq!(placed["status"]["podIP"], "10.1.0.9");
            assert_eq!(placed["status"]["podIPs"], json!([{"ip": "10.1.0.9"}, {"ip": "fd00::9"}]));
        }
    }

    #[test]
    fn a_static_pod_has_the_name_that_its_kubelet_gave_its_cgroup() {
        let mut pod = running();
        assert_eq!(placed(&pod).unwrap().uid, "5f0c".into());
        let hash = "0b7c2a1d5e6f47788990aabbccddeeff";
        for (annotation, value) in [(HASH, hash), (MIRROR, hash)] {
            pod["metadata"]["annotations"][annotation] = value.into();
        }
        trim(&Resource::core(Kind::Pod), &mut pod);
        assert_eq!(placed(&pod).unwrap().uid, hash.into());
        pod["metadata"]["annotations"][HASH] = "3d1c5c52-0d5f-4c5e-9c07-6d1d4b6c8c11".into();
        assert_eq!(placed(&pod).unwrap().uid, "5f0c".into(), "the UID of another pod is no hash of a file");
    }

    #[test]
    fn pods_of_the_host_and_pods_that_have_ended_have_no_sandbox() {
        let with = |path: &str, value: Value| {
            let mut pod = running();
            *pod.pointer_mut(path).unwrap() = value;
            placed(&pod).unwrap().has_sandbox
        };
        assert!(with("/status/phase", "Running".into()) && with("/status/phase", "Pending".into()));
        assert!(!with("/status/phase", "Succeeded".into()) && !with("/status/phase", "Failed".into()));
        let mut host = running();
        host["spec"]["hostNetwork"] = true.into();
        assert!(!placed(&host).unwrap().has_sandbox);
    }

    #[test]
    fn of_other_kinds_the_status_and_the_bookkeeping_go() {
        let mut route = json!({
            "metadata": {"name": "api", "namespace": "shop", "generation": 3, "resourceVersion": "9",
                "annotations": {"kubectl.kubernetes.io/last-applied-configuration": "{}", "mine": "x"}},
            "spec": {"rules": []}, "status": {"parents": []}
        });
        let version = "gateway.networking.k8s.io/v1";
        trim(&Resource::optional(Kind::HttpRoute, version), &mut route);
        let metadata = json!({"name": "api", "namespace": "shop", "annotations": {"mine": "x"}});
        let expected =
            json!({"apiVersion": version, "kind": "HTTPRoute", "metadata": metadata, "spec": {"rules": []}});
        assert_eq!(route, expected);
    }
}
