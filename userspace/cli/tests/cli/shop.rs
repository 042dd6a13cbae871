//! A shop: an agent with a configuration, flows and connections, but without a kernel, behind its real
//! socket; and a person who types commands.

mod data;

use std::{
    io::{self, Write},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use clap::{Parser, Subcommand};
use futures_util::future::BoxFuture;
use tempfile::{TempDir, tempdir};
use weft_cli::{
    Error, Exit, Screen, Verb,
    proxy::{UpgradeArgs, upgrade},
};
use weft_model::Snapshot;
use weft_runtime::{Stop, Tasks};
use weft_telemetry::{
    admin::{Agent, bind, serve_api},
    api::{
        Attached, Attachment, AuthzAnswer, AuthzQuery, BpfTable, CertificateFailure, CertificatesView,
        ConnectionView, ExplainQuery, Explanation, Failure, ProxyState, ProxyUpgraded, Sandboxes, Status,
        Table,
    },
    flows::FlowLog,
    metrics::Metrics,
    observer::Observer,
    views,
};

/// The agent and its run directory.
pub(crate) struct Shop {
    dir: TempDir,
    /// What it tells.
    pub(crate) agent: Arc<Fake>,
    stop: Stop,
    tasks: Tasks,
}

/// An agent without a kernel.
pub(crate) struct Fake {
    /// Its node.
    node: String,
    snapshot: Arc<Snapshot>,
    flows: FlowLog,
    metrics: Metrics,
    observer: Observer,
    /// The version that its kernel would enforce.
    pub(crate) enforced: AtomicU64,
    /// Whether its proxy would be gone.
    pub(crate) proxy_fails: AtomicBool,
    /// Why its issuer would not issue.
    pub(crate) unissued: Mutex<Option<CertificateFailure>>,
    /// Why it would not enforce more.
    pub(crate) failure: Mutex<Option<Failure>>,
}

/// What a command wrote and how it ended.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) out: String,
    pub(crate) err: String,
    pub(crate) exit: Result<Exit, Error>,
}

#[derive(Parser)]
struct Line {
    #[command(subcommand)]
    command: Command,
}

/// As the binary has them; there, `proxy` is a process too.
#[derive(Subcommand)]
enum Command {
    #[command(flatten)]
    Verb(Verb),
    #[command(subcommand)]
    Proxy(ProxyVerb),
}

#[derive(Subcommand)]
enum ProxyVerb {
    Upgrade(UpgradeArgs),
}

impl Command {
    async fn run(self, screen: &mut Screen) -> Result<Exit, Error> {
        match self {
            Self::Verb(verb) => verb.run(screen).await,
            Self::Proxy(ProxyVerb::Upgrade(args)) => upgrade(args, screen).await,
        }
    }
}

impl Shop {
    /// An agent that is not up yet.
    pub(crate) fn closed() -> Self {
        Self::closed_of("n1")
    }

    /// As [`Shop::closed`], of this node.
    pub(crate) fn closed_of(node: &str) -> Self {
        let agent = Arc::new(Fake {
            node: node.to_owned(),
            snapshot: Arc::new(data::snapshot()),
            flows: FlowLog::new(),
            metrics: Metrics::new("0.1.0"),
            observer: Observer::new().0,
            enforced: AtomicU64::new(12),
            proxy_fails: AtomicBool::new(false),
            unissued: Mutex::default(),
            failure: Mutex::default(),
        });
        for flow in data::flows() {
            agent.flows.push(flow);
        }
        Self { dir: tempdir().unwrap(), agent, stop: Stop::new(), tasks: Tasks::new() }
    }

    /// An agent that answers.
    pub(crate) fn open() -> Self {
        let shop = Self::closed();
        shop.start();
        shop
    }

    /// As [`Shop::open`], of this node.
    pub(crate) fn of(node: &str) -> Self {
        let shop = Self::closed_of(node);
        shop.start();
        shop
    }

    /// Brings the agent up.
    pub(crate) fn start(&self) {
        let listener = bind(self.dir.path()).unwrap();
        self.tasks.spawn("api", serve_api(Arc::clone(&self.agent) as _, listener, self.stop.clone()));
    }

    /// Ends the agent.
    pub(crate) fn stop(&self) {
        self.stop.cancel();
    }

    /// As [`Shop::open`], after some requests.
    pub(crate) fn busy() -> Self {
        let shop = Self::open();
        shop.request();
        shop
    }

    /// The proxy tells of some requests.
    pub(crate) fn request(&self) {
        let Fake { observer, snapshot, flows, metrics, .. } = &*self.agent;
        observer.take(&data::requests(), snapshot, flows, metrics);
    }

    /// Adds a flow.
    pub(crate) fn push(&self, flow: weft_telemetry::api::Flow) {
        self.agent.flows.push(flow);
    }

    /// What `weft <line>` answers into a pipe.
    pub(crate) async fn ask(&self, line: &str) -> Answer {
        self.ask_on(line, None, false).await
    }

    /// What `weft <line>` answers on a screen of this width.
    pub(crate) async fn ask_on(&self, line: &str, width: Option<u16>, colour: bool) -> Answer {
        ask_all_on(&[self], line, width, colour).await
    }

    /// The run directory as text.
    pub(crate) fn run_dir(&self) -> String {
        self.dir.path().display().to_string()
    }
}

