//! A run directory, a cgroup, pods' namespaces, an agent and clients. All of it is removed with the value.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{Ipv4Addr, TcpStream};
use std::os::fd::BorrowedFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;
use tokio::sync::watch;
use weft_keeper::{Configuration, DRAIN, Inputs, Keeper, LocalPod, Maps, Ports, Program, Records, Settings};
use weft_model::{ObjectName, ServiceAccount};
use weft_runtime::Tasks;
use weft_telemetry::api::{ProxyState, ProxyStatus};
use weft_telemetry::records::RecordBatch;
use weft_transport::Netns;

/// The file that the tests' processes are.
pub(crate) const TRIAL: &str = env!("CARGO_BIN_EXE_weft-keeper-trial");

pub(crate) struct World {
    dir: TempDir,
    pub(crate) cgroup: PathBuf,
}

impl World {
    pub(crate) fn new() -> Self {
        let name = format!("weft-keeper-test-{}-{}", std::process::id(), number());
        let cgroup = cgroup_mount().join(name);
        fs::create_dir(&cgroup).expect("these tests make a cgroup: run them as root");
        Self { dir: tempfile::tempdir().unwrap(), cgroup }
    }

    pub(crate) fn run_dir(&self) -> &Path {
        self.dir.path()
    }

    /// What proxies that start from now on do.
    pub(crate) fn behave(&self, behaviour: &str) {
        fs::write(self.run_dir().join("behaviour"), behaviour).unwrap();
    }

    pub(crate) fn group(&self) -> PathBuf {
        self.cgroup.join("weft-proxy")
    }

    /// The processes in the proxy's cgroup.
    pub(crate) fn processes(&self) -> BTreeSet<u32> {
        let list = fs::read_to_string(self.group().join("cgroup.procs")).unwrap_or_default();
        list.lines().map(|pid| pid.parse().unwrap()).collect()
    }

    /// Whether a proxy has the lock by which agents see that it lives. It is in its cgroup before that.
    pub(crate) fn sees(&self, proxy: u32) -> bool {
        let lock = self.run_dir().join("proxy.lock");
        let open = fs::read_dir(format!("/proc/{proxy}/fd")).into_iter().flatten().flatten();
        open.filter_map(|fd| fs::read_link(fd.path()).ok()).any(|file| file == lock)
    }

    pub(crate) fn settings(&self) -> Settings {
        let arguments = vec!["proxy".into(), "--run-dir".into(), self.run_dir().into()];
        Settings {
            run_dir: self.run_dir().to_owned(),
            cgroup: self.cgroup.clone(),
            program: Program { path: TRIAL.into(), arguments },
            inbound: true,
            drain: DRAIN,
            // As the proxies that `trial` is.
            build: "trial".to_owned(),
        }
    }

    /// An agent in this process, with these pods and a configuration.
    pub(crate) fn agent(&self, pods: &[&TestPod]) -> Agent {
        self.agent_with(pods, Some(configuration(1, "good")))
    }

    /// An agent in this process, with these pods.
    pub(crate) fn agent_with(&self, pods: &[&TestPod], configuration: Option<Configuration>) -> Agent {
        agent_by(self.settings(), pods, configuration, 0)
    }

    /// An agent of another build in this process, with these pods and a configuration.
    pub(crate) fn next_agent(&self, pods: &[&TestPod]) -> Agent {
        let settings = Settings { build: "next".to_owned(), ..self.settings() };
        agent_by(settings, pods, Some(configuration(1, "good")), 0)
    }

    /// An agent in this process whose maps have another layout than those of the one before, which are still in use.
    pub(crate) fn agent_of_another_layout(&self, pods: &[&TestPod]) -> Agent {
        agent_by(self.settings(), pods, Some(configuration(1, "good")), 1)
    }
}

impl Drop for World {
    fn drop(&mut self) {
        let deadline = Instant::now() + Duration::from_secs(10);
        for group in [self.group(), self.cgroup.clone()] {
            while group.exists() && fs::remove_dir(&group).is_err() && Instant::now() < deadline {
                let _ = fs::write(group.join("cgroup.kill"), "1");
                thread::sleep(Duration::from_millis(2));
            }
        }
    }
}

