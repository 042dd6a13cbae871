//! A real API server and its etcd, and kubectl to speak with them.

use std::{
    fs,
    io::Write as _,
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use tempfile::TempDir;

/// A cluster without nodes, with our CRDs. It ends with this.
pub(crate) struct Server {
    folder: TempDir,
    programs: Vec<Child>,
}

/// What kubectl said.
#[derive(Debug)]
pub(crate) struct Said {
    pub(crate) good: bool,
    pub(crate) out: String,
    pub(crate) err: String,
}

/// On a slow machine that has other things to do.
const PATIENCE: Duration = Duration::from_mins(3);

impl Server {
    /// Ready, and nothing in it but the namespace `shop`.
    pub(crate) fn empty() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let [client, peer, port] = free_ports();
        write_keys(folder.path());
        let kubeconfig = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "it",
            "clusters": [{"name": "it", "cluster": {
                "server": format!("https://127.0.0.1:{port}"),
                "certificate-authority": folder.path().join("certificates/apiserver.crt"),
            }}],
            "users": [{"name": "it", "user": {"token": "admin-token"}}],
            "contexts": [{"name": "it", "context": {"cluster": "it", "user": "it"}}],
        });
        fs::write(folder.path().join("kubeconfig"), kubeconfig.to_string()).unwrap();
        let mut server = Self { folder, programs: Vec::new() };
        server.run(etcd(client, peer, server.folder.path()), "etcd");
        server.run(api_server(client, port, server.folder.path()), "kube-apiserver");
        server.until("the API server is ready", |server| server.kubectl(&["get", "--raw=/readyz"], "").good);
        let said = server.kubectl(&["create", "namespace", "shop"], "");
        assert!(said.good, "{said:?}");
        server
    }

    /// The same, with our CRDs.
    pub(crate) fn with_crds() -> Self {
        let server = Self::empty();
        for crd in weft_kubernetes::crds() {
            let said = server.kubectl(&["apply", "--server-side", "-f", "-"], &crd.to_string());
            assert!(said.good, "{said:?}");
        }
        server.until_established();
        server
    }

    /// Waits until all CRDs are served.
    pub(crate) fn until_established(&self) {
        let patience = format!("--timeout={}s", PATIENCE.as_secs());
        let said = self.kubectl(&["wait", "--for=condition=Established", "crd", "--all", &patience], "");
        assert!(said.good, "{said:?}");
    }

    /// Runs kubectl with `input`.
    pub(crate) fn kubectl(&self, arguments: &[&str], input: &str) -> Said {
        let mut kubectl = Command::new(program("kubectl"));
        // What it has learnt of a server is kept with the server.
        kubectl.args(arguments).env("KUBECONFIG", self.folder.path().join("kubeconfig"));
        kubectl.env("KUBECACHEDIR", self.folder.path().join("cache"));
        let mut kubectl =
            kubectl.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        // It may have ended before it has read all.
        let _ = kubectl.stdin.take().unwrap().write_all(input.as_bytes());
        let output = kubectl.wait_with_output().unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        Said { good: output.status.success(), out: text(output.stdout), err: text(output.stderr) }
    }

    /// What the server would say to this new object, as kubectl asks by default.
    pub(crate) fn judge(&self, object: &Value) -> Said {
        self.kubectl(&["create", "--dry-run=server", "--validate=strict", "-f", "-"], &object.to_string())
    }

    fn run(&mut self, mut command: Command, name: &str) {
        let log = fs::File::create(self.folder.path().join(format!("{name}.log"))).unwrap();
        command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        self.programs.push(command.spawn().unwrap());
    }

    fn until(&mut self, what: &str, holds: impl Fn(&Self) -> bool) {
        let began = Instant::now();
        while !holds(self) {
            for program in &mut self.programs {
                let ended = program.try_wait().unwrap();
                assert!(ended.is_none(), "{ended:?}\n{}", log(self.folder.path()));
            }
            assert!(began.elapsed() < PATIENCE, "never seen: {what}\n{}", log(self.folder.path()));
            thread::sleep(Duration::from_millis(100));
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        for program in self.programs.iter_mut().rev() {
            // It may have ended by itself.
            let _ = program.kill();
            let _ = program.wait();
        }
    }
}

fn etcd(client: u16, peer: u16, folder: &Path) -> Command {
    let (client, peer) = (format!("http://127.0.0.1:{client}"), format!("http://127.0.0.1:{peer}"));
    let mut etcd = Command::new(program("etcd"));
    etcd.arg("--data-dir").arg(folder.join("etcd")).args(["--unsafe-no-fsync", "--log-level=error"]);
    etcd.args([format!("--listen-client-urls={client}"), format!("--advertise-client-urls={client}")]);
    etcd.args([format!("--listen-peer-urls={peer}"), format!("--initial-advertise-peer-urls={peer}")]);
    etcd.arg(format!("--initial-cluster=default={peer}"));
    etcd
}

fn api_server(etcd: u16, port: u16, folder: &Path) -> Command {
    let mut server = Command::new(program("kube-apiserver"));
    server.args([
        "--bind-address=127.0.0.1",
        "--service-cluster-ip-range=10.96.0.0/16",
        "--authorization-mode=RBAC",
        "--disable-admission-plugins=ServiceAccount",
        "--endpoint-reconciler-type=none",
    ]);
    server.arg(format!("--etcd-servers=http://127.0.0.1:{etcd}")).arg(format!("--secure-port={port}"));
    server.arg(format!("--service-account-issuer=https://127.0.0.1:{port}/"));
    for (flag, file) in [
        ("--cert-dir", "certificates"),
        ("--service-account-key-file", "sa.pub"),
        ("--service-account-signing-key-file", "sa.key"),
        ("--token-auth-file", "tokens.csv"),
    ] {
        server.arg(flag).arg(folder.join(file));
    }
    server
}

/// The keys of ServiceAccounts' tokens, of which none is ever made, and the token of the one user.
fn write_keys(folder: &Path) {
    let key = rcgen::KeyPair::generate().unwrap();
    fs::write(folder.join("sa.key"), key.serialize_pem()).unwrap();
    fs::write(folder.join("sa.pub"), key.public_key_pem()).unwrap();
    fs::write(folder.join("tokens.csv"), "admin-token,admin,1,\"system:masters\"\n").unwrap();
}

fn program(name: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/cluster/bin").join(name);
    assert!(path.exists(), "there is no {}; build it: cargo xtask cluster up", path.display());
    path
}

/// Ports that nobody has at the moment.
fn free_ports<const N: usize>() -> [u16; N] {
    let sockets = [(); N].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
    sockets.map(|socket| socket.local_addr().unwrap().port())
}

fn log(folder: &Path) -> String {
    let log = fs::read_to_string(folder.join("kube-apiserver.log")).unwrap_or_default();
    log.chars().skip(log.chars().count().saturating_sub(2000)).collect()
}
