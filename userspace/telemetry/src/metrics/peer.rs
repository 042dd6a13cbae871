//! Who talks with whom, in the words of Istio's labels.

use std::{fmt, sync::Arc};

use prometheus_client::encoding::{EncodeLabel, LabelSetEncoder};
use weft_model::{ObjectName, Workload};

/// The end that reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reporter {
    /// The client's.
    Source,
    /// The server's.
    Destination,
}

impl Reporter {
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Source => "source",
            Self::Destination => "destination",
        }
    }
}

/// A workload, in the words of Istio's labels.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Peer {
    workload: Arc<str>,
    namespace: Arc<str>,
    principal: Arc<str>,
    app: Arc<str>,
    version: Arc<str>,
    canonical_service: Arc<str>,
    canonical_revision: Arc<str>,
    cluster: Arc<str>,
}

impl Peer {
    /// The labels of a pod.
    pub fn of(workload: &Workload, trust_domain: &str) -> Self {
        let label = |keys: &[&str]| keys.iter().find_map(|key| workload.labels.get(*key)).map(String::as_str);
        let or_unknown = |value: Option<&str>| value.unwrap_or(UNKNOWN).into();
        let canonical = ["service.istio.io/canonical-name", "app.kubernetes.io/name", "app"];
        let revision = ["service.istio.io/canonical-revision", "app.kubernetes.io/version", "version"];
        Self {
            workload: Arc::clone(&workload.owner),
            namespace: Arc::clone(&workload.name.namespace),
            principal: workload.service_account.spiffe(trust_domain).into(),
            app: or_unknown(label(&["app", "app.kubernetes.io/name"])),
            version: or_unknown(label(&["version", "app.kubernetes.io/version"])),
            canonical_service: label(&canonical).unwrap_or(&workload.owner).into(),
            canonical_revision: label(&revision).unwrap_or("latest").into(),
            cluster: CLUSTER.into(),
        }
    }

    /// Who is no pod of the mesh.
    pub fn unknown() -> Self {
        Self::all(UNKNOWN)
    }

    /// Stands for whoever there is no room for.
    pub(super) fn overflow() -> Self {
        Self::all("overflow")
    }

    /// Its namespace and workload.
    pub(super) fn name(&self) -> (&str, &str) {
        (&self.namespace, &self.workload)
    }

    /// The labels, each with this prefix.
    pub(super) fn encode(&self, encoder: &mut LabelSetEncoder<'_>, prefix: &str) -> fmt::Result {
        let labels = [
            ("workload", &self.workload),
            ("workload_namespace", &self.namespace),
            ("principal", &self.principal),
            ("app", &self.app),
            ("version", &self.version),
            ("canonical_service", &self.canonical_service),
            ("canonical_revision", &self.canonical_revision),
            ("cluster", &self.cluster),
        ];
        for (key, value) in labels {
            pair(encoder, &format!("{prefix}_{key}"), value)?;
        }
        Ok(())
    }

    fn all(word: &str) -> Self {
        let word: Arc<str> = word.into();
        Self {
            workload: Arc::clone(&word),
            namespace: Arc::clone(&word),
            principal: Arc::clone(&word),
            app: Arc::clone(&word),
            version: Arc::clone(&word),
            canonical_service: Arc::clone(&word),
            canonical_revision: Arc::clone(&word),
            cluster: word,
        }
    }
}

/// `destination_service` and its parts.
pub(super) fn service(encoder: &mut LabelSetEncoder<'_>, service: Option<&ObjectName>) -> fmt::Result {
    let Some(service) = service else {
        pair(encoder, "destination_service", UNKNOWN)?;
        pair(encoder, "destination_service_name", UNKNOWN)?;
        return pair(encoder, "destination_service_namespace", UNKNOWN);
    };
    let host = format!("{}.{}.svc.cluster.local", service.name, service.namespace);
    pair(encoder, "destination_service", &host)?;
    pair(encoder, "destination_service_name", &service.name)?;
    pair(encoder, "destination_service_namespace", &service.namespace)
}

/// One label.
pub(super) fn pair(encoder: &mut LabelSetEncoder<'_>, key: &str, value: &str) -> fmt::Result {
    (key, value).encode(encoder.encode_label())
}

/// Istio's word for what is not known.
const UNKNOWN: &str = "unknown";

/// Istio's default name of the one cluster.
const CLUSTER: &str = "Kubernetes";
