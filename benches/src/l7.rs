//! The http path against no mesh, Envoy and nginx: the same requests over each, in turn.
//!
//! Owns: the paths, the proxies that are compared, the cases and their targets. Must not know: how any of
//! them works.
//!
//! ```text
//!                   CPU of the load     CPU of the proxies      CPU of the load
//! no mesh           wrk ──────────────────────────────────────► nginx
//! weft              wrk ──────────────► weft proxy (+ agent) ─► nginx
//! Envoy             wrk ──────────────► Envoy ────────────────► nginx
//! Envoy twice       wrk ──────────────► Envoy ──► Envoy ──────► nginx
//! nginx             wrk ──────────────► nginx ────────────────► nginx
//! ```
//!
//! Equal work: every proxy has one worker on the same CPU, one route with a match on a header, a timeout and
//! a retry policy, a pool of connections to the server, and no access log. weft's share includes its agent.
//! Client and server share the other CPU on every path, so that a proxy's rate is what its CPU gives.
//! Envoy and nginx stand in the client's pod and are dialled directly: what a sidecar's redirection costs is
//! given to them for nothing.

mod bulk;
mod envoy;
mod fairness;
mod hold;
mod idle;
mod latency;
pub(crate) mod load;
mod manifests;
mod nginx;
pub(crate) mod path;
pub(crate) mod pin;
pub(crate) mod plot;
pub(crate) mod process;
mod requests;
pub(crate) mod stage;
mod table;

use std::cell::OnceCell;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Result;

pub(crate) use idle::resident;
pub use path::Path;
use stage::Stage;
pub use table::Table;

/// How much is measured, and of what.
pub struct Plan {
    /// How often each path has its turn.
    pub rounds: usize,
    /// How long a turn lasts: whole seconds, as wrk counts them.
    pub lasts: Duration,
    /// How often each path carries a large body, each way.
    pub bulk_rounds: usize,
    /// Bytes of that body.
    pub bulk_bytes: u64,
    /// Idle connections.
    pub idle: usize,
    /// What is compared.
    pub paths: Vec<Path>,
    /// The Envoy binary.
    pub envoy: PathBuf,
}

/// Measures every case whose name has `only` in it.
pub fn run(plan: &Plan, only: Option<&str>, table: &mut Table) -> Result<()> {
    let bench = Bench { plan, stage: OnceCell::new() };
    for (name, case) in ALL {
        if only.is_none_or(|word| name.contains(word)) {
            case(&bench, name, table)?;
        }
    }
    Ok(())
}

/// What cases have in common.
struct Bench<'a> {
    plan: &'a Plan,
    stage: OnceCell<Stage>,
}

impl Bench<'_> {
    /// The pods and proxies of all cases that leave nothing behind.
    fn stage(&self) -> Result<&Stage> {
        if self.stage.get().is_none() {
            let opened = Stage::open(self.plan)?;
            assert!(self.stage.set(opened).is_ok(), "it was empty a moment ago");
        }
        Ok(self.stage.get().expect("it has just been set"))
    }
}

type Case = fn(&Bench<'_>, &str, &mut Table) -> Result<()>;

/// Memory first: afterwards the proxies have seen load, and hold what they got for it.
const ALL: [(&str, Case); 10] = [
    ("idle connections", idle::run),
    ("HTTP/1.1 c=1", requests::run),
    ("HTTP/1.1 c=32", requests::run),
    ("HTTP/1.1 c=128", requests::run),
    ("HTTP/2 100 streams", requests::run),
    ("gRPC unary, 32 calls", requests::run),
    ("latency at half load", latency::run),
    ("download", bulk::run),
    ("upload", bulk::run),
    ("fairness", fairness::run),
];
