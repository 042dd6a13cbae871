//! A machine of the mesh, as its agent sees it.

use std::fs;
use std::io::{self, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use serde_json::Value;

use crate::command::{text, weft};
use crate::world::{Shared, write_atomically};
use crate::{Agent, MemoryGroup, Pod, PodBuilder, agent, manifests, traces};

/// A part of the machine with a cgroup, folders and an agent of its own.
#[derive(Clone)]
pub struct Node {
    pub(crate) world: Arc<Shared>,
    name: String,
    dir: PathBuf,
    cgroup: PathBuf,
    metrics: SocketAddr,
}

impl Node {
    pub(crate) fn new(world: Arc<Shared>, short: &str) -> Self {
        let name = format!("{}-{short}", world.name);
        let (dir, cgroup) = (world.dir.join(short), world.cgroup.join(short));
        let node = Self { metrics: metrics_address(), world, name, dir, cgroup };
        for folder in [&node.agent_cgroup(), &node.run_dir(), &node.state_dir(), &node.manifests_dir()] {
            fs::create_dir_all(folder)
                .unwrap_or_else(|error| panic!("cannot make {}: {error}", folder.display()));
        }
        node.world.add_manifests(&node.manifests_dir());
        node
    }

    /// A new pod, `namespace/name`, that is on this node.
    pub fn pod(&self, name: &str) -> PodBuilder {
        PodBuilder::new(self.clone(), name)
    }

    /// A process of the node itself, such as the kubelet: host network, a cgroup `name` of its own.
    pub fn host_process(&self, name: &str) -> Pod {
        Pod::on_host(self, name)
    }

    /// Says where the node is, in a Node object for every node.
    pub fn zone(&self, zone: &str) {
        self.world.apply(&format!("node-{}.yaml", self.name), &manifests::node(&self.name, zone));
    }

    /// Starts the agent and waits until what is in the manifests folder is enforced.
    pub fn agent(&self) -> Agent {
        let agent = self.spawn_agent(&[]);
        self.wait();
        agent
    }

    /// Starts the agent with more arguments, and does not wait for it. With a `--kubeconfig` among them it reads no manifests.
    pub fn spawn_agent(&self, arguments: &[&str]) -> Agent {
        self.spawn_agent_by(&[], arguments)
    }

    /// As [`Node::spawn_agent`], by way of a command, such as [`private`](crate::private) makes.
    pub fn spawn_agent_by(&self, wrapper: &[String], arguments: &[&str]) -> Agent {
        Agent::spawn(self.clone(), wrapper, Some(self.cgroup.clone()), arguments)
    }

    /// Starts the agent by way of a command, such as [`private`](crate::private) makes.
    pub fn wrap_agent(&self, wrapper: &[String]) -> Agent {
        self.spawn_agent_by(wrapper, &[])
    }

    /// Starts the agent without `--cgroup`: it has to find one.
    pub fn rooted_agent(&self) -> Agent {
        Agent::spawn(self.clone(), &[], None, &[])
    }

    /// A new group of the memory controller, for its agent.
    #[track_caller]
    pub fn memory_group(&self) -> MemoryGroup {
        MemoryGroup::make(&format!("{}-memory", self.name))
    }

    /// Runs an agent that is to refuse, without `--cgroup` unless it is in `arguments`, and says how it
    /// ended.
    pub fn refused_agent(&self, wrapper: &[String], arguments: &[&str]) -> Output {
        let mut command = agent::command(self, wrapper);
        command.arg("--manifests").arg(self.manifests_dir());
        let child = command.args(arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
        let child = child.expect("the helper can be started");
        child.wait_with_output().expect("a child can be waited for")
    }

    /// Writes a file of manifests for this node alone.
    pub fn apply(&self, file: &str, yaml: &str) {
        write_atomically(&self.manifests_dir(), file, yaml);
    }

    /// Writes a file of manifests for this node alone, and waits until it is enforced.
    #[track_caller]
    pub fn apply_and_wait(&self, file: &str, yaml: &str) {
        self.apply(file, yaml);
        self.wait();
    }

    /// Removes a file of manifests from this node.
    pub fn remove(&self, file: &str) {
        let path = self.manifests_dir().join(file);
        fs::remove_file(&path).unwrap_or_else(|error| panic!("cannot remove {}: {error}", path.display()));
    }

    /// Waits until all that is in the manifests folder now is enforced in the kernel.
    #[track_caller]
    pub fn wait(&self) {
        let output = self.weft(&["status", "--wait", "60s"]);
        assert!(output.status.success(), "weft status --wait 60s: {}\n{}", output.status, text(&output));
    }

    /// Runs `weft <arguments> --run-dir <this node's>`.
    pub fn weft(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(weft());
        command.args(arguments).arg("--run-dir").arg(self.run_dir());
        command.output().unwrap_or_else(|error| panic!("cannot run weft: {error}"))
    }

    /// Runs `weft <arguments>`, which concerns no agent.
    pub fn weft_alone(&self, arguments: &[&str]) -> Output {
        Command::new(weft())
            .args(arguments)
            .output()
            .unwrap_or_else(|error| panic!("cannot run weft: {error}"))
    }

    /// What `weft <arguments> -o json` of this node prints.
    #[track_caller]
    pub fn weft_json(&self, arguments: &[&str]) -> Value {
        let output = self.weft(&[arguments, &["-o", "json"]].concat());
        assert!(output.status.success(), "weft {arguments:?}: {}\n{}", output.status, text(&output));
        serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error} in {}", text(&output)))
    }

    /// The sum of all series of a metric that have every one of `labels`, such as `reason="denied"`.
    pub fn metric(&self, name: &str, labels: &[&str]) -> f64 {
        let page = self.http("/metrics").unwrap_or_else(|error| panic!("cannot read metrics: {error}"));
        let series = page.lines().filter_map(|line| line.strip_prefix(name));
        let series = series.filter(|rest| rest.starts_with(['{', ' ']));
        let wanted = series.filter(|rest| labels.iter().all(|label| rest.contains(label)));
        wanted.filter_map(|rest| rest.rsplit(' ').next()?.parse::<f64>().ok()).sum()
    }

    /// What the agent has in the kernel for this node: pins, links on its cgroup and on the namespaces
    /// of the world's pods, and programs that outlived their links. Empty after `weft cleanup`.
    pub fn traces(&self) -> Vec<String> {
        traces::of(self)
    }

    /// Its name in manifests: the world's, then the one it was made with.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The group that holds those of its pods.
    pub fn cgroup(&self) -> &Path {
        &self.cgroup
    }

    /// The group that its agent is in, below the one that its programs are attached to, as on a real node: pods'
    /// listeners are its own sockets.
    pub fn agent_cgroup(&self) -> PathBuf {
        self.cgroup.join("agent")
    }

    /// `--run-dir` of its agent.
    pub fn run_dir(&self) -> PathBuf {
        self.dir.join("run")
    }

    /// `--state-dir` of its agent.
    pub fn state_dir(&self) -> PathBuf {
        self.dir.join("state")
    }

    /// `--manifests` of its agent.
    pub fn manifests_dir(&self) -> PathBuf {
        self.dir.join("manifests")
    }

    /// `--metrics` of its agent.
    pub fn metrics(&self) -> SocketAddr {
        self.metrics
    }

    /// A folder of the node's own, for what else it has.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Where its agent logs.
    pub fn log(&self) -> PathBuf {
        self.dir.join("agent.log")
    }

    /// The answer, head and body, of the agent's metrics address to a GET of `path`.
    pub fn http(&self, path: &str) -> io::Result<String> {
        let mut stream = TcpStream::connect(self.metrics)?;
        stream.set_read_timeout(Some(Duration::from_secs(5)))?;
        stream.write_all(format!("GET {path} HTTP/1.0\r\n\r\n").as_bytes())?;
        let mut page = String::new();
        stream.read_to_string(&mut page)?;
        Ok(page)
    }
}

/// A loopback address of this process and a port of this node: no other test has the same.
fn metrics_address() -> SocketAddr {
    static PORTS: AtomicU16 = AtomicU16::new(9470);
    let [_, high, middle, low] = std::process::id().to_be_bytes();
    // A process id has 22 bits; 127.0.0.0/16 is where other programs listen.
    (Ipv4Addr::new(127, high + 1, middle, low), PORTS.fetch_add(1, Ordering::Relaxed)).into()
}
