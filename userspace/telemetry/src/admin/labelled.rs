//! Which flows are of pods with some labels.

use std::sync::Arc;

use weft_model::{ObjectName, Snapshot};

use crate::api::Flow;

/// Labels that a pod has to have; none of them is every flow.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Labelled(Vec<(String, String)>);

impl Labelled {
    /// `key=value`, several with commas between them.
    pub(super) fn of(text: &str) -> Self {
        let labels = text.split(',').filter(|label| !label.is_empty());
        Self(labels.map(|label| label.split_once('=').unwrap_or((label, ""))).map(owned).collect())
    }

    /// Whether a pod at one end of `flow` has them all.
    pub(super) fn is_an_end_of(&self, flow: &Flow, snapshot: impl FnOnce() -> Arc<Snapshot>) -> bool {
        if self.0.is_empty() {
            return true;
        }
        let snapshot = snapshot();
        let ends = [
            (&flow.source.namespace, &flow.source.pod),
            (&flow.destination.namespace, &flow.destination.pod),
        ];
        ends.into_iter().any(|(namespace, pod)| {
            let name = namespace.as_deref().zip(pod.as_deref());
            let pod =
                name.and_then(|(namespace, pod)| snapshot.workloads.get(&ObjectName::new(namespace, pod)));
            pod.is_some_and(|pod| self.0.iter().all(|(key, value)| pod.labels.get(key) == Some(value)))
        })
    }
}

fn owned((key, value): (&str, &str)) -> (String, String) {
    (key.to_owned(), value.to_owned())
}
