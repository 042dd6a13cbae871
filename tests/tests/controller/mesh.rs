//! Two nodes whose agents have their certificates of controllers, and a pod on each.

use std::{fs, time::Duration};

use serde_json::json;
use weft_tests::{Agent, Node, Pod, Running, Server, World, eventually, soon, wire::Wire};

use super::{
    agent::{own_address, publish},
    api_server::PATIENCE,
    process::Controller,
    stage::{Stage, pod},
    tokens::token,
    until,
};

/// Dropped from top to bottom: the agents before what they work on.
pub(crate) struct Mesh {
    pub(crate) agents: [Agent; 2],
    pub(crate) controllers: Vec<Controller>,
    pub(crate) web: Pod,
    pub(crate) api: Pod,
    pub(crate) nodes: [Node; 2],
    /// All tokens that agents have.
    pub(crate) tokens: Vec<String>,
    pub(crate) stage: Stage,
    _held: [(Running, Server); 2],
    pub(crate) world: World,
}

impl Mesh {
    /// Once `web` of the first node can speak to `api` of the other, which answers with what it is sent. `None` when end-to-end
    /// tests are left out.
    pub(crate) async fn open(arguments: &[&str]) -> Option<Self> {
        let world = World::new()?;
        let stage = Stage::open().await;
        // Of these nobody runs an agent here.
        for node in ["n1", "n2"] {
            stage.server.delete(&pod("weft-system", &format!("weft-{node}"), "weft-agent", node)).await;
        }
        let nodes = [world.node("a"), world.node("b")];
        let controllers =
            vec![stage.controller_at(own_address()).await, stage.controller_at(own_address()).await];
        publish(&stage, &controllers.iter().collect::<Vec<_>>()).await;
        let (web, of_web) = sandboxed(&stage, &nodes[0], "web").await;
        let (api, of_api) = sandboxed(&stage, &nodes[1], "api").await;
        let mut tokens = Vec::new();
        let mut agents = Vec::new();
        for node in &nodes {
            let [proof, own] = agent_of(&stage, node).await;
            let path = stage.folder.path().join(format!("token-{}", node.name()));
            fs::write(&path, &proof).unwrap();
            let kubeconfig = stage.server.kubeconfig_with(&format!("agent-of-{}", node.name()), &own);
            let (kubeconfig, path) = (kubeconfig.display().to_string(), path.display().to_string());
            let all = [&["--kubeconfig", &kubeconfig, "--ca-token", &path], arguments].concat();
            agents.push(node.spawn_agent(&all));
            tokens.extend([proof, own]);
        }
        let agents: [Agent; 2] = agents.try_into().ok().unwrap();
        let held = [(of_web, web.serve_echo(8080)), (of_api, api.serve_echo(8080))];
        let mesh = Self { agents, controllers, web, api, nodes, tokens, stage, _held: held, world };
        for node in &mesh.nodes {
            node.wait();
        }
        // Pods that ran before speak in clear until both nodes have told that theirs have joined.
        until("both pods are told to have joined", async || {
            let pods = mesh.stage.server.list("v1", "Pod").await;
            let shop = pods.iter().filter(|pod| pod["metadata"]["namespace"] == "shop");
            let words: Vec<_> = shop.map(|pod| &pod["metadata"]["annotations"]["weft.dev/joined"]).collect();
            words.iter().filter(|word| word.is_string()).count() >= 2
        })
        .await;
        eventually(PATIENCE, || {
            let wire = Wire::new(&mesh.api);
            let answers = mesh.echoes();
            // Who captures is behind who sends.
            std::thread::sleep(Duration::from_millis(200));
            answers && !wire.streams().iter().any(|stream| stream.contains(SAID))
        });
        Some(mesh)
    }

    /// Whether a new connection between the nodes carries what is said.
    pub(crate) fn echoes(&self) -> bool {
        self.web.tcp_connect(self.api.addr(8080)).is_ok_and(|mut stream| echo(&mut stream))
    }
}

/// Whether what is said on the connection comes back.
pub(crate) fn echo(stream: &mut std::net::TcpStream) -> bool {
    use std::io::{Read as _, Write as _};
    let mut heard = [0; SAID.len()];
    stream.write_all(SAID).and_then(|()| stream.read_exact(&mut heard)).is_ok() && heard == *SAID
}

/// What nobody on the wire may read.
pub(crate) const SAID: &[u8] = b"between us";

/// A pod of the mesh that runs on `node`, as its kubelet would have it: a process in its control group.
async fn sandboxed(stage: &Stage, node: &Node, account: &str) -> (Pod, Running) {
    let name = format!("{account}-of-{}", node.name());
    let sandbox = node.pod(&format!("shop/{name}")).outsider().start();
    let mut object = pod("shop", &name, account, node.name());
    let ips = json!([{"ip": sandbox.ip()}, {"ip": sandbox.ip6()}]);
    object["status"]["podIP"] = ips[0]["ip"].clone();
    object["status"]["podIPs"] = ips;
    stage.server.apply(&object).await;
    let uid = stage.uid("Pod", &name).await;
    let process = sandbox.spawn(&["sleep", "1000"]);
    let group = node.cgroup().join("kubepods/besteffort").join(format!("pod{uid}")).join("pause");
    fs::create_dir_all(&group).unwrap();
    let comm = format!("/proc/{}/comm", process.id());
    // By then it has become what it was to be.
    soon(|| fs::read_to_string(&comm).is_ok_and(|name| name.trim() == "sleep"));
    fs::write(group.join("cgroup.procs"), process.id().to_string()).unwrap();
    (sandbox, process)
}

/// The node and its agent's pod: by what the agent proves itself to controllers, and to the API server.
pub(crate) async fn agent_of(stage: &Stage, node: &Node) -> [String; 2] {
    let name = format!("weft-{}", node.name());
    stage.server.apply(&json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": node.name()}})).await;
    stage.server.apply(&pod("weft-system", &name, "weft-agent", node.name())).await;
    let uid = stage.uid("Pod", &name).await;
    let bound = Some(("Pod", name.as_str(), uid.as_str()));
    let proof = stage.token(Some("weft-ca"), bound).await;
    [proof, token(&stage.server, "weft-agent", None, bound).await]
}
