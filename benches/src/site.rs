//! A client and a server, on a node of their own.

use std::net::Ipv4Addr;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use weft_tests::{Agent, Node, Pod, Running, World, eventually};

use crate::manifests::File;
use crate::work::{ANSWER_AND_KEEP, Work};

/// A new network.
pub(crate) fn world() -> Result<World> {
    World::new().context("WEFT_E2E=off leaves nothing to measure")
}

/// One of the things that are compared.
pub(crate) struct Side {
    /// Its node.
    pub(crate) node: Node,
    /// Where the load comes from.
    pub(crate) client: Pod,
    server: Pod,
    _serving: Running,
    agent: Option<Agent>,
}

impl Side {
    /// Pods of a node. Without an agent, nothing of weft is attached to either of them.
    pub(crate) fn new(world: &World, name: &str, enrolled: bool) -> Result<Self> {
        let node = world.node(name);
        let pod = |role: &str| {
            let pod = node.pod(&format!("shop/{name}-{role}")).service_account(role);
            if enrolled { pod.label("app", role).start() } else { pod.outsider().start() }
        };
        let (client, server) = (pod("client"), pod("server"));
        // A port that was used a moment ago should not be needed again.
        let ports = client.exec(&["sysctl", "-qw", "net.ipv4.ip_local_port_range=1024 65535"]);
        ensure!(ports.status.success(), "sysctl: {}", String::from_utf8_lossy(&ports.stderr));
        let serving = Work::Serve.start_in(&server)?;
        let at = server.addr(ANSWER_AND_KEEP);
        eventually(Duration::from_secs(10), || server.tcp_connect(at).is_ok());
        Ok(Self { node, client, server, _serving: serving, agent: None })
    }

    /// Writes manifests for its node.
    pub(crate) fn apply(&self, files: impl IntoIterator<Item = File>) {
        for (name, text) in files {
            self.node.apply(&name, &text);
        }
    }

    /// Starts its agent and waits until everything is enforced.
    pub(crate) fn start_agent(&mut self) -> Result<()> {
        self.agent = Some(self.node.spawn_agent(&[]));
        let output = self.node.weft(&["status", "--wait", "120s"]);
        let said = [output.stdout, output.stderr].concat();
        ensure!(output.status.success(), "weft status --wait: {}", String::from_utf8_lossy(&said));
        let problems = self.node.weft_json(&["status"])["problems"].as_array().map_or(0, Vec::len);
        ensure!(problems == 0, "the manifests have problems: {}", String::from_utf8_lossy(&said));
        Ok(())
    }

    /// Ends its agent, and takes everything of it out of the kernel.
    pub(crate) fn stop_agent(&mut self) {
        drop(self.agent.take());
    }

    /// Process id of its agent.
    pub(crate) fn agent_pid(&self) -> Option<u32> {
        self.agent.as_ref().and_then(Agent::pid)
    }

    /// Address of its server.
    pub(crate) fn server_ip(&self) -> Ipv4Addr {
        self.server.ip()
    }

    /// Has its client do `work` that has one answer.
    pub(crate) fn measure(&self, work: &Work) -> Result<f64> {
        work.run_in(&self.client)?.first().copied().context("the work has no answer")
    }
}
