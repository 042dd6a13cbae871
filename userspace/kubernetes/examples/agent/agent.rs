//! The agent: `weft` as a process, in a control group of its own, asked by its socket.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use serde_json::Value;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::UnixStream,
    time::sleep,
};

/// It ends with this, and so does what it left in the kernel.
pub(crate) struct Agent {
    child: Child,
    began: Instant,
    run: PathBuf,
    group: PathBuf,
    weft: PathBuf,
}

impl Agent {
    /// Of node `node-0`, with what it keeps below `folder`; `WEFT_BIN` is the program.
    pub(crate) fn start(kubeconfig: &Path, folder: &Path) -> Self {
        let weft = PathBuf::from(
            std::env::var_os("WEFT_BIN").expect("`cargo xtask bench cluster` says where weft is"),
        );
        let group = groups().join(format!("weft-bench-{}", std::process::id()));
        fs::create_dir(&group).unwrap();
        let run = folder.join("run");
        let mut command = Command::new(&weft);
        command.args(["agent", "--node", NODE, "--metrics", "127.0.0.1:0", "--log", "warn"]);
        command.arg("--kubeconfig").arg(kubeconfig).arg("--cgroup").arg(&group);
        command.arg("--run-dir").arg(&run).arg("--state-dir").arg(folder.join("state"));
        let began = Instant::now();
        let child = command.stdin(Stdio::null()).spawn().unwrap();
        Self { child, began, run, group, weft }
    }

    /// How long it took until the kernel had all that there is.
    pub(crate) async fn in_sync(&self) -> Duration {
        loop {
            if let Some(status) = self.get("/v1/status").await
                && status["source"]["synced"] == true
                && status["enforcedVersion"] == status["snapshotVersion"]
                && status["enforcedVersion"].as_u64() > Some(0)
            {
                return self.began.elapsed();
            }
            assert!(self.began.elapsed() < Duration::from_mins(5), "never in sync");
            sleep(Duration::from_millis(20)).await;
        }
    }

    /// The version that the kernel enforces.
    pub(crate) async fn enforced(&self) -> u64 {
        self.get("/v1/status").await.and_then(|status| status["enforcedVersion"].as_u64()).unwrap_or_default()
    }

    /// How many backends the kernel has.
    pub(crate) async fn backends(&self) -> u32 {
        self.kernel().await.as_array().map_or(0, Vec::len).try_into().unwrap()
    }

    /// Whether one of them has this address.
    pub(crate) async fn has_backend(&self, address: &str) -> bool {
        self.kernel().await.to_string().contains(&format!("{address}:"))
    }

    /// `VmRSS` or `VmHWM` in megabytes, of all that it consists of.
    pub(crate) fn resident_mb(&self, field: &str) -> f64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
        line.unwrap().trim().trim_end_matches(" kB").parse::<f64>().unwrap() * 1024.0 / 1e6
    }

    async fn kernel(&self) -> Value {
        let mut command = tokio::process::Command::new(&self.weft);
        command.args(["bpf", "backends", "--output", "json", "--run-dir"]).arg(&self.run);
        serde_json::from_slice(&command.output().await.unwrap().stdout).unwrap()
    }

    async fn get(&self, path: &str) -> Option<Value> {
        let mut socket = UnixStream::connect(self.run.join("agent.sock")).await.ok()?;
        socket.write_all(format!("GET {path} HTTP/1.0\r\nhost: agent\r\n\r\n").as_bytes()).await.ok()?;
        let mut answer = String::new();
        socket.read_to_string(&mut answer).await.ok()?;
        serde_json::from_str(answer.split_once("\r\n\r\n")?.1).ok()
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let pid = self.child.id().to_string();
        let _ = Command::new("kill").args(["-TERM", &pid]).status();
        let _ = self.child.wait();
        let _ = Command::new(&self.weft).args(["cleanup", "--run-dir"]).arg(&self.run).status();
        let _ = fs::remove_dir(&self.group);
    }
}

/// Where the tree of control groups v2 is.
fn groups() -> PathBuf {
    let unified = Path::new("/sys/fs/cgroup/unified");
    if unified.is_dir() { unified.into() } else { "/sys/fs/cgroup".into() }
}

/// Which has no pods: what is measured is what every agent has to know of all others'.
const NODE: &str = "node-0";
