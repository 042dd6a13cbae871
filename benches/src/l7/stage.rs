//! The pods and proxies that are compared.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path as File, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use weft_tests::{Agent, Node, Pod, Running, World, eventually, manifests as objects};

use super::envoy::Hop;
use super::path::{Path, Port};
use super::pin::Cpu;
use super::{Plan, envoy, manifests, nginx, process};
use crate::site;
use crate::work::Work;

/// Dropped from top to bottom: the agent before what it works on.
pub(super) struct Stage {
    agent: Agent,
    proxies: Vec<(Path, Running)>,
    /// Clients, servers: a pair that weft knows nothing of, and an enrolled one.
    bare: Pair,
    mesh: Pair,
    node: Node,
    world: World,
}

/// A client and its server.
pub(crate) struct Pair {
    pub(crate) client: Pod,
    pub(crate) server: Pod,
    _serving: [Running; 2],
}

impl Pair {
    /// Pods called `<name>-client` and `<name>-server`, whose Service has a route.
    pub(super) fn start(world: &World, node: &Node, name: &str, enrolled: bool) -> Result<Self> {
        Self::between(world, [node, node], name, enrolled, Cpu::Load)
    }

    /// The same, with the client on the first node and the server, which runs on `cpu`, on the other.
    pub(crate) fn between(
        world: &World,
        [here, there]: [&Node; 2],
        name: &str,
        enrolled: bool,
        cpu: Cpu,
    ) -> Result<Self> {
        let pod = |node: &Node, role: &str, label: &str| {
            let pod = node.pod(&format!("shop/{name}-{role}")).service_account(role);
            if enrolled { pod.label("app", label).start() } else { pod.outsider().start() }
        };
        let (client, server) = (pod(here, "client", "client"), pod(there, "server", name));
        // Ten thousand connections to one address, and a port that was used a moment ago is not needed again.
        let ports = client.exec(&["sysctl", "-qw", "net.ipv4.ip_local_port_range=1024 65535"]);
        ensure!(ports.status.success(), "sysctl: {}", weft_tests::text(&ports));
        let folder = world.dir().join(name);
        fs::create_dir_all(&folder).with_context(|| format!("make {}", folder.display()))?;
        fs::write(folder.join(nginx::MESSAGE), nginx::FRAME)?;
        let serving = [
            start_nginx(&server, &folder.join("server.conf"), &nginx::server(&folder), cpu)?,
            Work::ServeBulk { port: Port::Bulk.of_server() }.start_in(&server)?,
        ];
        for port in Port::ALL {
            wait_for(&server, server.addr(port.of_server()));
        }
        Ok(Self { client, server, _serving: serving })
    }
}

impl Stage {
    /// Starts everything that `plan` compares, and waits until it serves.
    pub(super) fn open(plan: &Plan) -> Result<Self> {
        let world = site::world()?;
        let (beside, node) = (world.node("beside"), world.node("mesh"));
        let bare = Pair::start(&world, &beside, "bare", false)?;
        let mesh = Pair::start(&world, &node, "mesh", true)?;
        let mut proxies = Vec::new();
        for path in &plan.paths {
            match path {
                Path::NoMesh | Path::Weft => {}
                Path::Nginx => {
                    let text = nginx::proxy(world.dir(), bare.server.addr(0));
                    let file = world.dir().join("proxy.conf");
                    proxies.push((*path, start_nginx(&bare.client, &file, &text, Cpu::Proxies)?));
                }
                Path::Envoy | Path::EnvoyTwice => {
                    let envoys = start_envoys(plan, &world, &bare, *path)?;
                    proxies.extend(envoys.into_iter().map(|one| (*path, one)));
                }
            }
        }
        node.apply("namespace.yaml", &objects::namespace("shop", true));
        node.apply("mesh.yaml", &manifests::routed("mesh", SERVICE));
        let agent = start_agent(&node)?;
        let stage = Self { agent, proxies, bare, mesh, node, world };
        for path in &plan.paths {
            for port in Port::ALL {
                wait_for(stage.client(*path), stage.address(*path, port));
            }
        }
        Ok(stage)
    }

