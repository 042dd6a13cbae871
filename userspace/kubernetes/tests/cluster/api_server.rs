//! A real API server and its etcd, without kubelets and controllers.

use std::{
    fs,
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use kube::{
    Api, Client, Config,
    api::{DeleteParams, DynamicObject, ListParams, Patch, PatchParams, PostParams},
    config::{KubeConfigOptions, Kubeconfig},
    core::{ApiResource, GroupVersionKind},
};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::until;

/// They end with it.
pub(crate) struct ApiServer {
    folder: TempDir,
    /// `None` where it is another one's.
    etcd: Option<Running>,
    server: Option<Running>,
    etcd_port: u16,
    port: u16,
    flags: Vec<String>,
}

/// A process that ends when it is let go of.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl ApiServer {
    /// A new cluster without any object of ours; ready.
    pub(crate) async fn start(flags: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let [etcd_port, peer_port, port] = free_ports();
        let key = rcgen::KeyPair::generate().unwrap();
        fs::write(folder.path().join("sa.key"), key.serialize_pem()).unwrap();
        fs::write(folder.path().join("sa.pub"), key.public_key_pem()).unwrap();
        let users = "admin-token,admin,1,\"system:masters\"\nagent-token,agent,2\n";
        fs::write(folder.path().join("tokens.csv"), users).unwrap();
        let (own, peers) = (format!("http://127.0.0.1:{etcd_port}"), format!("http://127.0.0.1:{peer_port}"));
        let mut etcd = program("etcd");
        etcd.arg("--data-dir")
            .arg(folder.path().join("etcd"))
            .args(["--unsafe-no-fsync", "--log-level=error"]);
        etcd.args([format!("--listen-client-urls={own}"), format!("--advertise-client-urls={own}")]);
        etcd.args([format!("--listen-peer-urls={peers}"), format!("--initial-advertise-peer-urls={peers}")]);
        etcd.arg(format!("--initial-cluster=default={peers}"));
        let etcd = Some(run(&mut etcd, &folder.path().join("etcd.log")));
        let flags = flags.iter().map(|&flag| flag.to_owned()).collect();
        let mut server = Self { folder, etcd, server: None, etcd_port, port, flags };
        server.bring_back().await;
        server
    }

    /// The kubeconfig of `user`: `admin`, or `agent`, who may nothing unless it is granted.
    pub(crate) fn kubeconfig(&self, user: &str) -> PathBuf {
        self.kubeconfig_with(user, &format!("{user}-token"))
    }

    /// The kubeconfig of whoever has this token.
    pub(crate) fn kubeconfig_with(&self, user: &str, token: &str) -> PathBuf {
        let path = self.folder.path().join(format!("{user}.kubeconfig"));
        let text = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "it",
            "clusters": [{"name": "it", "cluster": {
                "server": format!("https://127.0.0.1:{}", self.port),
                "certificate-authority": self.folder.path().join("certificates/apiserver.crt"),
            }}],
            "users": [{"name": "it", "user": {"token": token}}],
            "contexts": [{"name": "it", "context": {"cluster": "it", "user": "it"}}],
        });
        fs::write(&path, text.to_string()).unwrap();
        path
    }

    /// The key that tokens of ServiceAccounts are signed with, PEM.
    pub(crate) fn token_key(&self) -> String {
        fs::read_to_string(self.folder.path().join("sa.key")).unwrap()
    }

    /// Ends the API server at once, as SIGKILL does.
    pub(crate) fn kill(&mut self) {
        self.server = None;
    }

    /// Starts it, at the same address, and waits until it is ready.
    pub(crate) async fn bring_back(&mut self) {
        let folder = self.folder.path();
        let own = format!("https://127.0.0.1:{}/", self.port);
        let mut server = program("kube-apiserver");
        server.args([
            "--bind-address=127.0.0.1",
            "--service-cluster-ip-range=10.96.0.0/16",
            "--allow-privileged=true",
            "--authorization-mode=RBAC",
            "--disable-admission-plugins=ServiceAccount",
            "--endpoint-reconciler-type=none",
        ]);
        server.arg(format!("--etcd-servers=http://127.0.0.1:{}", self.etcd_port));
        server.arg(format!("--secure-port={}", self.port)).arg(format!("--service-account-issuer={own}"));
        let files = [
            ("--cert-dir", "certificates"),
            ("--service-account-key-file", "sa.pub"),
            ("--service-account-signing-key-file", "sa.key"),
            ("--token-auth-file", "tokens.csv"),
        ];
        for (flag, file) in files {
            server.arg(flag).arg(folder.join(file));
        }
        server.args(&self.flags);
        self.server = Some(run(&mut server, &folder.join("kube-apiserver.log")));
        until("the API server is ready", async || self.is_ready().await).await;
    }

    /// One more API server of the same cluster, at an address of its own.
    pub(crate) async fn beside(&self) -> Self {
        let folder = tempfile::tempdir().unwrap();
        for file in ["sa.key", "sa.pub", "tokens.csv"] {
            fs::copy(self.folder.path().join(file), folder.path().join(file)).unwrap();
        }
        let ([port, ..], flags) = (free_ports(), self.flags.clone());
        let mut other = Self { folder, etcd: None, server: None, etcd_port: self.etcd_port, port, flags };
        other.bring_back().await;
        other
    }

    async fn is_ready(&mut self) -> bool {
        for program in self.etcd.iter_mut().chain(&mut self.server) {
            if let Some(ended) = program.0.try_wait().unwrap() {
                let log =
                    fs::read_to_string(self.folder.path().join("kube-apiserver.log")).unwrap_or_default();
                panic!("it has ended: {ended}\n{}", &log[log.len().saturating_sub(2000)..]);
            }
        }
        if !self.folder.path().join("certificates/apiserver.crt").exists() {
            return false;
        }
        // The first object of its own, and the last thing that it does by itself.
        let services: Api<DynamicObject> =
            Api::namespaced_with(self.client().await, "default", &resource("v1", "Service"));
        services.get_opt("kubernetes").await.is_ok_and(|service| service.is_some())
    }

    /// As `admin`.
    pub(crate) async fn client(&self) -> Client {
        let file = Kubeconfig::read_from(self.kubeconfig("admin")).unwrap();
        let config = Config::from_custom_kubeconfig(file, &KubeConfigOptions::default()).await.unwrap();
        Client::try_from(config).unwrap()
    }

    /// Makes the object, or makes it like this; its status, too, where it has one.
    pub(crate) async fn apply(&self, object: &Value) {
        let (api, name) = self.api(object).await;
        let params = PatchParams::apply("tests").force();
        let applied = api.patch(&name, &params, &Patch::Apply(object)).await;
        applied.unwrap_or_else(|error| panic!("{object}: {error}"));
        if object.get("status").is_some() {
            api.patch_status(&name, &params, &Patch::Apply(object)).await.unwrap();
        }
    }

    /// As [`ApiServer::apply`], where the kind may not be served yet; whether it was.
    pub(crate) async fn try_apply(&self, object: &Value) -> bool {
        let (api, name) = self.api(object).await;
        api.patch(&name, &PatchParams::apply("tests").force(), &Patch::Apply(object)).await.is_ok()
    }

    /// Patches the status of a pod with this token; what the server says against it.
    pub(crate) async fn patch_status_as(
        &self,
        token: &str,
        namespace: &str,
        pod: &str,
        patch: &Value,
    ) -> Result<(), String> {
        let file = Kubeconfig::read_from(self.kubeconfig_with("other", token)).unwrap();
        let config = Config::from_custom_kubeconfig(file, &KubeConfigOptions::default()).await.unwrap();
        let client = Client::try_from(config).unwrap();
        let pods: Api<DynamicObject> = Api::namespaced_with(client, namespace, &resource("v1", "Pod"));
        let patched = pods.patch_status(pod, &PatchParams::default(), &Patch::Merge(patch)).await;
        patched.map(drop).map_err(|error| error.to_string())
    }

    /// Makes the object with this token; what the server says against it.
    pub(crate) async fn create_as(&self, token: &str, object: &Value) -> Result<(), String> {
        let file = Kubeconfig::read_from(self.kubeconfig_with("other", token)).unwrap();
        let config = Config::from_custom_kubeconfig(file, &KubeConfigOptions::default()).await.unwrap();
        let text = |path: &str| object.pointer(path).and_then(Value::as_str).unwrap();
        let resource = resource(text("/apiVersion"), text("/kind"));
        let api: Api<DynamicObject> =
            Api::namespaced_with(Client::try_from(config).unwrap(), text("/metadata/namespace"), &resource);
        let object = serde_json::from_value(object.clone()).unwrap();
        api.create(&PostParams::default(), &object).await.map(drop).map_err(|error| error.to_string())
    }

    /// Removes it at once.
    pub(crate) async fn delete(&self, object: &Value) {
        let (api, name) = self.api(object).await;
        api.delete(&name, &DeleteParams::default().grace_period(0)).await.unwrap();
    }

    /// All objects of a kind, as they are.
    pub(crate) async fn list(&self, api_version: &str, kind: &str) -> Vec<Value> {
        let api: Api<DynamicObject> = Api::all_with(self.client().await, &resource(api_version, kind));
        let list = api.list(&ListParams::default()).await.unwrap();
        let whole = |object: DynamicObject| {
            let mut object = serde_json::to_value(object).unwrap();
            object["apiVersion"] = api_version.into();
            object["kind"] = kind.into();
            object
        };
        list.items.into_iter().map(whole).collect()
    }

    async fn api(&self, object: &Value) -> (Api<DynamicObject>, String) {
        let text = |path: &str| object.pointer(path).and_then(Value::as_str).unwrap_or_default().to_owned();
        let resource = resource(&text("/apiVersion"), &text("/kind"));
        let client = self.client().await;
        let api = match text("/metadata/namespace").as_str() {
            "" => Api::all_with(client, &resource),
            namespace => Api::namespaced_with(client, namespace, &resource),
        };
        (api, text("/metadata/name"))
    }
}

fn resource(api_version: &str, kind: &str) -> ApiResource {
    let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
    ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, kind))
}

fn program(name: &str) -> Command {
    let repository =
        Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().find(|path| path.join("Cargo.lock").exists());
    let path = repository.expect("the package is in the repository").join("target/cluster/bin").join(name);
    assert!(path.exists(), "there is no {}; build it: cargo xtask cluster up", path.display());
    Command::new(path)
}

fn run(command: &mut Command, log: &Path) -> Running {
    let log = fs::File::create(log).unwrap();
    command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
    Running(command.spawn().unwrap())
}

fn free_ports() -> [u16; 3] {
    // All are held until all are chosen.
    let sockets = [(); 3].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
    sockets.map(|socket| socket.local_addr().unwrap().port())
}

/// How long anything may take on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(90);
