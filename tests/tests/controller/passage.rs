//! Pods come into the mesh and leave it while they speak with each other, between two nodes: real agents, with the rights that
//! they are given, and a real controller.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    path::Path,
    process::Command,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use serde_json::{Value, json};
use weft_tests::{Agent, Node, Pod, Running, Server, World, eventually, soon, text, wire::Wire};

use super::{
    agent::{own_address, publish},
    stage::Stage,
    tokens::token,
    until,
};

/// `app/web` on one node, `app/far` on the other; they run, and nothing of the mesh does.
struct App {
    web: Real,
    far: Real,
    _servers: Vec<Server>,
    nodes: [Node; 2],
    stage: Stage,
    _world: World,
}

/// A pod that the API server has, and that runs.
struct Real {
    pod: Pod,
    name: &'static str,
    _process: Running,
}

/// Where a server speaks first, and where its client does.
const SAYS: u16 = 8080;
const ECHOES: u16 = 8081;

impl App {
    async fn start() -> Option<Self> {
        let world = World::new()?;
        let stage = Stage::open().await;
        let nodes = [world.node("a"), world.node("b")];
        namespace(&stage, "disabled").await;
        for node in &nodes {
            stage
                .server
                .apply(&json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": node.name()}}))
                .await;
        }
        let web = Real::start(&stage, &nodes[0], "web").await;
        let far = Real::start(&stage, &nodes[1], "far").await;
        let servers =
            [&web, &far].map(|real| [real.pod.serve_name(SAYS, real.name), real.pod.serve_echo(ECHOES)]);
        Some(Self {
            web,
            far,
            _servers: servers.into_iter().flatten().collect(),
            nodes,
            stage,
            _world: world,
        })
    }

    /// Starts the agent of a node as its kubelet would.
    async fn agent(&self, at: usize) -> Agent {
        let (stage, node) = (&self.stage, &self.nodes[at]);
        let name = format!("weft-{at}");
        stage.server.apply(&super::stage::pod("weft-system", &name, "weft-agent", node.name())).await;
        let uid = stage.uid("Pod", &name).await;
        let bound = Some(("Pod", name.as_str(), uid.as_str()));
        let proof = node.dir().join("token");
        fs::write(&proof, stage.token(Some("weft-ca"), bound).await).unwrap();
        let own = token(&stage.server, "weft-agent", None, bound).await;
        let kubeconfig = stage.server.kubeconfig_with("weft-agent", &own);
        let config = node.dir().join("kubeconfig");
        fs::copy(kubeconfig, &config).unwrap();
        let [config, proof] = [config, proof].map(|path| path.display().to_string());
        node.spawn_agent(&["--kubeconfig", &config, "--ca-token", &proof])
    }

    /// Waits until both nodes have both pods where they are to be.
    async fn until_all(&self, state: &str, told: bool) {
        for (node, own) in self.nodes.iter().zip([&self.web, &self.far]) {
            let full = format!("app/{}", own.name);
            eventually(Duration::from_mins(1), || {
                let status = status(node);
                let Some(pods) = status["pods"].as_array() else { return false };
                let found = pods.iter().find(|pod| pod["name"] == full.as_str());
                found.map_or("None", |pod| pod["state"].as_str().unwrap_or_default()) == state
            });
        }
        until("both are told to have joined, or to have left", async || {
            let pods = self.stage.server.list("v1", "Pod").await;
            let app = pods.iter().filter(|pod| pod["metadata"]["namespace"] == "app");
            app.map(|pod| &pod["metadata"]["annotations"]["weft.dev/joined"])
                .all(|word| word.is_string() == told)
        })
        .await;
    }

    /// Has both speak with each other in every way while `work` is done; everything has to be answered.
    fn loaded(&self, work: impl AsyncFnOnce(&Load)) {
        let load = Load { nodes: self.nodes.to_vec(), ..Load::default() };
        let done = AtomicBool::new(false);
        let runtime = tokio::runtime::Handle::current();
        tokio::task::block_in_place(|| {
            thread::scope(|scope| {
                let pairs = [(&self.web, &self.far), (&self.far, &self.web)];
                for (at, (from, to)) in pairs.into_iter().enumerate() {
                    let (load, done) = (&load, &done);
                    scope.spawn(move || {
                        load.repeat(2 * at, done, || hears(&from.pod, to.pod.addr(SAYS), to.name));
                    });
                    scope.spawn(move || {
                        load.repeat(2 * at + 1, done, || {
                            from.pod.tcp_connect(to.pod.addr(ECHOES)).and_then(|mut stream| echo(&mut stream))
                        });
                    });
                }
                // Also when `work` panics: the scope waits for the others.
                let _done = Done(&done);
                runtime.block_on(async {
                    load.some_more();
                    work(&load).await;
                    load.some_more();
                });
            });
        });
        assert_eq!(load.failed.into_inner().unwrap(), Vec::<String>::new());
    }

    /// Whether bytes of the load go between the two as they are: each of its connections is a new one.
    fn is_in_clear(&self, load: &Load) -> bool {
        let wire = Wire::new(&self.far.pod);
        load.some_more();
        wire.streams().iter().any(|stream| stream.contains(SECRET))
    }
}

impl Real {
    async fn start(stage: &Stage, node: &Node, name: &'static str) -> Self {
        let pod = node.pod(&format!("app/{name}")).outsider().start();
        let ip = pod.ip().to_string();
        stage
            .server
            .apply(&json!({
                "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": "app"},
                "spec": {"nodeName": node.name(), "serviceAccountName": name,
                    "containers": [{"name": "app", "image": "app"}]},
                "status": {"phase": "Running", "podIP": ip, "podIPs": [{"ip": ip}],
                    "conditions": [{"type": "Ready", "status": "True"}]}
            }))
            .await;
        let uid = stage.uid("Pod", name).await;
        let process = pod.spawn(&["sleep", "1000"]);
        let group = node.cgroup().join("kubepods/besteffort").join(format!("pod{uid}")).join("pause");
        fs::create_dir_all(&group).unwrap();
        let id = process.id();
        // By then it has become what it was to be.
        soon(|| fs::read_to_string(format!("/proc/{id}/comm")).is_ok_and(|name| name.trim() == "sleep"));
        fs::write(group.join("cgroup.procs"), id.to_string()).unwrap();
        Self { pod, name, _process: process }
    }
}

