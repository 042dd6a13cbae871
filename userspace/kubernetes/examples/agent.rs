//! A real agent before a cluster of some size: how long until the kernel enforces it, what that takes of memory, how long a
//! change of one endpoint is under way to the kernel, and what the API server has of an agent that is at rest.
//!
//! ```text
//! cargo xtask bench cluster [-- --services N --endpoints N --pods N --json FILE]
//! ```
//! The API server and its etcd are real, the agent is the release build, as root; there are neither kubelets nor
//! controllers, so nothing changes but what is changed here.
#![expect(clippy::print_stdout, reason = "printing figures is what this is for")]
#![expect(clippy::unwrap_used, reason = "a failed step ends it")]

#[path = "agent/agent.rs"]
mod agent;
#[path = "../tests/cluster/api_server.rs"]
#[expect(dead_code, reason = "the tests ask more of it")]
mod api_server;
#[path = "agent/figures.rs"]
mod figures;
#[path = "agent/fill.rs"]
mod fill;

use std::{
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
    time::{Duration, Instant},
};

use clap::Parser;
use tokio::time::sleep;

use agent::Agent;
use api_server::ApiServer;
use figures::Figures;
use fill::Size;

#[derive(Parser)]
struct Args {
    #[command(flatten)]
    size: Size,
    /// Also writes the figures to FILE
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// What an agent has to keep to with 10 000 Services, 100 000 endpoints and 5 000 pods.
struct Limits;

impl Limits {
    const IN_SYNC: Duration = Duration::from_secs(15);
    const RESIDENT_MB: f64 = 250.0;
    const CHANGE_P99: Duration = Duration::from_millis(500);
    const REQUESTS_A_MINUTE: f64 = 10.0;
}

#[tokio::main]
async fn main() -> ExitCode {
    let Args { size, json } = Args::parse();
    let folder = tempfile::tempdir().unwrap();
    let audit = folder.path().join("audit.log");
    fs::write(folder.path().join("policy.json"), AUDITED).unwrap();
    let policy = format!("--audit-policy-file={}", folder.path().join("policy.json").display());
    let server = ApiServer::start(&[&policy, &format!("--audit-log-path={}", audit.display())]).await;
    let began = Instant::now();
    fill::fill(&server, &size).await;
    println!("{size}, made in {:.0} s", began.elapsed().as_secs_f64());

    let agent = Agent::start(&server.kubeconfig("agent"), folder.path());
    let in_sync = agent.in_sync().await;
    let mut figures = Figures::of(&size);
    figures.limited("in sync", in_sync.as_secs_f64(), "s", Limits::IN_SYNC.as_secs_f64());
    figures.told("backends in the kernel", f64::from(agent.backends().await), "");
    let mut times = changes(&server, &agent).await;
    times.sort();
    let at = |share: usize| times[(times.len() - 1) * share / 100].as_secs_f64() * 1e3;
    figures.limited("one endpoint's change, p50", at(50), "ms", Limits::CHANGE_P99.as_secs_f64() * 1e3);
    figures.limited("one endpoint's change, p99", at(99), "ms", Limits::CHANGE_P99.as_secs_f64() * 1e3);
    // What is new is written to the disk by then.
    sleep(Duration::from_secs(15)).await;
    let before = requests(&audit);
    let began = Instant::now();
    sleep(REST).await;
    let rate = f64::from(requests(&audit) - before) / began.elapsed().as_secs_f64() * 60.0;
    figures.limited("resident memory", agent.resident_mb("VmRSS"), "MB", Limits::RESIDENT_MB);
    figures.told("at most, ever", agent.resident_mb("VmHWM"), "MB");
    figures.limited("requests to the API server", rate, "a minute", Limits::REQUESTS_A_MINUTE);
    if let Some(file) = json {
        figures.save(&file);
    }
    if figures.are_good() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// From the API server's answer to what the agent says of the kernel.
async fn changes(server: &ApiServer, agent: &Agent) -> Vec<Duration> {
    let change = fill::Change::of(server).await;
    let mut times = Vec::new();
    let mut last = String::new();
    for round in 1..=CHANGES {
        let enforced = agent.enforced().await;
        last = change.make(round).await;
        let began = Instant::now();
        while agent.enforced().await == enforced {
            assert!(began.elapsed() < Duration::from_mins(1), "the change is not seen");
            sleep(Duration::from_millis(2)).await;
        }
        times.push(began.elapsed());
        sleep(Duration::from_millis(100)).await;
    }
    // The last one is in the kernel, so what the agent says is true.
    assert!(agent.has_backend(&last).await, "the kernel has no backend {last}");
    times
}

/// How often the agent has asked so far; a watch is asked for once.
fn requests(audit: &Path) -> u32 {
    let text = fs::read_to_string(audit).unwrap();
    let of_the_agent = text.lines().filter(|line| line.contains(r#""username":"agent""#));
    of_the_agent.count().try_into().unwrap()
}

/// Waits for a condition.
async fn until(what: &str, holds: impl AsyncFnMut() -> bool) {
    let mut holds = holds;
    let began = Instant::now();
    while !holds().await {
        assert!(began.elapsed() < api_server::PATIENCE, "never seen: {what}");
        sleep(Duration::from_millis(50)).await;
    }
}

const CHANGES: u32 = 100;
const REST: Duration = Duration::from_mins(2);
const AUDITED: &str = r#"{"apiVersion": "audit.k8s.io/v1", "kind": "Policy", "omitStages": ["RequestReceived", "ResponseComplete"],
 "rules": [{"level": "Metadata", "users": ["agent"]}, {"level": "None"}]}
"#;
