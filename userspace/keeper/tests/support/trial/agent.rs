//! An agent that is a keeper and nothing else. It writes ports and status to files of its run directory.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::fd::BorrowedFd;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use weft_keeper::{
    Configuration, Identities, Inputs, Keeper, LocalPod, Maps, Ports, Program, Records, Settings,
};
use weft_model::{ObjectName, ServiceAccount};
use weft_runtime::Tasks;
use weft_telemetry::records::RecordBatch;
use weft_transport::Netns;
use weft_transport::memfd::Sealed;

use crate::Done;

/// Runs until it is killed. A pod whose namespace is not there is none.
pub(crate) fn run(run_dir: &Path, cgroup: &Path, pods: &[&str]) -> Done {
    let pods: Vec<LocalPod> = pods.iter().filter_map(|pod| local(pod)).collect();
    let path = std::env::current_exe()?;
    let arguments = vec!["proxy".into(), "--run-dir".into(), run_dir.into()];
    let program = Program { path, arguments };
    let build = "trial".to_owned();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(async {
        let keeper = Keeper::open(Settings {
            run_dir: run_dir.into(),
            cgroup: cgroup.into(),
            program,
            inbound: false,
            drain: weft_keeper::DRAIN,
            build,
        })?;
        let (_wanted, pods) = watch::channel(Some(pods.into()));
        let configuration = Configuration { version: 1, bytes: Arc::from(*b"good") };
        let (_configured, configuration) = watch::channel(Some(configuration));
        let maps = Maps { origins: File::open("/dev/null")?.into(), lease: File::open("/dev/null")?.into() };
        let ports = Arc::new(Files { path: run_dir.join("ports"), ports: Mutex::default() });
        let keys = Identities { version: 1, bytes: Arc::new(Sealed::of(b"keys")?), complete: true };
        let (_shown, identities) = watch::channel(Some(keys));
        let records = Arc::new(Unread);
        let older = watch::channel(Arc::from([])).1;
        keeper.start(&Tasks::new(), Inputs { pods, configuration, identities, maps, older, ports, records });
        loop {
            let status = keeper.status();
            let proxies: Vec<_> = status.generations.iter().map(|one| one.pid.to_string()).collect();
            write(&run_dir.join("status"), &format!("{} {}", status.state, proxies.join(",")))?;
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
}

fn local(pod: &str) -> Option<LocalPod> {
    let (name, path) = pod.split_once('=')?;
    let netns = Netns::open(path).ok()?;
    let cookie = netns.cookie().ok()?;
    let addresses = vec![std::net::Ipv4Addr::LOCALHOST.into()];
    let (name, path, netns) = (ObjectName::parse(name)?, path.into(), Arc::new(netns));
    let service_account = ServiceAccount::new("shop", "web");
    Some(LocalPod { name, cookie, addresses, service_account, path, netns })
}

struct Files {
    path: PathBuf,
    ports: Mutex<BTreeMap<u64, u16>>,
}

impl Ports for Files {
    fn outbound(&self, cookie: u64, port: Option<u16>) {
        let mut ports = self.ports.lock().unwrap_or_else(PoisonError::into_inner);
        match port {
            Some(port) => ports.insert(cookie, port),
            None => ports.remove(&cookie),
        };
        let lines: Vec<_> = ports.iter().map(|(cookie, port)| format!("{cookie} {port}")).collect();
        write(&self.path, &lines.join("\n")).expect("the run directory is the test's");
    }

    fn inbound(&self, _: u64, _: Option<(u16, BorrowedFd<'_>)>) {
        // It has none made.
    }
}

/// What its proxies tell is nobody's here.
struct Unread;

impl Records for Unread {
    fn take(&self, _: RecordBatch) {}

    fn ended(&self, _: u64) {}
}

/// Whole, for whoever reads at the same time.
fn write(path: &Path, text: &str) -> std::io::Result<()> {
    let fresh = path.with_extension("new");
    fs::write(&fresh, text)?;
    fs::rename(&fresh, path)
}
