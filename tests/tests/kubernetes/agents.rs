//! The agents of the nodes, asked by `kubectl exec`, as a person would.

use std::time::Duration;

use serde_json::Value;
use weft_telemetry::api::Status;
use weft_tests::eventually;

use crate::cluster;

/// The agent of a node.
pub(crate) struct Agent {
    pub(crate) node: String,
    pub(crate) pod: String,
    pub(crate) uid: String,
}

impl Agent {
    /// Those that are ready, one a node.
    #[track_caller]
    pub(crate) fn all() -> Vec<Self> {
        let pods = cluster::objects(&["get", "pods", "--namespace", SYSTEM, "--selector", SELECTOR]);
        let pods = pods["items"].as_array().cloned().unwrap_or_default();
        pods.iter().filter(|pod| is_ready(pod)).map(Self::of).collect()
    }

    /// That of the node `name`.
    #[track_caller]
    pub(crate) fn on(name: &str) -> Self {
        let found = Self::all().into_iter().find(|agent| agent.node == name);
        found.unwrap_or_else(|| panic!("no agent is ready on {name}"))
    }

    fn of(pod: &Value) -> Self {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        Self {
            node: text(&pod["spec"]["nodeName"]),
            pod: text(&pod["metadata"]["name"]),
            uid: text(&pod["metadata"]["uid"]),
        }
    }

    /// What a command of `weft` says on this node.
    pub(crate) fn weft(&self, args: &[&str]) -> Result<String, String> {
        let mut all = vec!["exec", "--namespace", SYSTEM, &self.pod, "--container", "agent", "--", "/weft"];
        all.extend(args);
        cluster::kubectl(&all)
    }

    /// `weft status` of this node.
    #[track_caller]
    pub(crate) fn status(&self) -> Status {
        let said = self.weft(&["status", "--output", "json"]).unwrap_or_else(|error| panic!("{error}"));
        serde_json::from_str(&said).unwrap_or_else(|error| panic!("{error}: {said}"))
    }

    /// Waits until this node enforces all that it has heard of.
    #[track_caller]
    pub(crate) fn settle(&self) {
        self.weft(&["status", "--wait", "30s", "--output", "json"])
            .unwrap_or_else(|error| panic!("{}: {error}", self.node));
    }
}

/// Waits until every node has heard of the route or policy `name` as `holds` wants it, and enforces that: from then on
/// everything has to be right.
#[track_caller]
pub(crate) fn enforced(kind: &str, namespace: &str, name: &str, holds: impl Fn(&Value) -> bool) {
    for agent in Agent::all() {
        eventually(PATIENCE, || {
            let said = agent.weft(&["get", kind, "--output", "json"]).unwrap_or_default();
            let all: Value = serde_json::from_str(&said).unwrap_or_default();
            all.as_array().is_some_and(|all| {
                all.iter().any(|one| one["namespace"] == namespace && one["name"] == name && holds(one))
            })
        });
        agent.settle();
    }
}

/// Waits until pods of `namespace` are in the mesh, so many of them.
#[track_caller]
pub(crate) fn enrolled(namespace: &str, count: usize) {
    let prefix = format!("{namespace}/");
    eventually(PATIENCE, || {
        let agents = Agent::all();
        let pods = agents.iter().flat_map(|agent| agent.status().pods);
        pods.filter(|pod| pod.name.starts_with(&prefix) && pod.state.to_string() == "Enforced").count()
            == count
    });
}

fn is_ready(pod: &Value) -> bool {
    let conditions = pod["status"]["conditions"].as_array().cloned().unwrap_or_default();
    pod["metadata"]["deletionTimestamp"].is_null()
        && conditions.iter().any(|one| one["type"] == "Ready" && one["status"] == "True")
}

pub(crate) const SYSTEM: &str = "weft-system";
const SELECTOR: &str = "app.kubernetes.io/name=weft,app.kubernetes.io/component=agent";
/// As long as anything takes that works, on a machine that has other things to do.
pub(crate) const PATIENCE: Duration = Duration::from_mins(1);