fn agent_by(
    settings: Settings,
    pods: &[&TestPod],
    configuration: Option<Configuration>,
    layouts_before: usize,
) -> Agent {
    let keeper = Keeper::open(settings).unwrap();
    let (wanted, following) = watch::channel(Some(pods.iter().map(|pod| pod.local()).collect()));
    let (configured, configuration) = watch::channel(configuration);
    let (ports, tasks) = (Arc::new(Known::default()), Tasks::new());
    let records = Arc::new(Told::default());
    let null = || File::open("/dev/null").unwrap().into();
    let maps = || Maps { origins: null(), lease: null() };
    let (older, older_maps) = watch::channel((0..layouts_before).map(|_| maps()).collect());
    let inputs = Inputs {
        pods: following,
        configuration,
        identities: watch::channel(None).1,
        maps: maps(),
        older: older_maps,
        ports: Arc::clone(&ports) as Arc<dyn Ports>,
        records: Arc::clone(&records) as Arc<dyn Records>,
    };
    keeper.start(&tasks, inputs);
    Agent { keeper, tasks, wanted, older, configured, ports, records }
}

/// A pod with a named namespace.
pub(crate) struct TestPod {
    name: ObjectName,
    namespace: String,
    pub(crate) cookie: u64,
}

impl TestPod {
    pub(crate) fn new() -> Self {
        let namespace = format!("weft-keeper-{}-{}", std::process::id(), number());
        assert!(ip(&["netns", "add", &namespace]), "these tests make network namespaces: run them as root");
        assert!(ip(&["-n", &namespace, "link", "set", "lo", "up"]));
        let cookie = Netns::open(path_of(&namespace)).unwrap().cookie().unwrap();
        let name = ObjectName::parse(&format!("shop/{namespace}")).unwrap();
        Self { name, namespace, cookie }
    }

    pub(crate) fn path(&self) -> PathBuf {
        path_of(&self.namespace)
    }

    pub(crate) fn local(&self) -> LocalPod {
        LocalPod {
            name: self.name.clone(),
            cookie: self.cookie,
            addresses: vec![Ipv4Addr::LOCALHOST.into()],
            service_account: ServiceAccount::new("shop", "web"),
            path: self.path(),
            netns: self.netns(),
        }
    }

    fn netns(&self) -> Arc<Netns> {
        Arc::new(Netns::open(self.path()).unwrap())
    }

    /// As an agent's argument.
    pub(crate) fn argument(&self) -> String {
        format!("{}={}", self.name, self.path().display())
    }

    /// Removes the namespace's name; it ends when nobody holds it.
    pub(crate) fn remove(&self) {
        assert!(ip(&["netns", "del", &self.namespace]));
    }

    /// One end of a veth pair is inside: the other one, `name`, in this process's namespace ends with it.
    pub(crate) fn tie(&self, name: &str) {
        let inside = ["link", "add", name, "type", "veth", "peer", "name", "eth0", "netns", &self.namespace];
        assert!(ip(&inside));
    }

    pub(crate) fn connect(&self, port: u16) -> std::io::Result<TcpStream> {
        Netns::open(self.path()).unwrap().run(|| connect(port)).unwrap()
    }

    /// Connects and says a line; the answer may come later.
    pub(crate) fn call(&self, port: u16) -> Call {
        Call::over(self.connect(port).expect("it is not refused"))
    }

    /// Connects again and again, until it is dropped or asked.
    pub(crate) fn caller(&self, port: u16) -> Caller {
        let (stop, made) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::new(Made::default())));
        let (stopped, counts) = (Arc::clone(&stop), Arc::clone(&made));
        let netns = Netns::open(self.path()).unwrap();
        let calls = move || {
            while !stopped.load(Ordering::Relaxed) {
                let answer = connect(port).map(|stream| Call::over(stream).answer());
                let mut made = counts.lock().unwrap();
                match answer {
                    Ok(Some(pid)) => *made.by.entry(pid).or_default() += 1,
                    Ok(None) => made.reset += 1,
                    Err(error) => made.refused.push(error.to_string()),
                }
            }
        };
        let thread = thread::spawn(move || netns.run(calls).unwrap());
        Caller { stop, made, thread: Some(thread) }
    }
}

