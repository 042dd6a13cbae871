//! The Pod object.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;

use serde_json::json;

use crate::manifests;

/// What the Pod object says. [`super::Pod::update`] changes it.
pub struct PodManifest {
    /// `namespace/name`.
    pub name: String,
    /// `spec.nodeName`.
    pub node: String,
    /// `spec.serviceAccountName`.
    pub service_account: String,
    /// `metadata.labels`.
    pub labels: BTreeMap<String, String>,
    /// Named container ports, TCP.
    pub ports: Vec<(String, u16)>,
    /// `status.podIPs`.
    pub ips: Vec<IpAddr>,
    /// Annotation `weft.dev/netns`.
    pub netns: PathBuf,
    /// Condition Ready.
    pub ready: bool,
    /// `metadata.deletionTimestamp` is set.
    pub terminating: bool,
    /// `metadata.creationTimestamp`.
    pub created: Option<String>,
}

impl PodManifest {
    pub(super) fn new(name: &str, node: &str) -> Self {
        let mut manifest = Self {
            name: name.into(),
            node: node.into(),
            service_account: "default".into(),
            labels: BTreeMap::new(),
            ports: Vec::new(),
            ips: Vec::new(),
            netns: PathBuf::new(),
            ready: true,
            terminating: false,
            created: None,
        };
        manifest.enrol(true);
        manifest
    }

    /// Sets or removes the label that enrols the pod.
    pub fn enrol(&mut self, enrolled: bool) {
        let label = "weft.dev/mesh".to_owned();
        if enrolled {
            self.labels.insert(label, "enabled".into());
        } else {
            self.labels.remove(&label);
        }
    }

    /// Sets the label that enrols the pod, or keeps it out, to `enabled` or `disabled`.
    pub fn enrol_as(&mut self, value: &str) {
        self.labels.insert("weft.dev/mesh".into(), value.into());
    }

    /// The name of its file in every node's folder.
    pub fn file(&self) -> String {
        format!("pod-{}.yaml", self.name.replace('/', "-"))
    }

    /// The object. JSON is YAML.
    pub fn yaml(&self) -> String {
        let (namespace, name) = manifests::split(&self.name);
        let ports: Vec<_> =
            self.ports.iter().map(|(name, port)| json!({"name": name, "containerPort": port})).collect();
        let deleted = self.terminating.then_some("2026-01-01T00:00:00Z");
        let ready = if self.ready { "True" } else { "False" };
        let object = json!({
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {
                "namespace": namespace,
                "name": name,
                "labels": self.labels,
                "annotations": {"weft.dev/netns": self.netns},
                "deletionTimestamp": deleted,
                "creationTimestamp": self.created,
            },
            "spec": {
                "nodeName": self.node,
                "serviceAccountName": self.service_account,
                "containers": [{"name": "app", "ports": ports}],
            },
            "status": {
                "phase": "Running",
                "podIP": self.ips.first(),
                "podIPs": self.ips.iter().map(|ip| json!({"ip": ip})).collect::<Vec<_>>(),
                "conditions": [{"type": "Ready", "status": ready}],
            },
        });
        format!("{object:#}\n")
    }
}