    /// Where the load of `path` comes from.
    pub(super) fn client(&self, path: Path) -> &Pod {
        if path == Path::Weft { &self.mesh.client } else { &self.bare.client }
    }

    /// Whom it dials.
    pub(super) fn address(&self, path: Path, port: Port) -> SocketAddr {
        let number = port.of_proxy(path);
        match path {
            Path::NoMesh => self.bare.server.addr(number),
            Path::Weft => (manifests::vip(SERVICE), number).into(),
            Path::Envoy | Path::EnvoyTwice | Path::Nginx => (Ipv4Addr::LOCALHOST, number).into(),
        }
    }

    /// The processes that carry it; none without a mesh.
    pub(super) fn carriers(&self, path: Path) -> Vec<u32> {
        match path {
            Path::Weft => self.proxy().into_iter().chain(self.agent.pid()).collect(),
            _ => self.proxies.iter().filter(|(of, _)| *of == path).map(|(_, one)| one.id()).collect(),
        }
    }

    /// The process whose memory connections take.
    pub(super) fn keeper(&self, path: Path) -> Option<u32> {
        if path == Path::Weft { self.proxy() } else { self.carriers(path).first().copied() }
    }

    /// The file of a gRPC call's message.
    pub(super) fn message(&self) -> PathBuf {
        self.world.dir().join("bare").join(nginx::MESSAGE)
    }

    fn proxy(&self) -> Option<u32> {
        u32::try_from(self.node.proxy_pid()).ok()
    }
}

/// An agent, and with it the proxy, on the CPU of the proxies.
pub(super) fn start_agent(node: &Node) -> Result<Agent> {
    let agent = node.wrap_agent(&Cpu::Proxies.pinned());
    let waited = node.weft(&["status", "--wait", "60s"]);
    ensure!(waited.status.success(), "weft status --wait: {}", weft_tests::text(&waited));
    let problems = node.weft_json(&["status"])["problems"].clone();
    ensure!(problems.as_array().is_none_or(Vec::is_empty), "the manifests have problems: {problems}");
    eventually(START, || node.has_proxy());
    let proxy = u32::try_from(node.proxy_pid()).context("a process id is not negative")?;
    let workers = process::threads(proxy)?.iter().filter(|name| name.starts_with("weft-worker")).count();
    ensure!(workers == 1, "the proxy has {workers} workers on one CPU: the others have one");
    Ok(agent)
}

fn start_envoys(plan: &Plan, world: &World, pair: &Pair, path: Path) -> Result<Vec<Running>> {
    let local = |port: Port| SocketAddr::from((Ipv4Addr::LOCALHOST, port.of_proxy(path)));
    let twice = path == Path::EnvoyTwice;
    let first = Port::ALL.map(|port| {
        let number = if twice { port.of_second_hop() } else { port.of_server() };
        Hop { at: local(port), to: pair.server.addr(number), http2: port.is_http2() }
    });
    let second = Port::ALL.map(|port| {
        let at = (Ipv4Addr::UNSPECIFIED, port.of_second_hop()).into();
        let to = (Ipv4Addr::LOCALHOST, port.of_server()).into();
        Hop { at, to, http2: port.is_http2() }
    });
    let sides = [(&pair.client, first, "client"), (&pair.server, second, "server")];
    let start = |(pod, hops, side): (&Pod, [Hop; 4], &str)| {
        let file = world.dir().join(format!("{path:?}-{side}.json"));
        fs::write(&file, envoy::configuration(&hops)).with_context(|| format!("write {}", file.display()))?;
        Ok(Cpu::Proxies.start(pod, &envoy::command(&plan.envoy, &file)))
    };
    sides.into_iter().take(if twice { 2 } else { 1 }).map(start).collect()
}

fn start_nginx(pod: &Pod, file: &File, text: &str, cpu: Cpu) -> Result<Running> {
    fs::write(file, text).with_context(|| format!("write {}", file.display()))?;
    let file = file.to_str().context("the bench's own paths are UTF-8")?;
    Ok(cpu.start(pod, &["nginx", "-c", file]))
}

fn wait_for(pod: &Pod, at: SocketAddr) {
    eventually(START, || pod.tcp_connect(at).is_ok());
}

const SERVICE: u8 = 1;
const START: Duration = Duration::from_secs(20);