impl Drop for TestPod {
    fn drop(&mut self) {
        if self.path().exists() {
            ip(&["netns", "del", &self.namespace]);
        }
    }
}

/// A connection on which a line was said.
pub(crate) struct Call(BufReader<TcpStream>);

impl Call {
    fn over(mut stream: TcpStream) -> Self {
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        // A proxy that is killed resets it: the answer tells.
        let _ = stream.write_all(b"who?\n");
        Self(BufReader::new(stream))
    }

    /// Says another line.
    pub(crate) fn again(&mut self) -> Option<u32> {
        self.0.get_mut().write_all(b"who?\n").unwrap();
        self.answer()
    }

    /// The process that has answered; `None` where the connection was reset.
    pub(crate) fn answer(&mut self) -> Option<u32> {
        let mut line = String::new();
        self.0.read_line(&mut line).ok()?;
        line.trim().parse().ok()
    }
}

/// What a [`Caller`] has seen.
#[derive(Clone, Debug, Default)]
pub(crate) struct Made {
    /// Answers by process.
    pub(crate) by: BTreeMap<u32, u64>,
    /// Connections that were cut while they were carried.
    pub(crate) reset: u64,
    /// Connections that were not made.
    pub(crate) refused: Vec<String>,
}

pub(crate) struct Caller {
    stop: Arc<AtomicBool>,
    made: Arc<Mutex<Made>>,
    thread: Option<JoinHandle<()>>,
}

impl Caller {
    pub(crate) fn made(&self) -> Made {
        self.made.lock().unwrap().clone()
    }

    /// Until so many more were answered, by anyone.
    pub(crate) fn wait(&self, more: u64) {
        let all = || self.made().by.values().sum::<u64>();
        let goal = all() + more;
        eventually("calls are answered", || all() >= goal);
    }

    pub(crate) fn finish(mut self) -> Made {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.take().unwrap().join().unwrap();
        self.made()
    }
}

impl Drop for Caller {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

/// An agent in this process.
pub(crate) struct Agent {
    pub(crate) keeper: Keeper,
    tasks: Tasks,
    pub(crate) wanted: watch::Sender<Option<Arc<[LocalPod]>>>,
    pub(crate) older: watch::Sender<Arc<[Maps]>>,
    pub(crate) configured: watch::Sender<Option<Configuration>>,
    pub(crate) ports: Arc<Known>,
    pub(crate) records: Arc<Told>,
}

impl Agent {
    pub(crate) fn status(&self) -> ProxyStatus {
        self.keeper.status()
    }

    /// The process that is in force, once one is that decides by this version and serves so many pods.
    pub(crate) fn active(&self, version: u64, pods: usize) -> u32 {
        let mut pid = None;
        eventually("a proxy is in force", || {
            let status = self.status();
            let last = status.generations.last();
            let last = last.filter(|last| last.snapshot_version == Some(version) && last.pods == pods);
            pid = last.filter(|_| status.state == ProxyState::Active).map(|last| last.pid);
            pid.is_some()
        });
        pid.unwrap()
    }

    pub(crate) fn port(&self, pod: &TestPod) -> u16 {
        let port = || self.ports.0.lock().unwrap().get(&pod.cookie).copied();
        eventually("the pod has a port", || port().is_some());
        port().unwrap()
    }

    /// Ends it as SIGTERM does.
    pub(crate) async fn stop(self) {
        assert!(self.tasks.drain(Duration::from_secs(5)).await.is_empty());
    }
}

/// What the data path was told.
#[derive(Default)]
pub(crate) struct Known(pub(crate) Mutex<BTreeMap<u64, u16>>, pub(crate) Mutex<BTreeMap<u64, u16>>);

impl Ports for Known {
    fn outbound(&self, cookie: u64, port: Option<u16>) {
        let mut ports = self.0.lock().unwrap();
        match port {
            Some(port) => ports.insert(cookie, port),
            None => ports.remove(&cookie),
        };
    }

