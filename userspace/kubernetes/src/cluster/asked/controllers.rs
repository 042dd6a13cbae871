//! The controllers of a mesh: which pods they are, and which of them leads.

use std::time::SystemTime;

use k8s_openapi::api::{coordination::v1::Lease, core::v1::Pod};
use kube::{Api, api::ListParams};
use serde::Serialize;

use super::{AskError, Cluster, answered};

/// The replicas of the controller, by name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Replicas {
    /// All pods of it.
    pub pods: Vec<Replica>,
    /// Who holds the Lease, though it may be none of these pods; `None` where nobody does now.
    pub leader: Option<String>,
    /// For how many seconds it has led.
    pub leads_seconds: Option<u64>,
}

/// One of them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Replica {
    /// The pod.
    pub pod: String,
    /// Its node.
    pub node: Option<String>,
    /// It says that it is.
    pub ready: bool,
    /// It writes statuses.
    pub leads: bool,
}

impl Cluster {
    /// The controllers of the mesh in `namespace`.
    pub async fn controllers(&self, namespace: &str) -> Result<Replicas, AskError> {
        let pods: Api<Pod> = Api::namespaced(self.client(), namespace);
        let leases: Api<Lease> = Api::namespaced(self.client(), namespace);
        let what = format!("Pods {LABELS} of namespace {namespace}");
        let list = answered("list", what, pods.list(&ListParams::default().labels(LABELS))).await?;
        let lease = answered("get", format!("Lease {namespace}/{LEASE}"), leases.get_opt(LEASE)).await?;
        Ok(Replicas::of(list.items, lease, SystemTime::now()))
    }
}

impl Replicas {
    fn of(pods: Vec<Pod>, lease: Option<Lease>, now: SystemTime) -> Self {
        let spec = lease.and_then(|lease| lease.spec).unwrap_or_default();
        let since = |time: Option<SystemTime>| Some(now.duration_since(time?).unwrap_or_default().as_secs());
        // Clocks may differ a little; a Lease that nobody renews for twice its time is nobody's.
        let lasts = u64::from(spec.lease_duration_seconds.unwrap_or(0).unsigned_abs()) * 2;
        let renewed = since(spec.renew_time.map(|time| time.0.into()));
        let holder = spec.holder_identity.filter(|holder| !holder.is_empty());
        let leader = holder.filter(|_| renewed.is_some_and(|renewed| renewed <= lasts));
        let leads_seconds = leader.as_ref().and_then(|_| since(spec.acquire_time.map(|time| time.0.into())));
        let replica = |pod: Pod| {
            let name = pod.metadata.name?;
            let conditions = pod.status.and_then(|status| status.conditions).unwrap_or_default();
            Some(Replica {
                // A replica is called like its pod, and a word behind that.
                leads: leader
                    .as_deref()
                    .and_then(|leader| leader.rsplit_once('_'))
                    .is_some_and(|(pod, _)| pod == name),
                ready: conditions.iter().any(|one| one.type_ == "Ready" && one.status == "True"),
                node: pod.spec.and_then(|spec| spec.node_name),
                pod: name,
            })
        };
        let mut pods: Vec<_> = pods.into_iter().filter_map(replica).collect();
        pods.sort_by(|a, b| a.pod.cmp(&b.pod));
        Self { pods, leader, leads_seconds }
    }
}

const LABELS: &str = "app.kubernetes.io/name=weft,app.kubernetes.io/component=controller";
const LEASE: &str = "weft-controller";

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::json;

    use super::*;

    fn pod(name: &str, ready: &str) -> Pod {
        serde_json::from_value(
            json!({"metadata": {"name": name}, "spec": {"nodeName": "n1", "containers": []},
            "status": {"conditions": [{"type": "Ready", "status": ready}]}}),
        )
        .unwrap()
    }

    fn lease(holder: &str) -> Option<Lease> {
        serde_json::from_value(json!({"spec": {"holderIdentity": holder, "leaseDurationSeconds": 15,
            "acquireTime": "2026-11-27T10:00:00.000000Z", "renewTime": "2026-11-27T10:05:00.000000Z"}}))
        .unwrap()
    }

    #[test]
    fn the_replica_whose_pod_holds_the_lease_leads_while_it_is_renewed() {
        let renewed = lease("").and_then(|lease| lease.spec?.renew_time).map(|time| SystemTime::from(time.0));
        let renewed = renewed.unwrap();
        let pods = || vec![pod("weft-controller-b", "False"), pod("weft-controller-a", "True")];
        let of = |lease, later| Replicas::of(pods(), lease, renewed + Duration::from_secs(later));
        let replicas = of(lease("weft-controller-a_0123"), 2);
        let told: Vec<_> = replicas.pods.iter().map(|one| (&*one.pod, one.ready, one.leads)).collect();
        assert_eq!(told, [("weft-controller-a", true, true), ("weft-controller-b", false, false)]);
        assert_eq!(
            (replicas.leader.as_deref(), replicas.leads_seconds),
            (Some("weft-controller-a_0123"), Some(302))
        );
        for (lease, later) in [(lease("weft-controller-a_0123"), 31), (lease(""), 2), (None, 2)] {
            let replicas = of(lease, later);
            assert!(replicas.leader.is_none() && !replicas.pods.iter().any(|one| one.leads), "{replicas:?}");
        }
    }
}