/// `weft status`, of an agent that may not be well yet, or not answer.
fn status(node: &Node) -> Value {
    let output = node.weft(&["status", "-o", "json"]);
    serde_json::from_slice(&output.stdout).unwrap_or_default()
}

async fn namespace(stage: &Stage, mesh: &str) {
    let labels = json!({"weft.dev/mesh": mesh});
    let object =
        json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "app", "labels": labels}});
    stage.server.apply(&object).await;
}

#[derive(Default)]
struct Load {
    nodes: Vec<Node>,
    answered: [AtomicUsize; 4],
    failed: Mutex<Vec<String>>,
}

impl Load {
    fn repeat(&self, way: usize, done: &AtomicBool, once: impl Fn() -> std::io::Result<()>) {
        while !done.load(Ordering::Relaxed) {
            match once() {
                Ok(()) => drop(self.answered[way].fetch_add(1, Ordering::Relaxed)),
                Err(error) => self.failed().push(format!("way {way}: {error}")),
            }
            thread::sleep(PACE);
        }
    }

    /// What the nodes say of it.
    fn refused(&self) -> String {
        let flows = |node: &Node| text(&node.weft(&["observe", "--verdict", "DENIED", "--last", "20"]));
        let told: Vec<_> =
            self.nodes.iter().map(|node| format!("refused at {}:\n{}", node.name(), flows(node))).collect();
        told.join("\n")
    }

