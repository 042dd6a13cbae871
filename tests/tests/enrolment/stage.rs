//! A node whose agent reads an API server, and pods that a container runtime makes on it.

use std::{
    fs,
    io::Write as _,
    path::PathBuf,
    process::{Command, Output, Stdio},
    time::{Duration, Instant},
};

use serde::Deserialize as _;
use serde_json::{Value, json};
use tokio::runtime::Runtime;
use weft_tests::{Agent, Node, Pod, World, soon};

use crate::api_server::ApiServer;

/// Namespaces `web` and `shop` are in the mesh, `plain` is not.
pub(crate) struct Stage {
    runtime: Runtime,
    pub(crate) server: ApiServer,
    pub(crate) node: Node,
    _world: World,
}

/// A pod that the API server has, in a sandbox on the node.
pub(crate) struct Sandboxed {
    pub(crate) pod: Pod,
    pub(crate) namespace: String,
    pub(crate) name: String,
    pub(crate) uid: String,
    pub(crate) sandbox: String,
}

/// What the plugin has said, and when.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) is_good: bool,
    pub(crate) text: String,
    pub(crate) took: Duration,
}

impl Stage {
    /// None when end-to-end tests are left out.
    pub(crate) fn open() -> Option<Self> {
        let world = World::new()?;
        let runtime = Runtime::new().unwrap();
        let server = runtime.block_on(ApiServer::start(&[]));
        let node = world.node("a");
        let stage = Self { runtime, server, node, _world: world };
        stage.apply(&json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": stage.node.name()}}));
        for (name, labels) in [
            ("web", json!({"weft.dev/mesh": "enabled"})),
            ("shop", json!({"weft.dev/mesh": "enabled"})),
            ("plain", json!({})),
            ("kube-system", json!({"weft.dev/mesh": "enabled"})),
            ("weft-system", json!({"weft.dev/mesh": "disabled"})),
        ] {
            stage.namespace(name, &labels);
        }
        // The rights that are installed, and no others.
        let repository = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..");
        for file in ["deploy/install/access.yaml", "deploy/crds/weft.dev_authorizationpolicies.yaml"] {
            let text = fs::read_to_string(repository.join(file)).unwrap();
            for document in serde_yaml::Deserializer::from_str(&text) {
                stage.apply(&Value::deserialize(document).unwrap());
            }
        }
        stage.network();
        Some(stage)
    }

    /// The agent of the node, once it enforces what there is.
    pub(crate) fn agent(&self) -> Agent {
        let kubeconfig = self.server.kubeconfig("admin").display().to_string();
        let [bin, conf] = [self.bin(), self.conf()].map(|path| path.display().to_string());
        // No controller runs here.
        let cluster = ["--kubeconfig", &kubeconfig, "--ca", "none"];
        let arguments = [&cluster[..], &["--cni-bin-dir", &bin, "--cni-conf-dir", &conf]].concat();
        let agent = self.node.spawn_agent(&arguments);
        self.node.wait();
        soon(|| self.entry().is_some() && self.kubeconfig().exists());
        agent
    }

    /// What the runtime's other plugins are.
    fn network(&self) {
        for folder in [self.bin(), self.conf()] {
            fs::create_dir_all(folder).unwrap();
        }
        let list = r#"{"cniVersion": "1.0.0", "name": "net", "plugins": [{"type": "bridge"}]}"#;
        fs::write(self.conf().join("10-net.conflist"), list).unwrap();
    }

    pub(crate) fn bin(&self) -> PathBuf {
        self.node.dir().join("cni/bin")
    }

    pub(crate) fn conf(&self) -> PathBuf {
        self.node.dir().join("cni/net.d")
    }

    pub(crate) fn kubeconfig(&self) -> PathBuf {
        self.node.state_dir().join("cni/kubeconfig")
    }

    /// The plugin's part of the list, as a runtime reads it.
    fn entry(&self) -> Option<Value> {
        let list = fs::read_to_string(self.conf().join("10-net.conflist")).ok()?;
        let list: Value = serde_json::from_str(&list).unwrap();
        list["plugins"].as_array().unwrap().iter().find(|plugin| plugin["type"] == "weft-cni").cloned()
    }

    pub(crate) fn namespace(&self, name: &str, labels: &Value) {
        self.apply(
            &json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}}),
        );
    }

    /// Makes the object; one whose kind has just been made may take a moment.
    pub(crate) fn apply(&self, object: &Value) {
        let applied = async || self.server.try_apply(object).await;
        self.runtime.block_on(crate::until(&format!("{object} is taken"), applied));
        self.runtime.block_on(self.server.apply(object));
    }

    pub(crate) fn delete(&self, object: &Value) {
        self.runtime.block_on(self.server.delete(object));
    }

    pub(crate) fn kill_server(&mut self) {
        self.server.kill();
    }

    /// A policy for the pods with the label `app`, in force at the return.
    pub(crate) fn protect(&self, name: &str, action: &str, rules: &Value) {
        let (namespace, app) = name.split_once('/').unwrap();
        let target = json!({"group": "", "kind": "Pod", "selector": {"matchLabels": {"app": app}}});
        self.apply(&json!({
            "apiVersion": "weft.dev/v1alpha1", "kind": "AuthorizationPolicy",
            "metadata": {"name": app, "namespace": namespace},
            "spec": {"targetRefs": [target], "action": action, "rules": rules}
        }));
        let protected = || {
            let policies = self.node.weft_json(&["get", "policies"]);
            policies
                .as_array()
                .unwrap()
                .iter()
                .any(|policy| policy["name"] == app && policy["namespace"] == namespace)
        };
        soon(protected);
        self.node.wait();
    }

    /// A pod as a kubelet finds it that is about to start it: no status, and a sandbox without a process. `namespace/name`;
    /// its label `app` and its ServiceAccount are called like it, less a number behind a dash.
    pub(crate) fn pod(&self, full: &str) -> Sandboxed {
        self.pod_with(full, None, |_| {})
    }

    /// The same at this address, with a changed object.
    pub(crate) fn pod_with(
        &self,
        full: &str,
        ip: Option<&str>,
        change: impl FnOnce(&mut Value),
    ) -> Sandboxed {
        let mut object = self.object(full);
        change(&mut object);
        self.apply(&object);
        let pod = self.netns(full, ip);
        let (namespace, name) = full.split_once('/').unwrap();
        let all = self.runtime.block_on(self.server.list("v1", "Pod"));
        let is_it = |object: &&Value| {
            object["metadata"]["name"] == name && object["metadata"]["namespace"] == namespace
        };
        let uid = all.iter().find(is_it).unwrap()["metadata"]["uid"].as_str().unwrap().to_owned();
        let (namespace, name) = (namespace.to_owned(), name.to_owned());
        Sandboxed { sandbox: format!("sandbox-{full}").replace('/', "-"), pod, namespace, name, uid }
    }

    /// The network of a sandbox.
    pub(crate) fn netns(&self, full: &str, ip: Option<&str>) -> Pod {
        let builder = self.node.pod(full).outsider();
        match ip {
            Some(ip) => builder.ip(ip).start(),
            None => builder.start(),
        }
    }

    pub(crate) fn object(&self, full: &str) -> Value {
        let (namespace, name) = full.split_once('/').unwrap();
        let app = name.split('-').next().unwrap();
        json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": name, "namespace": namespace, "labels": {"app": app}},
            "spec": {"nodeName": self.node.name(), "serviceAccountName": app,
                "containers": [{"name": "app", "image": "x"}]}
        })
    }

    /// What the kubelet says once the pod runs.
    pub(crate) fn runs(&self, pod: &Sandboxed, ip: &str) {
        let mut object = self.object(&format!("{}/{}", pod.namespace, pod.name));
        object["status"] = json!({"phase": "Running", "podIP": ip, "podIPs": [{"ip": ip}]});
        self.apply(&object);
    }

    /// Has the runtime call the plugin for the sandbox; it must be good.
    #[track_caller]
    pub(crate) fn add(&self, pod: &Sandboxed) {
        let answer = self.call("ADD", pod);
        assert!(answer.is_good, "{answer:?}");
    }

    /// Has the runtime call the plugin, by version 1.0.0 of the spec.
    pub(crate) fn call(&self, command: &str, pod: &Sandboxed) -> Answer {
        self.call_with(command, pod, &json!({"cniVersion": "1.0.0", "prevResult": previous(&pod.pod)}))
    }

    /// Has the runtime call the plugin with these parts of the configuration, which are the runtime's.
    pub(crate) fn call_with(&self, command: &str, pod: &Sandboxed, of_runtime: &Value) -> Answer {
        let mut config = self.entry().unwrap();
        config["name"] = "net".into();
        for (key, value) in of_runtime.as_object().unwrap() {
            config[key] = value.clone();
        }
        let arguments = format!(
            "IgnoreUnknown=1;K8S_POD_NAMESPACE={};K8S_POD_NAME={};K8S_POD_INFRA_CONTAINER_ID={};K8S_POD_UID={}",
            pod.namespace, pod.name, pod.sandbox, pod.uid
        );
        let mut plugin = Command::new(self.bin().join("weft-cni"));
        plugin.env_clear().env("CNI_COMMAND", command).env("CNI_CONTAINERID", &pod.sandbox);
        plugin.env("CNI_NETNS", pod.pod.netns_path()).env("CNI_IFNAME", "eth0").env("CNI_ARGS", arguments);
        plugin
            .env("CNI_PATH", self.bin())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let began = Instant::now();
        let mut child = plugin.spawn().unwrap();
        child.stdin.take().unwrap().write_all(config.to_string().as_bytes()).unwrap();
        let Output { status, stdout, stderr } = child.wait_with_output().unwrap();
        assert!(stderr.is_empty(), "{}", String::from_utf8_lossy(&stderr));
        Answer { is_good: status.success(), text: String::from_utf8(stdout).unwrap(), took: began.elapsed() }
    }

    /// The state of the pod in `weft status`, where it is enrolled.
    pub(crate) fn status(&self, full: &str) -> Option<Value> {
        let status = self.node.weft_json(&["status"]);
        status["pods"].as_array().unwrap().iter().find(|pod| pod["name"] == full).cloned()
    }

    /// Whether the agent, which may have just begun, has the pod in the kernel.
    pub(crate) fn is_known(&self, full: &str) -> bool {
        let output = self.node.weft(&["status", "-o", "json"]);
        let status: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
        let pods = status["pods"].as_array().into_iter().flatten();
        pods.into_iter().any(|pod| pod["name"] == full && pod["state"] == "Enforced")
    }

    pub(crate) fn is_enforced(&self, full: &str) -> bool {
        self.status(full).is_some_and(|pod| pod["state"] == "Enforced")
    }
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

/// What the plugins before this one have done.
pub(crate) fn previous(pod: &Pod) -> Value {
    json!({
        "cniVersion": "1.0.0",
        "interfaces": [{"name": "veth1", "mac": "9a:01:23:45:67:8a"},
            {"name": "eth0", "mac": "9a:01:23:45:67:8b", "sandbox": pod.netns_path()}],
        "ips": [{"address": format!("{}/16", pod.ip()), "interface": 1},
            {"address": format!("{}/64", pod.ip6()), "interface": 1}],
        "routes": [{"dst": "0.0.0.0/0"}], "dns": {}
    })
}

/// Rules that let the ServiceAccount `web/front` in.
pub(crate) fn from_front() -> Value {
    json!([{"sources": [{"type": "ServiceAccount", "serviceAccount": {"namespace": "web", "name": "front"}}]}])
}
