//! A `weft controller` process.

use std::{
    fs::{self, File},
    io::{Read as _, Write as _},
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use weft_tests::weft;

/// It ends with this.
pub(crate) struct Controller {
    process: Child,
    log: PathBuf,
    /// Where agents ask.
    pub(crate) address: SocketAddr,
    metrics: SocketAddr,
}

impl Controller {
    /// Starts one at `ip`, as whom the kubeconfig says, with its log in `folder`.
    pub(crate) fn start(ip: IpAddr, kubeconfig: &Path, folder: &Path, trust_domain: &str) -> Self {
        // Both are held until both are chosen.
        let [address, metrics] =
            [ip, Ipv4Addr::LOCALHOST.into()].map(|ip: IpAddr| TcpListener::bind((ip, 0)).unwrap());
        let [address, metrics] = [address, metrics].map(|socket| socket.local_addr().unwrap());
        let log = folder.join(format!("controller-{}.log", address.port()));
        let file = File::create(&log).unwrap();
        let mut command = Command::new(weft());
        command.args(["controller", "--log", "info,weft_controller=debug", "--kubeconfig"]);
        command.arg(kubeconfig);
        command.args([format!("--listen={address}"), format!("--metrics={metrics}")]);
        command.arg(format!("--trust-domain={trust_domain}"));
        let process = command.stdout(file.try_clone().unwrap()).stderr(file).spawn().unwrap();
        Self { process, log, address, metrics }
    }

    /// Whether a kubelet would send it agents.
    pub(crate) fn is_ready(&mut self) -> bool {
        if let Some(ended) = self.process.try_wait().unwrap() {
            panic!("it has ended: {ended}\n{}", self.log());
        }
        self.get("/readyz").starts_with("HTTP/1.1 200")
    }

    /// The value of a metric, summed over its series that have this text.
    pub(crate) fn metric(&self, name: &str, with: &str) -> u64 {
        let text = self.get("/metrics");
        let lines = text.lines().filter(|line| line.starts_with(name) && line.contains(with));
        lines.filter_map(|line| line.rsplit(' ').next()?.trim().parse::<u64>().ok()).sum()
    }

    pub(crate) fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap()
    }

    /// Stops it where it is, as a machine does that hangs.
    pub(crate) fn freeze(&self) {
        kill(Pid::from_raw(self.process.id().try_into().unwrap()), Signal::SIGSTOP).unwrap();
    }

    /// What it answers over HTTP, whole.
    pub(crate) fn get(&self, path: &str) -> String {
        let Ok(mut socket) = TcpStream::connect(self.metrics) else { return String::new() };
        let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        let mut answer = String::new();
        let said = socket.write_all(request.as_bytes()).and_then(|()| socket.read_to_string(&mut answer));
        said.map(|_| answer).unwrap_or_default()
    }
}

impl Drop for Controller {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.process.kill();
        let _ = self.process.wait();
        if std::thread::panicking() {
            eprintln!("--- log of a controller\n{}---", self.log());
        }
    }
}