    fn failed(&self) -> MutexGuard<'_, Vec<String>> {
        self.failed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until there is more traffic on every way.
    #[track_caller]
    fn some_more(&self) {
        let so_far = || self.answered.each_ref().map(|count| count.load(Ordering::Relaxed));
        let before = so_far();
        eventually(Duration::from_mins(1), || {
            let failed = self.failed().clone();
            assert!(failed.is_empty(), "{failed:?}\n{}", self.refused());
            so_far().iter().zip(before).all(|(now, before)| *now >= before + 20)
        });
    }
}

struct Done<'a>(&'a AtomicBool);

impl Drop for Done<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// A server that speaks first says its name.
fn hears(from: &Pod, to: SocketAddr, name: &str) -> std::io::Result<()> {
    let said = from.ask(to)?;
    if said == name { Ok(()) } else { Err(std::io::Error::other(format!("{to} is {said:?}"))) }
}

fn echo(stream: &mut TcpStream) -> std::io::Result<()> {
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    let mut back = [0; SECRET.len()];
    stream.write_all(SECRET)?;
    stream.read_exact(&mut back)?;
    if back == *SECRET { Ok(()) } else { Err(std::io::Error::other("other bytes came back")) }
}

/// What is not to be seen on the wire.
const SECRET: &[u8; 12] = b"between us 2";
/// The agents and proxies need the processor, too.
const PACE: Duration = Duration::from_millis(2);

