//! Which flows someone wants to see.

use serde::{Deserialize, Serialize};

use super::{Flow, Verdict};

/// All that is set must hold; the empty filter keeps every flow.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FlowFilter {
    /// Either end is in this namespace.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// Either end is this pod: `name`, or `namespace/name`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pod: Option<String>,
    /// This was decided.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub verdict: Option<Verdict>,
}

impl FlowFilter {
    /// Whether `flow` is wanted.
    pub fn keeps(&self, flow: &Flow) -> bool {
        let ends = [
            (flow.source.namespace.as_deref(), flow.source.pod.as_deref()),
            (flow.destination.namespace.as_deref(), flow.destination.pod.as_deref()),
        ];
        let namespace = |wanted: &str| ends.iter().any(|end| end.0 == Some(wanted));
        let pod = |wanted: &str| match wanted.split_once('/') {
            Some((namespace, pod)) => ends.contains(&(Some(namespace), Some(pod))),
            None => ends.iter().any(|end| end.1 == Some(wanted)),
        };
        self.verdict.is_none_or(|verdict| verdict == flow.verdict)
            && self.namespace.as_deref().is_none_or(namespace)
            && self.pod.as_deref().is_none_or(pod)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flows::sample;

    #[test]
    fn a_filter_looks_at_both_ends() {
        let flow = sample("web", "api");
        let keeps = |filter: FlowFilter| filter.keeps(&flow);
        assert!(keeps(FlowFilter::default()));
        for (namespace, kept) in [("shop", true), ("shop-2", false)] {
            assert_eq!(
                keeps(FlowFilter { namespace: Some(namespace.into()), ..FlowFilter::default() }),
                kept
            );
        }
        for (pod, kept) in
            [("web", true), ("api", true), ("shop/api", true), ("other/api", false), ("shop/db", false)]
        {
            assert_eq!(keeps(FlowFilter { pod: Some(pod.into()), ..FlowFilter::default() }), kept, "{pod}");
        }
    }

    #[test]
    fn every_set_part_must_hold() {
        let flow = sample("web", "api");
        let mut filter =
            FlowFilter { pod: Some("web".into()), verdict: Some(flow.verdict), ..FlowFilter::default() };
        assert!(filter.keeps(&flow));
        filter.verdict = Some(Verdict::Denied);
        assert!(!filter.keeps(&flow));
    }
}
