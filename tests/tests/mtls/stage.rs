//! What these tests begin with: the pod `web` on node `a` and `api` on node `b`, behind the Service `shop/api`; agents of
//! both nodes that issue certificates of one authority.

use std::collections::BTreeSet;
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use weft_tests::{Agent, Node, Pod, Server, World, manifests, soon};

use crate::path::SECRET;

/// Dropped from top to bottom: the agents before what they work on.
pub(crate) struct Stage {
    pub(crate) agents: Vec<Agent>,
    _servers: Vec<Server>,
    /// Of each node: its connections are probes there.
    pub(crate) kubelets: [Pod; 2],
    pub(crate) web: Pod,
    pub(crate) api: Pod,
    pub(crate) a: Node,
    pub(crate) b: Node,
    pub(crate) world: World,
}

/// The Service in front of `api`.
pub(crate) const API: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(10, 96, 0, 1)), 80);

impl Stage {
    /// `api` echoes behind the Service's port 80; `documents` are in force from the start.
    pub(crate) fn open(documents: &[(&str, String)]) -> Option<Self> {
        let stage = Self::start(documents, |api| vec![api.serve_echo(8080)])?;
        stage.wait();
        Some(stage)
    }

    /// As [`Stage::open`], with what `serve` starts on `api`, and does not wait for certificates.
    pub(crate) fn start(
        documents: &[(&str, String)],
        serve: impl FnOnce(&Pod) -> Vec<Server>,
    ) -> Option<Self> {
        Self::start_with(["ca", "ca"], documents, serve)
    }

    /// As [`Stage::start`]; each node has the authority in this folder.
    pub(crate) fn start_with(
        authorities: [&str; 2],
        documents: &[(&str, String)],
        serve: impl FnOnce(&Pod) -> Vec<Server>,
    ) -> Option<Self> {
        Self::start_by(authorities, &[], documents, serve)
    }

    /// As [`Stage::open`], with agents that end what a pod has left behind after so long.
    pub(crate) fn open_with_drain(drain: &str) -> Option<Self> {
        let drain = ["--proxy-drain".to_owned(), drain.to_owned()];
        let stage = Self::start_beside(["ca", "ca"], &drain, &[], &[], |api| vec![api.serve_echo(8080)])?;
        stage.wait();
        Some(stage)
    }

    /// As [`Stage::start_with`]; the agent of node `b` is started by way of a command.
    pub(crate) fn start_by(
        authorities: [&str; 2],
        wrapper: &[String],
        documents: &[(&str, String)],
        serve: impl FnOnce(&Pod) -> Vec<Server>,
    ) -> Option<Self> {
        Self::start_beside(authorities, &[], wrapper, documents, serve)
    }

    fn start_beside(
        authorities: [&str; 2],
        more: &[String],
        wrapper: &[String],
        documents: &[(&str, String)],
        serve: impl FnOnce(&Pod) -> Vec<Server>,
    ) -> Option<Self> {
        let world = World::new()?;
        let (a, b) = (world.node("a"), world.node("b"));
        world.apply("namespace.yaml", &manifests::namespace("shop", true));
        let spec = "{clusterIP: 10.96.0.1, selector: {app: api}, ports: [{port: 80, targetPort: 8080}]}";
        world.apply("api.yaml", &manifests::service("shop/api", spec));
        for (file, document) in documents {
            world.apply(file, document);
        }
        let web = a.pod("shop/web").service_account("web").start();
        let api = b.pod("shop/api").service_account("api").label("app", "api").start();
        let servers = serve(&api);
        let folders = authorities.map(|name| world.dir().join(name).display().to_string());
        for folder in folders.iter().collect::<BTreeSet<_>>() {
            let made = a.weft_alone(&["ca", "init", "--dir", folder]);
            assert!(made.status.success(), "{}", weft_tests::text(&made));
        }
        let kubelets = [&a, &b].map(|node| node.host_process("kubelet"));
        let arguments = |at: usize| {
            let probes = kubelets[at].cgroup().display().to_string();
            let own = ["--ca-dir".to_owned(), folders[at].clone(), "--probe-cgroup".to_owned(), probes];
            own.into_iter().chain(more.iter().cloned()).collect::<Vec<_>>()
        };
        let [of_a, of_b] = [arguments(0), arguments(1)];
        let of_a = a.spawn_agent(&of_a.iter().map(String::as_str).collect::<Vec<_>>());
        let of_b = b.spawn_agent_by(wrapper, &of_b.iter().map(String::as_str).collect::<Vec<_>>());
        let agents = [of_a, of_b];
        let stage = Self { agents: agents.into(), _servers: servers, kubelets, web, api, a, b, world };
        stage.settle();
        Some(stage)
    }

    /// Waits until `web` reaches `api`: both nodes' certificates and proxies are there.
    #[track_caller]
    pub(crate) fn wait(&self) {
        soon(|| self.a.has_proxy() && self.b.has_proxy());
        soon(|| self.echoes(API, b"there?").is_ok());
    }

    /// Waits until both nodes enforce what is in the manifests now.
    #[track_caller]
    pub(crate) fn settle(&self) {
        for node in [&self.a, &self.b] {
            // Two agents load their programs at once, on what may be a busy machine.
            let waited = node.weft(&["status", "--wait", "60s"]);
            assert!(waited.status.success(), "{}", weft_tests::text(&waited));
        }
    }

    /// What comes back of `bytes` that `web` sends to `to`.
    pub(crate) fn echoes(&self, to: SocketAddr, bytes: &[u8]) -> std::io::Result<()> {
        let mut stream = self.web.tcp_connect(to)?;
        stream.set_read_timeout(Some(Duration::from_secs(10)))?;
        stream.write_all(bytes)?;
        let mut back = vec![0; bytes.len()];
        stream.read_exact(&mut back)?;
        if back == bytes { Ok(()) } else { Err(std::io::Error::other("other bytes came back")) }
    }
}

/// Whether what `from` sends to `to` comes back.
pub(crate) fn talks(from: &Pod, to: SocketAddr) -> Result<(), ErrorKind> {
    let exchange = || {
        let mut stream = from.tcp_connect(to)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.write_all(SECRET)?;
        let mut back = vec![0; SECRET.len()];
        stream.read_exact(&mut back)?;
        if back == SECRET { Ok(()) } else { Err(std::io::Error::other("other bytes came back")) }
    };
    exchange().map_err(|error: std::io::Error| error.kind())
}

const PATIENCE: Duration = Duration::from_secs(20);