#[tokio::test(flavor = "multi_thread")]
async fn a_mesh_that_is_installed_under_a_running_application_refuses_nothing_and_ends_up_sealed() {
    let Some(app) = App::start().await else { return };
    namespace(&app.stage, "enabled").await;
    let (mut agents, mut controllers) = (Vec::new(), Vec::new());
    app.loaded(async |load| {
        // One node after the other, and nobody yet who issues certificates.
        agents.extend([app.agent(0).await, app.agent(1).await]);
        for (node, real) in app.nodes.iter().zip([&app.web, &app.far]) {
            let full = format!("app/{}", real.name);
            eventually(Duration::from_mins(1), || {
                let status = status(node);
                status["pods"]
                    .as_array()
                    .into_iter()
                    .flatten()
                    .any(|pod| pod["name"] == full.as_str() && pod["state"] == "Enforced")
            });
            let waits = "cannot prove who they are yet: app/";
            soon(|| node.http("/readyz").is_ok_and(|answer| answer.contains(waits)));
        }
        assert!(app.is_in_clear(load), "as before");
        let controller = app.stage.controller_at(own_address()).await;
        publish(&app.stage, &[&controller]).await;
        controllers.push(controller);
        app.until_all("Enforced", true).await;
        load.some_more();
        for node in &app.nodes {
            soon(|| node.http("/readyz").is_ok_and(|answer| answer.contains(" 200 OK")));
        }
        assert!(!app.is_in_clear(load));
        load.some_more();
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn labels_bring_running_pods_in_and_out_again_and_refuse_and_cut_nothing() {
    let Some(app) = App::start().await else { return };
    let _agents = [app.agent(0).await, app.agent(1).await];
    let controller = app.stage.controller_at(own_address()).await;
    publish(&app.stage, &[&controller]).await;
    for node in &app.nodes {
        node.wait();
    }
    let mut kept = vec![app.web.pod.tcp_connect(app.far.pod.addr(ECHOES)).unwrap()];
    app.loaded(async |load| {
        for round in 0..2 {
            namespace(&app.stage, "enabled").await;
            app.until_all("Enforced", true).await;
            assert!(!app.is_in_clear(load), "round {round}");
            kept.push(app.web.pod.tcp_connect(app.far.pod.addr(ECHOES)).unwrap());
            for stream in &mut kept {
                echo(stream).unwrap_or_else(|error| panic!("round {round}, in: {error}"));
            }
            namespace(&app.stage, "disabled").await;
            load.some_more();
            app.until_all("None", false).await;
            load.some_more();
            kept.push(app.web.pod.tcp_connect(app.far.pod.addr(ECHOES)).unwrap());
            for stream in &mut kept {
                echo(stream).unwrap_or_else(|error| panic!("round {round}, out: {error}"));
            }
        }
    });
    drop(controller);
}

#[tokio::test(flavor = "multi_thread")]
async fn others_are_told_that_a_pod_has_joined_once_its_own_kernel_takes_what_they_send() {
    let Some(app) = App::start().await else { return };
    namespace(&app.stage, "enabled").await;
    let _agents = [app.agent(0).await, app.agent(1).await];
    for (node, real) in app.nodes.iter().zip([&app.web, &app.far]) {
        let full = format!("app/{}", real.name);
        let is_it = |pod: &Value| pod["name"] == full.as_str() && pod["state"] == "Enforced";
        eventually(Duration::from_mins(1), || {
            status(node)["pods"].as_array().is_some_and(|pods| pods.iter().any(is_it))
        });
    }
    // From now on nothing is written to what this kernel knows of its pods.
    freeze(&app.nodes[0], &["weft_pod", "weft_pod_ip", "weft_pod_port"]);
    let controller = app.stage.controller_at(own_address()).await;
    publish(&app.stage, &[&controller]).await;
    let told = async |name: &str| {
        let pods = app.stage.server.list("v1", "Pod").await;
        let pod = pods.into_iter().find(|pod| pod["metadata"]["name"] == name);
        pod.is_some_and(|pod| pod["metadata"]["annotations"]["weft.dev/joined"].is_string())
    };
    until("the other node's pod is told to have joined", async || told("far").await).await;
    eventually(Duration::from_mins(1), || status(&app.nodes[0])["failure"].is_object());
    for _ in 0..20 {
        assert!(!told("web").await, "its kernel would hand mutual TLS to the app");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    drop(controller);
}

/// Nobody in user space can write to these maps of the node any more (`BPF_MAP_FREEZE`).
fn freeze(node: &Node, maps: &[&str]) {
    let pins = Path::new("/sys/fs/bpf/weft").join(node.name());
    let version = fs::read_dir(&pins).unwrap().flatten().next().expect("its maps are pinned");
    for map in maps {
        let pin = version.path().join("maps").join(map);
        let done = Command::new("bpftool").args(["map", "freeze", "pinned"]).arg(pin).output();
        let done = done.expect("these tests need bpftool (`cargo xtask setup` installs it)");
        assert!(done.status.success(), "{}", text(&done));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_speaks_for_the_pods_of_its_own_node_and_says_nothing_else_of_them() {
    let stage = Stage::open().await;
    let uid = stage.uid("Pod", "weft-n1").await;
    let own = token(&stage.server, "weft-agent", None, Some(("Pod", "weft-n1", &uid))).await;
    let unbound = token(&stage.server, "weft-agent", None, None).await;
    let joined = json!({"metadata": {"annotations": {"weft.dev/joined": "us"}}});
    let others = [
        json!({"metadata": {"annotations": {"weft.dev/joined": "us", "mine": "x"}}}),
        json!({"metadata": {"labels": {"app": "x"}}}),
        json!({"metadata": {"finalizers": ["x.example/y"]}}),
        json!({"status": {"podIP": "10.1.9.9", "podIPs": [{"ip": "10.1.9.9"}]}}),
        json!({"status": {"conditions": [{"type": "Ready", "status": "False"}]}}),
    ];
    let say = async |token: &str, pod: &str, patch: &Value| {
        stage.server.patch_status_as(token, "shop", pod, patch).await
    };
    // What is installed takes a moment to be in force.
    until("the policy is in force", async || say(&own, "api-1", &joined).await.is_err()).await;
    let refused = say(&own, "api-1", &joined).await.unwrap_err();
    assert!(refused.contains("pods of its own node only"), "{refused}");
    let refused = say(&unbound, "web-1", &joined).await.unwrap_err();
    assert!(refused.contains("pods of its own node only"), "{refused}");
    for patch in &others {
        let refused = say(&own, "web-1", patch).await.unwrap_err();
        assert!(refused.contains("and nothing else"), "{patch}: {refused}");
    }
    say(&own, "web-1", &joined).await.unwrap();
    say(&own, "web-1", &json!({"metadata": {"annotations": {"weft.dev/joined": null}}})).await.unwrap();
}