    fn inbound(&self, cookie: u64, listener: Option<(u16, BorrowedFd<'_>)>) {
        let mut ports = self.1.lock().unwrap();
        match listener {
            Some((port, _)) => ports.insert(cookie, port),
            None => ports.remove(&cookie),
        };
    }
}

/// What proxies have told, and which of them have ended.
#[derive(Default)]
pub(crate) struct Told {
    pub(crate) batches: Mutex<Vec<RecordBatch>>,
    pub(crate) ended: Mutex<Vec<u64>>,
}

impl Records for Told {
    fn take(&self, batch: RecordBatch) {
        self.batches.lock().unwrap().push(batch);
    }

    fn ended(&self, generation: u64) {
        self.ended.lock().unwrap().push(generation);
    }
}

/// An agent in a process of its own.
pub(crate) struct AgentProcess {
    run_dir: PathBuf,
    child: Child,
}

impl AgentProcess {
    pub(crate) fn start(world: &World, pods: &[&TestPod]) -> Self {
        let run_dir = world.run_dir().to_owned();
        for name in ["status", "ports"] {
            let _ = fs::remove_file(run_dir.join(name));
        }
        let mut command = Command::new(TRIAL);
        command.arg("agent").arg("--run-dir").arg(&run_dir).arg("--cgroup").arg(&world.cgroup);
        command.args(pods.iter().map(|pod| pod.argument())).stdin(Stdio::null());
        Self { run_dir, child: command.spawn().unwrap() }
    }

    /// By SIGKILL.
    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// The one process that is in force, once one is.
    pub(crate) fn active(&self) -> u32 {
        let mut pid = None;
        eventually("a proxy is in force", || {
            let status = fs::read_to_string(self.run_dir.join("status")).unwrap_or_default();
            pid = status.strip_prefix("Active ").and_then(|pid| pid.parse().ok());
            pid.is_some()
        });
        pid.unwrap()
    }

    pub(crate) fn port(&self, pod: &TestPod) -> u16 {
        let mut port = None;
        eventually("the pod has a port", || {
            let ports = fs::read_to_string(self.run_dir.join("ports")).unwrap_or_default();
            let of_pod = ports.lines().find_map(|line| line.strip_prefix(&format!("{} ", pod.cookie)));
            port = of_pod.map(|port| port.parse().unwrap());
            port.is_some()
        });
        port.unwrap()
    }
}

impl Drop for AgentProcess {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub(crate) fn configuration(version: u64, text: &str) -> Configuration {
    Configuration { version, bytes: Arc::from(text.as_bytes()) }
}

pub(crate) fn kill_process(pid: u32) {
    signal(pid, Signal::SIGKILL);
}

pub(crate) fn signal(pid: u32, signal: Signal) {
    kill(Pid::from_raw(i32::try_from(pid).unwrap()), signal).unwrap();
}

/// Ended, and not only a zombie of somebody who has not asked yet.
pub(crate) fn is_gone(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit(')').next().is_none_or(|rest| rest.trim_start().starts_with('Z') || rest.is_empty())
}

#[track_caller]
pub(crate) fn eventually(what: &str, condition: impl FnMut() -> bool) {
    within(Duration::from_secs(20), what, condition);
}

#[track_caller]
pub(crate) fn within(limit: Duration, what: &str, mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < limit, "not within {limit:?}: {what}");
        thread::sleep(Duration::from_millis(2));
    }
}

pub(crate) fn ip(arguments: &[&str]) -> bool {
    Command::new("ip").args(arguments).output().unwrap().status.success()
}

fn connect(port: u16) -> std::io::Result<TcpStream> {
    TcpStream::connect_timeout(&(Ipv4Addr::LOCALHOST, port).into(), Duration::from_secs(5))
}

fn path_of(namespace: &str) -> PathBuf {
    Path::new("/run/netns").join(namespace)
}

fn cgroup_mount() -> PathBuf {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
    let mut fields = mounts.lines().map(|line| line.split(' ').collect::<Vec<_>>());
    let mount = fields.find(|fields| fields.get(2) == Some(&"cgroup2")).map(|fields| fields[1].into());
    mount.expect("these tests need cgroup v2: mount -t cgroup2 none /sys/fs/cgroup")
}

fn number() -> u32 {
    static LAST: AtomicU32 = AtomicU32::new(0);
    LAST.fetch_add(1, Ordering::Relaxed)
}
