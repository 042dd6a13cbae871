//! `weft status` of a cluster in which not each node has an agent's pod.

use std::process::{Command, Output};

use serde_json::json;
use weft_tests::{text, weft};

use super::stage::{Stage, pod};

impl Stage {
    /// The DaemonSet's controller has counted so many nodes that are to have an agent.
    async fn agents_wanted(&self, nodes: usize) {
        let mut sets = self.server.list("apps/v1", "DaemonSet").await;
        let mut set = sets.remove(0);
        let generation = set["metadata"]["generation"].clone();
        set["metadata"] = json!({"name": "weft", "namespace": "weft-system"});
        set["status"] = json!({"observedGeneration": generation, "desiredNumberScheduled": nodes,
            "currentNumberScheduled": nodes, "numberMisscheduled": 0, "numberReady": 0});
        self.server.apply(&set).await;
    }

    fn status(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(weft());
        command.arg("status").args(arguments).arg("--kubeconfig").arg(self.server.kubeconfig("admin"));
        command.output().unwrap()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_is_to_have_an_agent_and_has_no_pod_of_one_is_missed() {
    let stage = Stage::open().await;
    for node in ["n1", "n2"] {
        let mut agent = pod("weft-system", &format!("weft-{node}"), "weft-agent", node);
        agent["metadata"]["labels"] =
            json!({"app.kubernetes.io/name": "weft", "app.kubernetes.io/component": "agent"});
        agent["spec"]["containers"][0]["name"] = "agent".into();
        // The name of a container is not changed.
        stage.server.delete(&agent).await;
        stage.server.apply(&agent).await;
    }
    let lacks = "DaemonSet weft-system/weft wants an agent on nodes that have no pod of one";
    // Nobody has counted yet.
    assert!(text(&stage.status(&[])).contains(lacks));
    stage.agents_wanted(2).await;
    let whole = stage.status(&[]);
    assert!(!text(&whole).contains(lacks) && text(&whole).contains("n2"), "{}", text(&whole));
    stage.agents_wanted(3).await;
    for arguments in [&[][..], &["--wait", "1s"]] {
        let said = stage.status(arguments);
        assert!(text(&said).contains(lacks), "{}", text(&said));
        assert_ne!(said.status.code(), Some(0));
    }
    // Who asks for one node asks for no more.
    assert!(!text(&stage.status(&["--node", "n1"])).contains(lacks));
}
