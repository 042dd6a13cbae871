//! Whose pods run where, now.

use std::{sync::Arc, time::Duration};

use tokio::{sync::watch, time::timeout};
use weft_model::{ServiceAccount, Snapshot};

/// Whether a pod of `account` that is in the mesh runs on `node`. An agent may hear of a pod before its controller does,
/// so that is waited for.
pub(crate) async fn runs_there(
    snapshots: &watch::Receiver<Arc<Snapshot>>,
    account: &ServiceAccount,
    node: &str,
) -> bool {
    let mut snapshots = snapshots.clone();
    let found = timeout(WAIT, snapshots.wait_for(|snapshot| has(snapshot, account, node))).await;
    matches!(found, Ok(Ok(_)))
}

/// Pods that have run to their end are no workloads.
fn has(snapshot: &Snapshot, account: &ServiceAccount, node: &str) -> bool {
    let mut pods = snapshot.workloads.values();
    pods.any(|pod| pod.enrolled && pod.service_account == *account && pod.node.as_deref() == Some(node))
}

/// How far a controller may be behind an agent.
const WAIT: Duration = Duration::from_secs(2);
