//! Two pairs of pods: one that weft knows nothing of, and one between two nodes of the mesh.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use weft_tests::{Agent, Node, Pod, Running, World, eventually, manifests};

use super::Plan;
use crate::l7::path::Port;
use crate::l7::pin::Cpu;
use crate::l7::stage::Pair;
use crate::site;
use crate::work::Work;

/// Dropped from top to bottom: the agents before what they work on.
pub(super) struct Stage {
    _agents: [Agent; 2],
    _many: Running,
    plain: Pair,
    weft: Pair,
    nodes: [Node; 2],
    _world: World,
}

/// What is compared.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    Plain,
    Weft,
}

impl Stage {
    /// Starts everything, and waits until it serves.
    pub(super) fn open(plan: &Plan) -> Result<Self> {
        let world = site::world()?;
        let beside = [world.node("here"), world.node("there")];
        let nodes = [world.node("a"), world.node("b")];
        let pair = |nodes: &[Node; 2], name, enrolled| {
            Pair::between(&world, nodes.each_ref(), name, enrolled, Cpu::All)
        };
        let (bare, mesh) = (pair(&beside, "bare", false)?, pair(&nodes, "mesh", true)?);
        let ports = u16::try_from(plan.rounds)? * plan.firsts;
        let many = Work::ServeMany { first: FIRST, count: ports };
        let many = Work::Spread(Box::new(many)).start_in(&mesh.server)?;
        eventually(START, || mesh.server.tcp_connect(mesh.server.addr(FIRST)).is_ok());
        world.apply("namespace.yaml", &manifests::namespace("shop", true));
        let folder = world.dir().join("ca").display().to_string();
        let made = nodes[0].weft_alone(&["ca", "init", "--dir", &folder]);
        ensure!(made.status.success(), "weft ca init: {}", weft_tests::text(&made));
        let agents = nodes.each_ref().map(|node| node.spawn_agent(&["--ca-dir", &folder]));
        for node in &nodes {
            let waited = node.weft(&["status", "--wait", "60s"]);
            ensure!(waited.status.success(), "weft status --wait: {}", weft_tests::text(&waited));
            eventually(START, || node.has_proxy());
        }
        let stage = Self { _agents: agents, _many: many, plain: bare, weft: mesh, nodes, _world: world };
        for side in [Side::Plain, Side::Weft] {
            let (client, to) = (stage.client(side), stage.server(side).addr(Port::Http1.of_server()));
            eventually(START, || client.get(to, "/", &[]).is_ok_and(|answer| answer.status == 200));
        }
        Ok(stage)
    }

    /// Where the load comes from.
    pub(super) fn client(&self, side: Side) -> &Pod {
        &self.pair(side).client
    }

    /// Whom it dials.
    pub(super) fn server(&self, side: Side) -> &Pod {
        &self.pair(side).server
    }

    /// The two proxies: the client's, the server's.
    pub(super) fn proxies(&self) -> Result<[u32; 2]> {
        let [client, server] = self.nodes.each_ref().map(|node| u32::try_from(node.proxy_pid()));
        Ok([client.context("a process id is not negative")?, server.context("a process id is not negative")?])
    }

    /// Fails unless what was measured went by mutual TLS.
    pub(super) fn ensure_secured(&self) -> Result<()> {
        let opened = |security: &str| {
            let labels = [&format!("connection_security_policy=\"{security}\""), "reporter=\"source\""];
            self.nodes[0].metric("istio_tcp_connections_opened_total", &labels)
        };
        eventually(START, || opened("mutual_tls") >= 1.0);
        ensure!(opened("none") < 1.0, "connections of weft's side went in clear");
        Ok(())
    }

    fn pair(&self, side: Side) -> &Pair {
        match side {
            Side::Plain => &self.plain,
            Side::Weft => &self.weft,
        }
    }
}

/// The first of the ports that are dialled once.
pub(super) const FIRST: u16 = 20_000;
const START: Duration = Duration::from_secs(30);
