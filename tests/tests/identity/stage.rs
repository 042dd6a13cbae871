//! What these tests begin with: an authority that two nodes share, the pods `web` and `api` on one of them and `far` on
//! the other, and the routed Service `front`, so that each node has a proxy.

use std::path::PathBuf;
use std::process::{Command, Output};
use std::time::Duration;

use serde_json::Value;
use weft_tests::{Agent, Node, Pod, Server, World, eventually, manifests, text, weft};

/// Dropped from top to bottom: the agents before what they work on.
pub(crate) struct Stage {
    pub(crate) agents: [Agent; 2],
    _pods: [Pod; 3],
    _server: Server,
    pub(crate) near: Node,
    pub(crate) other: Node,
    pub(crate) authority: Authority,
    pub(crate) world: World,
}

/// A directory that `weft ca` has made.
pub(crate) struct Authority(PathBuf);

/// No test waits longer for a certificate: the issuer is looked at every 10 s, and a proxy reports every 5 s.
pub(crate) const SOON: Duration = Duration::from_secs(40);

impl Stage {
    /// With certificates that live for this time, as MeshConfig writes it.
    pub(crate) fn open(ttl: &str) -> Option<Self> {
        Self::open_with(ttl, &[])
    }

    /// With these arguments of the agents beside `--ca-dir`.
    pub(crate) fn open_with(ttl: &str, arguments: &[&str]) -> Option<Self> {
        let world = World::new()?;
        let (near, other) = (world.node("a"), world.node("b"));
        let authority = Authority::make(world.dir().join("ca"));
        world.apply("namespace.yaml", &manifests::namespace("shop", true));
        world.apply(
            "mesh.yaml",
            &format!(
                "{{apiVersion: weft.dev/v1alpha1, kind: MeshConfig, metadata: {{name: default}}, \
                 spec: {{trustDomain: mesh.example, certificates: {{ttl: {ttl}}}}}}}"
            ),
        );
        let front = "{clusterIP: 10.96.0.1, selector: {app: api}, ports: [{port: 80, targetPort: 8080, \
                     appProtocol: http}]}";
        world.apply("front.yaml", &manifests::service("shop/front", front));
        let route = "{parentRefs: [{group: \"\", kind: Service, name: front, port: 80}], \
                     rules: [{backendRefs: [{name: front, port: 80}]}]}";
        world.apply("route.yaml", &manifests::http_route("shop/front", route));
        let web = near.pod("shop/web").service_account("web").start();
        let api = near.pod("shop/api").service_account("api").label("app", "api").start();
        let far = other.pod("shop/far").service_account("far").start();
        let server = api.serve_http(8080, "api");
        let ca_dir = authority.0.display().to_string();
        let arguments = [&["--ca-dir", &ca_dir], arguments].concat();
        let agents = [&near, &other].map(|node| node.spawn_agent(&arguments));
        for node in [&near, &other] {
            wait(node);
        }
        Some(Self { agents, _pods: [web, api, far], _server: server, near, other, authority, world })
    }
}

impl Authority {
    fn make(dir: PathBuf) -> Self {
        let mut command = Command::new(weft());
        command.args(["ca", "init", "--trust-domain", "mesh.example", "--dir"]).arg(&dir);
        let output = command.output().expect("weft can be run");
        assert!(output.status.success(), "{}", text(&output));
        Self(dir)
    }

    pub(crate) fn dir(&self) -> &PathBuf {
        &self.0
    }

    pub(crate) fn rotate(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(weft());
        command.args(["ca", "rotate", "--dir"]).arg(&self.0).args(arguments);
        command.output().expect("weft can be run")
    }
}

/// As [`Node::wait`], with patience: several agents start at once.
#[track_caller]
pub(crate) fn wait(node: &Node) {
    let output = node.weft(&["status", "--wait", "60s"]);
    assert!(output.status.success(), "{}", text(&output));
}

/// What `weft get certificates` shows.
#[track_caller]
pub(crate) fn certificates(node: &Node) -> Value {
    node.weft_json(&["get", "certificates"])
}

/// The ServiceAccounts of the node that have a valid certificate.
pub(crate) fn valid(node: &Node) -> Vec<String> {
    let view = certificates(node);
    let all = view["certificates"].as_array().expect("a list");
    let valid = all.iter().filter(|one| one["expiresInSeconds"].as_u64().is_some_and(|left| left > 0));
    valid.map(|one| one["serviceAccount"].as_str().expect("a name").to_owned()).collect()
}

/// The serial number of an account's certificate.
pub(crate) fn serial(node: &Node, account: &str) -> Option<String> {
    let view = certificates(node);
    let mut all = view["certificates"].as_array()?.iter();
    Some(all.find(|one| one["serviceAccount"] == account)?["serial"].as_str()?.to_owned())
}

/// `weft status`, also of an agent that is not well.
pub(crate) fn status(node: &Node) -> Value {
    let output = node.weft(&["status", "-o", "json"]);
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error} in {}", text(&output)))
}

/// The proxy in force.
fn proxy(status: &Value) -> Option<&Value> {
    status["proxy"]["generations"].as_array()?.iter().rfind(|one| one["state"] == "Active")
}

/// How many valid certificates the proxy in force says that it has.
pub(crate) fn in_proxy(node: &Node) -> Option<u64> {
    proxy(&status(node))?["certificates"].as_u64()
}

/// The process of the proxy in force.
pub(crate) fn proxy_pid(node: &Node) -> Option<i32> {
    proxy(&status(node))?["pid"].as_i64().and_then(|pid| i32::try_from(pid).ok())
}

/// Whether the proxy in force shows what its agent last issued, and so many certificates of it are valid.
pub(crate) fn has_all(node: &Node, count: u64) -> bool {
    let status = status(node);
    proxy(&status).is_some_and(|proxy| {
        let wanted = &status["proxy"]["identitiesVersion"];
        wanted.is_u64() && proxy["identitiesVersion"] == *wanted && proxy["certificates"] == count
    })
}

/// Waits for that.
#[track_caller]
pub(crate) fn wait_for_proxy(node: &Node, count: u64) {
    eventually(SOON, || has_all(node, count));
}
