//! The shop: two nodes, seven pods, their servers, and the manifests both agents read.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;

use anyhow::{Context as _, Result};
use weft_tests::{Agent, Node, Pod, Running, World, soon};

/// A file's name and its text.
macro_rules! example {
    ($file:literal) => {
        ($file, include_str!(concat!("../../../../deploy/examples/shop/", $file)))
    };
}

/// Everything the story is about. Fields are dropped in their order: agents first, the world last.
pub(crate) struct Shop {
    pub(crate) agents: Vec<Agent>,
    pub(crate) servers: Vec<Running>,
    pub(crate) nodes: [Node; 2],
    pub(crate) pods: Pods,
    pub(crate) world: World,
}

/// Each has a `ServiceAccount` of its own, but for the two versions of the api.
pub(crate) struct Pods {
    pub(crate) visitor: Pod,
    pub(crate) web: Pod,
    pub(crate) api_v1: Pod,
    pub(crate) api_v2: Pod,
    pub(crate) db: Pod,
    pub(crate) reports: Pod,
    pub(crate) intruder: Pod,
}

/// The Services' addresses, as in the manifests.
pub(crate) const WEB: &str = "10.96.0.10:80";
pub(crate) const API: &str = "10.96.0.20:80";
pub(crate) const DB: &str = "10.96.0.30:6379";

/// Nobody listens there.
const NO_DB: &str = "127.0.0.1:1";
/// Its place among the servers.
const API_V2: usize = 2;

/// Files of `deploy/examples/shop`.
pub(crate) const SPLIT: (&str, &str) = example!("split.yaml");
pub(crate) const CANARY: (&str, &str) = example!("canary.yaml");
pub(crate) const DB_CLIENTS: (&str, &str) = example!("db-clients.yaml");
pub(crate) const API_CALLERS: (&str, &str) = example!("api-callers.yaml");
const SERVICES: [(&str, &str); 4] =
    [example!("namespace.yaml"), example!("web.yaml"), example!("api.yaml"), example!("db.yaml")];

impl Shop {
    /// Makes namespaces and starts servers; no agent yet.
    pub(crate) fn open() -> Result<Self> {
        let world = World::named("demo");
        let [a, b] = [world.node("a"), world.node("b")];
        for (file, yaml) in SERVICES {
            world.apply(file, yaml);
        }
        let pods = Pods {
            visitor: pod(&a, "visitor", "10.77.1.1", "visitor", ""),
            web: pod(&a, "web", "10.77.1.2", "web", ""),
            api_v1: pod(&b, "api-v1", "10.77.2.1", "api", "v1"),
            api_v2: pod(&b, "api-v2", "10.77.2.2", "api", "v2"),
            db: pod(&b, "db", "10.77.2.3", "db", ""),
            reports: pod(&b, "reports", "10.77.2.4", "reports", ""),
            intruder: pod(&b, "intruder", "10.77.2.5", "intruder", ""),
        };
        let servers = pods.start_servers(world.dir())?;
        Ok(Self { agents: Vec::new(), servers, nodes: [a, b], pods, world })
    }

    /// Puts a file in force on both nodes, and says once both have it in the kernel.
    pub(crate) fn apply(&self, (file, yaml): (&str, &str)) {
        self.world.apply(file, yaml);
        self.wait();
    }

    /// From now on `api-v2` has a database that is not there: it fails every order.
    pub(crate) fn break_api_v2(&mut self) -> Result<()> {
        self.restart_api_v2(NO_DB)
    }

    /// It has its database again.
    pub(crate) fn mend_api_v2(&mut self) -> Result<()> {
        self.restart_api_v2(DB)
    }

    fn restart_api_v2(&mut self, db: &str) -> Result<()> {
        let demo = std::env::current_exe().context("find this binary")?;
        let dir = self.world.dir().to_owned();
        let server = self.servers.get_mut(API_V2).context("find api-v2's server")?;
        // Ended before the next one takes its port.
        *server = start(&self.pods.api_v2, &dir, "true");
        *server = start(&self.pods.api_v2, &dir, &format!("{} api api-v2 {db}", demo.display()));
        let to = SocketAddr::from((self.pods.api_v2.ip(), 8080));
        soon(|| self.pods.db.tcp_connect(to).is_ok());
        Ok(())
    }

    /// Until both agents have in the kernel what is in their directories.
    pub(crate) fn wait(&self) {
        for node in &self.nodes {
            node.wait();
        }
    }
}

impl Pods {
    fn start_servers(&self, dir: &Path) -> Result<Vec<Running>> {
        let demo = std::env::current_exe().context("find this binary")?;
        let demo = demo.display();
        let web = dir.join("web");
        fs::create_dir(&web).context("make nginx's folder")?;
        fs::write(web.join("nginx.conf"), include_str!("nginx.conf")).context("write nginx.conf")?;
        let web = web.display();
        let servers = vec![
            start(&self.web, dir, &format!("nginx -p {web} -c nginx.conf -e nginx.log")),
            start(&self.api_v1, dir, &format!("{demo} api api-v1 {DB}")),
            start(&self.api_v2, dir, &format!("{demo} api api-v2 {DB}")),
            start(&self.db, dir, "redis-server --protected-mode no --save '' --appendonly no"),
        ];
        for (pod, port) in [(&self.web, 80), (&self.api_v1, 8080), (&self.api_v2, 8080), (&self.db, 6379)] {
            let to = SocketAddr::from((pod.ip(), port));
            soon(|| self.visitor.tcp_connect(to).is_ok());
        }
        Ok(servers)
    }
}

fn pod(node: &Node, name: &str, ip: &str, account: &str, version: &str) -> Pod {
    let pod = node.pod(&format!("shop/{name}")).ip(ip).service_account(account).label("app", account);
    if version.is_empty() { pod.start() } else { pod.label("version", version).start() }
}

/// A command that holds neither the terminal nor a pipe of this process, and so can outlive it.
pub(crate) fn start(pod: &Pod, dir: &Path, command: &str) -> Running {
    let log = dir.join("servers.log");
    let script = format!("cd {} && exec {command} >>{} 2>&1", dir.display(), log.display());
    pod.spawn(&["sh", "-c", &script])
}