/// What `weft <line>` answers into a pipe, where all of these are asked.
pub(crate) async fn ask_all(shops: &[&Shop], line: &str) -> Answer {
    ask_all_on(shops, line, None, false).await
}

/// What `weft <line>` answers into a pipe, where whoever is in these run directories is asked.
pub(crate) async fn ask_at(run_dirs: &[String], line: &str) -> Answer {
    ask_at_on(run_dirs, line, None, false).await
}

async fn ask_all_on(shops: &[&Shop], line: &str, width: Option<u16>, colour: bool) -> Answer {
    let run_dirs: Vec<_> = shops.iter().map(|shop| shop.run_dir()).collect();
    ask_at_on(&run_dirs, line, width, colour).await
}

async fn ask_at_on(run_dirs: &[String], line: &str, width: Option<u16>, colour: bool) -> Answer {
    let (out, err) = (Paper::default(), Paper::default());
    let mut screen = Screen::new(out.clone(), err.clone(), width, colour);
    let needs_agent = !line.starts_with("analyze");
    let run_dirs =
        run_dirs.iter().filter(|_| needs_agent).flat_map(|dir| ["--run-dir".to_owned(), dir.clone()]);
    // A space inside a word is written `_` behind its colon, as in the header `a:_b`.
    let words = ["weft"].into_iter().chain(line.split(' ')).map(|word| word.replace(":_", ": "));
    let exit = Line::try_parse_from(words.chain(run_dirs)).unwrap().command.run(&mut screen).await;
    Answer { out: out.text(), err: err.text(), exit }
}

/// Why `weft <line>` is wrong usage.
pub(crate) fn usage_error(line: &str) -> String {
    let words = ["weft"].into_iter().chain(line.split(' '));
    Line::try_parse_from(words).err().expect("wrong usage").to_string()
}

impl Agent for Fake {
    fn status(&self) -> Status {
        let failure = self.failure.lock().unwrap().clone();
        let mut status = Status { node: self.node.clone(), ..data::status() };
        if let Some(proxy) = status.proxy.as_mut().filter(|_| self.proxy_fails.load(Ordering::Relaxed)) {
            proxy.state = ProxyState::Failing;
            proxy.without_since = proxy.generations.pop().map(|last| last.since);
            proxy.restarts = 3;
            proxy.records_lost = 7;
            proxy.failure = Some(Failure::new("the proxy with pid 4101 ended with exit status: 1", ""));
        }
        status.certificates = self.certificates();
        Status { enforced_version: self.enforced.load(Ordering::Relaxed), failure, ..status }
    }

    fn ready(&self) -> Result<(), Failure> {
        Ok(())
    }

    fn sync(&self) -> BoxFuture<'_, Result<u64, Failure>> {
        Box::pin(async { Ok(self.snapshot.version) })
    }

    fn upgrade_proxy(&self) -> BoxFuture<'_, Result<ProxyUpgraded, Failure>> {
        let (pid, draining) = (4122, vec![4101]);
        let upgraded = ProxyUpgraded { pid, build: "0.2.0".into(), draining, drain_seconds: 300 };
        let failure = self.failure.lock().unwrap().clone();
        Box::pin(async { failure.map_or(Ok(upgraded), Err) })
    }

    fn attach(&self, _: Attachment) -> BoxFuture<'_, Result<Attached, Failure>> {
        Box::pin(async { Ok(Attached::Unknown) })
    }

    fn attached(&self, _: Attachment) -> BoxFuture<'_, Result<Attached, Failure>> {
        Box::pin(async { Ok(Attached::Unknown) })
    }

    fn detach(&self, _: Sandboxes) -> BoxFuture<'_, Result<(), Failure>> {
        Box::pin(async { Ok(()) })
    }

    fn keep_attached(&self, _: Sandboxes) -> BoxFuture<'_, Result<(), Failure>> {
        Box::pin(async { Ok(()) })
    }

    fn snapshot(&self) -> Arc<Snapshot> {
        Arc::clone(&self.snapshot)
    }

    fn connections(&self) -> Result<Vec<ConnectionView>, Failure> {
        // On another node there is another one.
        let mut list = data::connections();
        if self.node != "n1" {
            for connection in &mut list {
                connection.source.port += 1;
            }
            list.truncate(1);
        }
        Ok(list)
    }

    fn certificates(&self) -> Option<CertificatesView> {
        let failure = self.unissued.lock().unwrap().clone();
        Some(CertificatesView { failure, ..data::certificates() })
    }

    fn bpf(&self, table: BpfTable) -> Result<Table, Failure> {
        match table {
            BpfTable::Services => Ok(data::bpf_services()),
            other => {
                Err(Failure::new(format!("cannot read {other}: permission denied"), "run the agent as root"))
            }
        }
    }

    fn authz(&self, query: &AuthzQuery) -> Result<AuthzAnswer, Failure> {
        views::authz(&self.snapshot, query, &|_, _, _| Ok(None))
    }

    fn explain(&self, query: &ExplainQuery) -> Result<Explanation, Failure> {
        data::explain(query)
    }

    fn flows(&self) -> &FlowLog {
        &self.flows
    }

    fn observer(&self) -> &Observer {
        &self.observer
    }

    fn metrics(&self) -> &Metrics {
        &self.metrics
    }
}

pub(crate) use data::flow;

/// Keeps what is written.
#[derive(Clone, Default)]
struct Paper(Arc<Mutex<Vec<u8>>>);

impl Paper {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

impl Write for Paper {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
