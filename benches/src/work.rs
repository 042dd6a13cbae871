//! What runs inside a pod, as a process of its own: the server, and each kind of client.

mod bulk;
mod change;
mod connect;
mod connections;
mod firsts;
mod http;
mod idle;
mod paced;
mod requests;
mod server;

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use serde::{Deserialize, Serialize};
use weft_tests::{Pod, Running};

pub use server::{ANSWER_AND_CLOSE, ANSWER_AND_KEEP, BLUE, DISCARD, DRAIN, GREEN, QUEUE};

/// A piece of work. As JSON, it is the argument of the process that does it.
#[derive(Serialize, Deserialize)]
pub enum Work {
    /// Serves all ports until it is killed.
    Serve,
    /// Requests one after the other on each of some connections; the answer is requests per second.
    Requests {
        /// The server.
        to: SocketAddr,
        /// How many connections.
        connections: usize,
        /// How long.
        lasts: Duration,
    },
    /// Connections of one request each; the answer is connections per second.
    Connections {
        /// The server.
        to: SocketAddr,
        /// How long.
        lasts: Duration,
    },
    /// One stream of bytes; the answer is bytes per second.
    Bulk {
        /// The server.
        to: SocketAddr,
        /// How long.
        lasts: Duration,
    },
    /// connect(2), each to another of `count` addresses; the answer is the median in microseconds.
    Connect {
        /// Where [`DRAIN`] is.
        server: Ipv4Addr,
        /// The first address.
        first: Ipv4Addr,
        /// How many addresses.
        count: u32,
        /// The port.
        port: u16,
        /// How long.
        lasts: Duration,
    },
    /// Replaces a manifest by two texts in turn, and connects until the change shows; the answers are
    /// milliseconds from rename(2) to the first connection that obeys.
    Change {
        /// The address that blue or green is behind.
        to: SocketAddr,
        /// The manifest.
        file: PathBuf,
        /// Its texts, that for blue first.
        texts: [String; 2],
        /// How many changes.
        count: usize,
    },
    /// Serves HTTP bodies of any length until it is killed.
    ServeBulk {
        /// Where it listens.
        port: u16,
    },
    /// One HTTP body; the answer is bytes per second.
    Transfer {
        /// The server or proxy.
        to: SocketAddr,
        /// How long the body is.
        bytes: u64,
        /// Whether it goes to the server.
        upload: bool,
    },
    /// HTTP bodies from the server on so many connections at once; the answer is bytes per second of all.
    Downloads {
        /// The server.
        to: SocketAddr,
        /// How long all bodies are together.
        bytes: u64,
        /// How many.
        streams: u64,
    },
    /// Says a letter to whoever connects to one of many ports, until it is killed.
    ServeMany {
        /// The first port.
        first: u16,
        /// How many.
        count: u16,
    },
    /// One connection to each of some ports; the answer is connections per second.
    Firsts {
        /// The server.
        to: Ipv4Addr,
        /// The first port.
        first: u16,
        /// How many.
        count: u16,
    },
    /// Other work on whatever CPU there is.
    Spread(Box<Work>),
    /// HTTP requests at a rate; the answers are p50 and p99 in microseconds.
    Paced {
        /// The server or proxy.
        to: SocketAddr,
        /// How many connections.
        connections: usize,
        /// Requests per second.
        rate: f64,
        /// How long.
        lasts: Duration,
    },
    /// Connections that are kept after one request; the answers are the resident bytes of a process at each step.
    Idle {
        /// The server or proxy.
        to: SocketAddr,
        /// How many connections there are at each step.
        steps: Vec<usize>,
        /// The process.
        process: u32,
    },
}

impl Work {
    /// Does it, in this process, and prints the answers.
    pub fn run(self) -> Result<()> {
        let work = match self {
            Self::Spread(work) => *work,
            pinned => {
                pin()?;
                pinned
            }
        };
        let answers = match work {
            Self::Serve => return Ok(server::serve()?),
            Self::Requests { to, connections, lasts } => vec![requests::measure(to, connections, lasts)?],
            Self::Connections { to, lasts } => vec![connections::measure(to, lasts)?],
            Self::Bulk { to, lasts } => vec![bulk::measure(to, lasts)?],
            Self::Connect { server, first, count, port, lasts } => {
                vec![connect::measure(server, (first, count, port), lasts)?]
            }
            Self::Change { to, file, texts, count } => change::measure(to, &file, &texts, count)?,
            Self::ServeBulk { port } => return Ok(http::serve(port)?),
            Self::Transfer { to, bytes, upload } => vec![http::transfer(to, bytes, upload)?],
            Self::Downloads { to, bytes, streams } => vec![http::downloads(to, bytes, streams)?],
            Self::ServeMany { first, count } => return Ok(firsts::serve(first, count)?),
            Self::Firsts { to, first, count } => vec![firsts::measure(to, first, count)?],
            Self::Spread(_) => bail!("work that is spread twice"),
            Self::Paced { to, connections, rate, lasts } => paced::measure(to, connections, rate, lasts)?,
            Self::Idle { to, steps, process } => idle::measure(to, &steps, process)?,
        };
        Ok(serde_json::to_writer(io::stdout(), &answers)?)
    }

    /// Has it done inside `pod`, to its end.
    pub fn run_in(&self, pod: &Pod) -> Result<Vec<f64>> {
        let command = self.command()?;
        let output = pod.exec(&command.each_ref().map(String::as_str));
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "{}: {}", said.trim(), command[2]);
        serde_json::from_slice(&output.stdout).with_context(|| format!("read the answer of {}", command[2]))
    }

    /// Starts it inside `pod`.
    pub fn start_in(&self, pod: &Pod) -> Result<Running> {
        Ok(pod.spawn(&self.command()?.each_ref().map(String::as_str)))
    }

    fn command(&self) -> Result<[String; 3]> {
        let this = std::env::current_exe().context("find this program")?;
        Ok([this.display().to_string(), "work".into(), serde_json::to_string(self)?])
    }
}

/// Clients and servers share the last CPU, which leaves the others to the agent.
///
/// So every instruction of the path shows in the rate, and no other CPU is woken: between virtual CPUs that
/// takes longer than all the rest, and whether it happens hangs on which side is a little faster.
fn pin() -> io::Result<()> {
    let allowed = sched_getaffinity(None)?;
    let Some(cpu) = (0..CpuSet::MAX_CPU).rfind(|cpu| allowed.is_set(*cpu)) else { return Ok(()) };
    let mut one = CpuSet::new();
    one.set(cpu);
    Ok(sched_setaffinity(None, &one)?)
}

/// Events per second.
#[expect(clippy::cast_precision_loss, reason = "2^53 events take years")]
fn rate(events: u64, time: Duration) -> f64 {
    events as f64 / time.as_secs_f64()
}

/// The size of a small HTTP request.
const REQUEST: [u8; 96] = [b'q'; 96];
/// The size of a small HTTP answer.
const ANSWER: [u8; 128] = [b'a'; 128];
/// Time at the start of a measurement that does not count: connections open, caches fill.
const WARM_UP: Duration = Duration::from_millis(50);
